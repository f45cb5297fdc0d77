"""Turn pictures into an image model's input tensor, by a spec that is data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ferryman.core.errors import ConfigError, InputError, MissingExtra
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.tasks.picture import Picture
from ferryman.tasks.pixels import ENGINES, PACKAGES, VARIABLE, picture_engine

Side = Annotated[int, Field(gt=0, le=16384)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PerChannel = Annotated[tuple[Finite, ...], Field(min_length=1, max_length=3)]
PixelType = Literal["float32", "float16", "float64", "uint8", "int8"]

_MOST_RESIZED_PIXELS = 100_000_000


class ImageInput(BaseModel):
    """Say how a picture becomes the model's input: value = (pixel * scale - mean) / std, pixel in 0..255.

    `mean` and `std` are in the order of `channels` and in units of pixel * scale, so ImageNet's usual
    mean = [0.485, 0.456, 0.406] goes with scale = 0.00392156862745098 (1 / 255). Integer tensors are rounded and
    clipped to their range. Padding is put in before this formula.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: tuple[Side, Side] | None = Field(
        None, description="Height and width of the model's input in pixels; the model's own by default."
    )
    fit: Literal["letterbox", "stretch", "crop"] = Field(
        "letterbox", description="letterbox keeps the aspect and pads, stretch doesn't keep it, crop cuts off."
    )
    anchor: Literal["center", "top-left"] = Field("center", description="Where letterbox or crop puts the picture.")
    pad: Annotated[int, Field(ge=0, le=255)] = Field(114, description="Pixel value around a letterboxed picture.")
    channels: Literal["RGB", "BGR", "GRAY"] = Field("RGB", description="Order of the colour channels.")
    layout: Literal["NCHW", "NHWC"] = Field("NCHW", description="Order of batch, channel, height and width.")
    scale: Deviation = Field(1.0, description="Factor on pixels of 0..255, before mean and std.")
    mean: PerChannel = Field((0.0,), description="Subtracted after scale; one value, or one a channel.")
    std: Annotated[tuple[Deviation, ...], Field(min_length=1, max_length=3)] = Field(
        (1.0,), description="Divisor after mean; one value, or one a channel."
    )
    dtype: PixelType | None = Field(None, description="The tensor's dtype; the model's own by default.")
    resize: Literal["bilinear", "area", "bicubic", "lanczos", "nearest"] = Field(
        "bilinear", description="How pixels are interpolated (OpenCV's; not antialiased except area)."
    )
    resize_short: Side | None = Field(
        None, description="With fit = crop: length that the short side gets before cutting; the input's by default."
    )

    @model_validator(mode="after")
    def _check_channels(self) -> "ImageInput":
        count = 1 if self.channels == "GRAY" else 3
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, count):
                raise ValueError(f"{name} has {len(values)} values, but channels = {self.channels} has {count}")
        if self.resize_short is not None and self.fit != "crop":
            raise ValueError(f"resize_short needs fit = 'crop', but fit = '{self.fit}'")
        return self


@dataclass(frozen=True, slots=True)
class Placement:
    """Say where a picture lies in the input: input pixel = picture pixel * scale + offset; sizes in pixels."""

    scale_x: float
    scale_y: float
    left: float
    top: float
    width: int
    height: int

    def to_picture(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map xyxy boxes [N, 4] from input pixels to the picture's, clipped to it."""
        moved = (boxes - (self.left, self.top, self.left, self.top)) / (
            self.scale_x,
            self.scale_y,
            self.scale_x,
            self.scale_y,
        )
        return np.clip(moved, 0.0, (self.width, self.height, self.width, self.height))


@dataclass(frozen=True, slots=True)
class ImagePort:
    """Hold an image spec bound to one model's input: every choice made."""

    spec: ImageInput
    name: str
    dtype: str
    height: int
    width: int

    def write(self, pictures: Sequence[Picture]) -> tuple[Array, tuple[Placement, ...]]:
        """Give the input tensor of a batch, and where in it each picture lies."""
        channel_count = 1 if self.spec.channels == "GRAY" else 3
        is_planar = self.spec.layout == "NCHW"
        shape = (channel_count, self.height, self.width) if is_planar else (self.height, self.width, channel_count)
        values = np.empty((len(pictures), *shape), np.uint8 if self.keeps_pixels else np.float32)
        placements = []
        for index, picture in enumerate(pictures):
            canvas, placement = self._place(picture)
            placements.append(placement)
            pixels = _with_channels(canvas, self.spec.channels)
            values[index] = pixels.transpose(2, 0, 1) if is_planar else pixels
        if not self.keeps_pixels:
            self._normalize(values)
        return _as_dtype(values, self.dtype), tuple(placements)

    @property
    def keeps_pixels(self) -> bool:
        """Tell whether the tensor holds the pixels themselves, as bytes."""
        spec = self.spec
        return self.dtype == "uint8" and spec.scale == 1 and set(spec.mean) == {0.0} and set(spec.std) == {1.0}

    @property
    def gain_and_shift(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Give the factor on pixels and what is added then; each one value, or one a channel."""
        mean, std = np.asarray(self.spec.mean), np.asarray(self.spec.std)
        return np.asarray(self.spec.scale / std, np.float32), np.asarray(-mean / std, np.float32)

    def _normalize(self, values: Array) -> None:
        trailing = (1, 1) if self.spec.layout == "NCHW" else ()
        gain, shift = (part.reshape(-1, *trailing) for part in self.gain_and_shift)
        floats = cast(NDArray[np.float32], values)
        if np.any(gain != 1):
            floats *= gain
        if np.any(shift != 0):
            floats += shift

    def _place(self, picture: Picture) -> tuple[Picture, Placement]:
        height, width = picture.shape[:2]
        if self.spec.fit == "stretch":
            stretched = _resized(picture, self.height, self.width, self.spec.resize)
            return stretched, Placement(self.width / width, self.height / height, 0.0, 0.0, width, height)
        if self.spec.fit == "crop":
            return self._crop(picture)
        ratio = min(self.height / height, self.width / width)
        inner_height = min(max(round(height * ratio), 1), self.height)
        inner_width = min(max(round(width * ratio), 1), self.width)
        inner = _resized(picture, inner_height, inner_width, self.spec.resize)
        is_centred = self.spec.anchor == "center"
        top = (self.height - inner_height) // 2 if is_centred else 0
        left = (self.width - inner_width) // 2 if is_centred else 0
        canvas = np.full((self.height, self.width, 3), self.spec.pad, np.uint8)
        canvas[top : top + inner_height, left : left + inner_width] = inner
        return canvas, Placement(inner_width / width, inner_height / height, left, top, width, height)

    def _crop(self, picture: Picture) -> tuple[Picture, Placement]:
        height, width = picture.shape[:2]
        if self.spec.resize_short is None:
            ratio = max(self.height / height, self.width / width)
        else:
            ratio = self.spec.resize_short / min(height, width)
        # A short side below the input's would leave a gap; the picture is enlarged to cover it.
        inner_height = max(round(height * ratio), self.height)
        inner_width = max(round(width * ratio), self.width)
        is_centred = self.spec.anchor == "center"
        if inner_height * inner_width > _MOST_RESIZED_PIXELS:
            raise InputError(
                f"a picture of {width} x {height} would be enlarged to {inner_width} x {inner_height} before cutting",
                hint="cut it to about the model's aspect first, or use fit = 'letterbox'",
            )
        top = (inner_height - self.height) // 2 if is_centred else 0
        left = (inner_width - self.width) // 2 if is_centred else 0
        inner = _resized(picture, inner_height, inner_width, self.spec.resize)
        cut = inner[top : top + self.height, left : left + self.width]
        return cut, Placement(inner_width / width, inner_height / height, -left, -top, width, height)


def bind_image(spec: ImageInput, signature: Signature) -> ImagePort:
    """Fit an image spec to the model's one picture input; raises ConfigError that says what doesn't fit."""
    if len(signature.inputs) != 1 or len(signature.inputs[0].shape) != 4:
        shapes = ", ".join(f"'{port.name}' {list(port.shape)}" for port in signature.inputs)
        raise ConfigError(
            f"[task] needs a model with one picture input of 4 dimensions; this one takes {shapes or 'nothing'}",
            hint="use kind = 'tensor' for other models",
        )
    _check_resize(spec.resize)
    port = signature.inputs[0]
    height, width = _bound_size(spec, port)
    dtype = spec.dtype or port.dtype
    if dtype != port.dtype:
        raise ConfigError(
            f"[task] input.dtype is {dtype}, but the model's input '{port.name}' is {port.dtype}",
            hint="leave input.dtype out to take the model's own",
        )
    if dtype not in PixelType.__args__:  # type: ignore[attr-defined]  # a typing construct
        raise ConfigError(f"the model's input '{port.name}' is {dtype}, which pictures can't be turned into")
    return ImagePort(spec, port.name, dtype, height, width)


def _bound_size(spec: ImageInput, port: TensorSpec) -> tuple[int, int]:
    places = (1, 2, 3) if spec.layout == "NCHW" else (3, 1, 2)
    channels, height, width = (port.shape[place] for place in places)
    wanted = 1 if spec.channels == "GRAY" else 3
    if isinstance(channels, int) and channels != wanted:
        other = "NHWC" if spec.layout == "NCHW" else "NCHW"
        raise ConfigError(
            f"[task] input.channels = {spec.channels} in layout {spec.layout} needs {wanted} channels, but the "
            f"model's input '{port.name}' is {list(port.shape)}",
            hint=f"is its layout {other}, or does it take {'RGB or BGR' if wanted == 1 else 'GRAY'} pictures?",
        )
    if spec.size is None:
        if isinstance(height, str) or isinstance(width, str):
            raise ConfigError(
                f"the model's input '{port.name}' is {list(port.shape)}: its size varies",
                hint="say which to use: [task] input = { size = [HEIGHT, WIDTH] }",
            )
        return height, width
    fits = all(isinstance(own, str) or own == want for own, want in zip((height, width), spec.size, strict=True))
    if not fits:
        raise ConfigError(
            f"[task] input.size is {list(spec.size)}, but the model's input '{port.name}' is {list(port.shape)}",
            hint=f"use size = [{height}, {width}] (height, width)",
        )
    return spec.size


def needs_opencv(spec: object) -> bool:
    """Tell whether a `[task]` section asks for what only OpenCV does here; numpy and Pillow do the rest as it does."""
    image = getattr(spec, "input", None)
    return isinstance(image, ImageInput) and image.resize not in ENGINES["pillow"].RESIZES


def _check_resize(how: str) -> None:
    engine = picture_engine()
    if how not in engine.RESIZES:
        raise MissingExtra(
            f"[task] input.resize = '{how}' needs OpenCV, which is not used here",
            hint=f"pip install {PACKAGES['opencv']}, and leave {VARIABLE} unset; "
            f"without it there are {' and '.join(sorted(engine.RESIZES))}",
        )


def _resized(picture: Picture, height: int, width: int, how: str) -> Picture:
    if picture.shape[:2] == (height, width):
        return picture
    return picture_engine().resize(picture, height, width, how)


def _with_channels(canvas: Picture, channels: str) -> Picture:
    if channels == "RGB":
        return canvas[:, :, ::-1]
    if channels == "GRAY":
        return picture_engine().grey(canvas)[:, :, None]
    return canvas


def _as_dtype(values: Array, dtype: str) -> Array:
    if values.dtype == dtype:
        return values
    if dtype.startswith("float"):
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(cast(NDArray[np.float32], values)), limits.min, limits.max).astype(dtype)

"""Signals of pictures, read from the model's own input tensor: nothing is decoded or resized again."""

import math
from collections import deque
from threading import Lock
from typing import Any, cast
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ferryman.core.record import Value
from ferryman.core.task import PictureInput, Placed
from ferryman.monitor.signals.asked import MISSING, Asked, Found, turned

Floats = NDArray[np.float32]

_SAMPLED = 6000  # pixels that are looked at, each with its neighbours
_LEAST_SIDE = 8
_TILE_ROWS, _TILE_COLUMNS = 3, 16
_REMEMBERED = 64
_SKIPPED = 16
_SAME, _FAINT = 0.5, 6.0  # differences of neighbours, of 255: below the first none, up to the second a faint one
_LIGHT = {"RED": 0.299, "GREEN": 0.587, "BLUE": 0.114}  # ITU-R BT.601, as grey pictures are made
_ORDERS = {"RGB": ("RED", "GREEN", "BLUE"), "BGR": ("BLUE", "GREEN", "RED")}


class PictureReader:
    """Read brightness, contrast, sharpness, noise, faint differences, colour cast, structure, repetition and shape.

    All but the last come from rows of the input tensor, evenly spread over the picture and brought back to pixels of
    0..255; what a letterbox put around it is left out. Figures are made so that each follows its own change only:

    - brightness: mean grey.
    - contrast: standard deviation of grey over brightness.
    - noise: standard deviation of the sensor's noise in pixel values, by the mask of Immerkaer (1996), of which the
      lower quartile is taken instead of the mean: edges and texture fill the upper ones.
    - sharpness: log2 of the variance of the Laplacian (Pech-Pacheco et al. 2000), less the noise's own part, over the
      variance of grey.
    - faint: share of pixels that differ from their right neighbour, but by less than 6 of 255. Strong compression
      takes such differences out of textures, and puts them around edges that were clean.
    - red, blue: log2 of the mean of the channel over that of green, as a white balance has it.
    - blocked: share of tiles of 16 columns and three of the rows that are read whose deviation is under 1 + 2 % of
      brightness, noise taken off.
    - repeated: 1 where the same pixels were among the last 64 pictures, else 0.
    - aspect, megapixels: log2 of width over height, and size, of the picture as it was sent.
    """

    def __init__(self, name: str, spec: PictureInput) -> None:
        self._name = name
        self._planar = spec.layout == "NCHW"
        order = _ORDERS.get(spec.channels)
        self._order = order
        scale, mean, std = float(spec.scale), np.asarray(spec.mean), np.asarray(spec.std)
        count = 3 if order else 1
        self._gain = np.broadcast_to(std / scale, count).astype(np.float32)
        self._shift = np.broadcast_to(mean / scale, count).astype(np.float32)
        light = [_LIGHT[channel] for channel in order] if order else [1.0]
        self._weights = (np.asarray(light) * self._gain).astype(np.float32)
        self._base = float(np.asarray(light) @ self._shift)
        padding = getattr(spec, "pad", None) if getattr(spec, "fit", "") == "letterbox" else None
        self._pad = None if padding is None else (float(padding) - self._shift) / self._gain
        self._lock = Lock()
        self._recent: deque[int] = deque(maxlen=_REMEMBERED)

    def read(self, asked: Asked) -> Found:
        """Give the signals `picture.*` of each picture."""
        values = cast(NDArray[Any], asked.inputs[self._name])  # numbers of any kind
        contexts = [*asked.contexts, *[None] * asked.rows]
        return turned([self._read_one(values[row], contexts[row]) for row in range(asked.rows)])

    def _read_one(self, values: NDArray[Any], context: Placed | None) -> dict[str, Value]:
        planes = values if self._planar else values.transpose(2, 0, 1)
        found = {"aspect": MISSING, "megapixels": MISSING}
        if context is not None:
            width, height = context.width, context.height
            found = {"aspect": math.log2(width / height), "megapixels": width * height / 1e6}
            planes = _placed(planes, context)
        elif self._pad is not None:
            planes = _unpadded(planes, self._pad)
        if min(planes.shape[1:]) >= _LEAST_SIDE:
            found |= self._measure(planes)
        # Rounded, so that what is the same everywhere (grey pictures have no cast) is so on every machine.
        return {f"picture.{name}": round(value, 3) for name, value in found.items()}

    def _measure(self, planes: NDArray[Any]) -> dict[str, float]:
        height, width = planes.shape[1:]
        step = max(1, (height - 2) * width // _SAMPLED)
        above, middle, below = (self._grey(planes[:, offset : height - 2 + offset : step]) for offset in range(3))
        brightness = float(middle.mean())
        flat = middle.ravel()
        variance = max(float(np.vdot(flat, flat)) / flat.size - brightness**2, 0.0)
        down = above - 2 * middle + below
        across = middle[:, :-2] - 2 * middle[:, 1:-1] + middle[:, 2:]
        noise = _noise(down)
        bend = (down[:, 1:-1] + across).ravel()
        sharp = max(float(np.vdot(bend, bend)) / bend.size - 20 * noise**2, 0.0)  # 20: the Laplacian's squares
        digest = crc32(middle.tobytes())
        with self._lock:
            repeated = digest in self._recent
            self._recent.append(digest)
        found = {
            "brightness": brightness,
            "contrast": math.sqrt(variance) / (abs(brightness) + 5),
            "sharpness": math.log2((sharp + 1) / (variance + 1)),
            "noise": noise,
            "faint": _faint(middle),
            "blocked": _blocked(middle, noise**2, (1 + 0.02 * abs(brightness)) ** 2),
            "repeated": float(repeated),
        }
        if self._order:
            found |= self._cast(planes[:, 1 : height - 1 : step])
        return found

    def _grey(self, planes: NDArray[Any]) -> Floats:
        grey = np.full(planes.shape[1:], self._base, np.float32)
        for plane, weight in zip(planes, self._weights, strict=True):
            grey += plane * weight
        return grey

    def _cast(self, planes: NDArray[Any]) -> dict[str, float]:
        means = planes.mean(axis=(1, 2), dtype=np.float32) * self._gain + self._shift
        light = dict(zip(self._order or (), np.log2(np.maximum(means, 0) + 1).tolist(), strict=True))
        return {"red": light["RED"] - light["GREEN"], "blue": light["BLUE"] - light["GREEN"]}


def _noise(down: Floats) -> float:
    mask = np.abs(down[:, :-2] - 2 * down[:, 1:-1] + down[:, 2:]).ravel()[::3]
    quarter = len(mask) // 4
    return float(np.partition(mask, quarter)[quarter]) / 0.318639 / 6  # a normal's quartile; the mask's root of squares


def _faint(grey: Floats) -> float:
    apart = np.abs(grey[:, 1:] - grey[:, :-1])
    return float(np.count_nonzero((apart > _SAME) & (apart < _FAINT)) / apart.size)


def _blocked(grey: Floats, noise: float, limit: float) -> float:
    rows, columns = len(grey) // _TILE_ROWS, grey.shape[1] // _TILE_COLUMNS
    if not rows or not columns:
        return MISSING
    runs = grey[: rows * _TILE_ROWS, : columns * _TILE_COLUMNS].reshape(rows, _TILE_ROWS, columns, _TILE_COLUMNS)
    size = _TILE_ROWS * _TILE_COLUMNS
    sums = np.einsum("rtcs->rc", runs)
    squares = np.einsum("rtcs,rtcs->rc", runs, runs)
    return float((squares / size - (sums / size) ** 2 - noise < limit).mean())


def _placed(planes: NDArray[Any], context: Placed) -> NDArray[Any]:
    """Cut out what is picture, by its context."""
    ends = []
    for offset, size, scale, most in (
        (context.top, context.height, context.scale_y, planes.shape[1]),
        (context.left, context.width, context.scale_x, planes.shape[2]),
    ):
        ends.append((max(round(offset), 0), min(round(offset + size * scale), most)))
    (top, bottom), (left, right) = ends
    return planes[:, top:bottom, left:right]


def _unpadded(planes: NDArray[Any], pad: NDArray[np.float32]) -> NDArray[Any]:
    """Cut off rows and columns at the edges that are all of the padding's value: of tensors that a caller made."""
    inside = [
        np.flatnonzero((np.abs(lines - pad[:, None, None]) >= 0.01).any(axis=(0, axis)))
        for lines, axis in ((planes[:, :, ::_SKIPPED], 2), (planes[:, ::_SKIPPED], 1))
    ]
    rows, columns = inside
    if not rows.size or not columns.size:
        return planes
    return planes[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

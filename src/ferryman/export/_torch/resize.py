"""ONNX's Resize in torch: by torch's own interpolation where both mean the same, by index and weight elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ferryman.core.signature import Array
from ferryman.export._torch.node import Node, Op, Tensor, Unsupported, axes_of, whole

_LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
_HALF_PIXEL = ("half_pixel", "pytorch_half_pixel")
_ROUNDED: dict[str, Callable[[Any], Any]] = {  # float32 arrays
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda places: np.ceil(places - np.float32(0.5)),
    "round_prefer_ceil": lambda places: np.floor(places + np.float32(0.5)),
}


@dataclass(frozen=True, slots=True)
class _Way:
    """Hold how an output's places follow from an input's, and the wanted sizes or scales of each dimension."""

    mode: str
    coordinates: str
    rounding: str
    scales: list[float] | None
    sizes: list[Any] | None  # int or torch.SymInt


def _resize(
    node: Node, value: Tensor, roi: Array | None = None, scales: Array | None = None, sizes: Array | None = None
) -> Tensor:
    if node.op == "Upsample" or node.opset < 11:
        factors = roi if roi is not None else node.get("scales")  # their second input
        scaled = [float(factor) for factor in np.asarray(factors).ravel()]
        return _interpolate(value, _Way(node.get("mode", "nearest"), "asymmetric", "floor", scaled, None))
    _refuse_rarities(node)
    along = axes_of(node, None, value.dim()) or list(range(value.dim()))
    by_scale = scales is not None and scales.size > 0
    targets: list[Any] = [1.0] * value.dim() if by_scale else list(value.shape)
    given: Any = np.asarray(scales, np.float32).tolist() if by_scale else whole(np.asarray(sizes))
    for axis, target in zip(along, given, strict=True):
        targets[axis] = target
    way = _Way(
        mode=node.get("mode", "nearest"),
        coordinates=node.get("coordinate_transformation_mode", "half_pixel"),
        rounding=node.get("nearest_mode", "round_prefer_floor"),
        scales=targets if by_scale else None,
        sizes=None if by_scale else targets,
    )
    return _interpolate(value, way)


def _refuse_rarities(node: Node) -> None:
    if node.get("exclude_outside", 0) or node.get("antialias", 0):
        raise Unsupported("it excludes what is outside, or smooths what it makes smaller")
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported("it keeps the aspect ratio")
    if node.get("mode", "nearest") == "cubic" and abs(node.get("cubic_coeff_a", -0.75) + 0.75) > 1e-6:
        raise Unsupported(f"its cubic coefficient is {node.get('cubic_coeff_a')}; torch's is -0.75")


def _interpolate(value: Tensor, way: _Way) -> Tensor:
    outer = way.scales[:2] == [1.0, 1.0] if way.scales else way.sizes is not None and _same(way.sizes, value)
    if outer and 3 <= value.dim() <= 5:
        target: dict[str, Any] = {"scale_factor": way.scales[2:]} if way.scales else {"size": (way.sizes or [])[2:]}
        if way.mode == "nearest" and _repeats(value, way):
            return functional.interpolate(value, mode="nearest", **target)
        if way.mode != "nearest" and way.coordinates in (*_HALF_PIXEL, "align_corners") and _has_torch(value, way):
            mode = _LINEAR[value.dim()] if way.mode == "linear" else "bicubic"
            corners = way.coordinates == "align_corners"
            return functional.interpolate(value, mode=mode, align_corners=corners, **target)
    if way.mode == "cubic":
        raise Unsupported(f"it interpolates by '{way.mode}' in the '{way.coordinates}' way")
    for axis in range(value.dim()):
        value = _along(value, axis, way)
    return value


def _same(sizes: list[Any], value: Tensor) -> bool:  # int or torch.SymInt
    return bool(sizes[0] == value.shape[0] and sizes[1] == value.shape[1])


def _has_torch(value: Tensor, way: _Way) -> bool:
    """Tell whether torch interpolates tensors of this rank in this mode."""
    if way.coordinates == "pytorch_half_pixel" and any(size == 1 for size in (way.sizes or [])[2:]):
        return False
    return value.dim() == 4 or (way.mode == "linear")


def _repeats(value: Tensor, way: _Way) -> bool:
    """Tell whether every element is repeated a whole number of times: there all usual ways to round agree."""
    usual = way.coordinates == "asymmetric" and way.rounding == "floor"
    usual = usual or (way.coordinates in _HALF_PIXEL and way.rounding.startswith("round"))
    if way.scales:
        return usual and all(scale >= 1 and scale == int(scale) for scale in way.scales[2:])
    pairs = zip(way.sizes or [], value.shape, strict=True)
    return usual and all(
        new == old or (isinstance(new, int) and isinstance(old, int) and new % old == 0) for new, old in pairs
    )


def _along(value: Tensor, axis: int, way: _Way) -> Tensor:
    """Resize one dimension."""
    old = value.shape[axis]
    if way.scales:
        scale = np.float32(way.scales[axis])
        if scale == 1:
            return value
    elif way.sizes is None or (new := way.sizes[axis]) is old or new == old:
        return value
    if not isinstance(old, int) or (way.sizes and not isinstance(way.sizes[axis], int)):
        raise Unsupported(f"it resizes a dimension that varies in the '{way.coordinates}' way")
    new = int(np.floor(old * scale)) if way.scales else way.sizes[axis]  # type: ignore[index]  # one of the two is there
    scale = np.float32(way.scales[axis]) if way.scales else np.float32(new / old)
    places = _places(way, old, new, scale)
    if way.mode == "nearest":
        chosen = np.clip(_ROUNDED[way.rounding](places), 0, old - 1).astype(np.int64)
        return value.index_select(axis, torch.from_numpy(chosen))
    places = np.clip(places, 0, old - 1)
    before = np.floor(places).astype(np.int64)
    after = np.minimum(before + 1, old - 1)
    share = torch.from_numpy(np.asarray(places - before, np.float32)).to(value.dtype)
    share = share.reshape([-1 if other == axis else 1 for other in range(value.dim())])
    low, high = (value.index_select(axis, torch.from_numpy(part)) for part in (before, after))
    return low * (1 - share) + high * share


def _places(way: _Way, old: int, new: int, scale: Any) -> Any:  # np.float32 -> float32 [new]
    """Give the place in the input of each place in the output, in float32 as runtimes do."""
    half = np.float32(0.5)
    steps = np.arange(new, dtype=np.float32)
    match way.coordinates:
        case "half_pixel":
            return (steps + half) / scale - half
        case "pytorch_half_pixel":
            return (steps + half) / scale - half if new > 1 else steps * 0
        case "asymmetric":
            return steps / scale
        case "align_corners":
            return steps * np.float32((old - 1) / (new - 1)) if new > 1 else steps * 0
        case "half_pixel_symmetric":
            offset = np.float32(old / 2) * (1 - np.float32(new) / (scale * old))
            return offset + (steps + half) / scale - half
        case other:
            raise Unsupported(f"its coordinates are '{other}'")


RESIZE: dict[str, Op] = {"Resize": Op(_resize, host=(1, 2, 3)), "Upsample": Op(_resize, host=(1,))}

"""Say in `[task] input` what transformers' picture processors do; refuse those that it can't say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from ferryman.core.errors import SourceError

Settings = Mapping[str, Any]  # JSON
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "area"}
_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
}
_SQUARE = {"size": 224, "default_to_square": True}
_SHORT = {"size": {"shortest_edge": 224}, "default_to_square": False, "crop_size": 224, "do_center_crop": True}
# What transformers takes where the file doesn't say, by the processor's name without "ImageProcessor".
_USUAL: dict[str, Settings] = {
    "ViT": {**_SQUARE, **_HALF, "resample": 2},
    "DeiT": {**_SQUARE, **_HALF, "resample": 3, "size": 256, "crop_size": 224, "do_center_crop": True},
    "Beit": {**_SQUARE, **_HALF, "resample": 3, "crop_size": 224},
    "Pvt": {**_SQUARE, **_IMAGENET, "resample": 3},
    "Siglip": {**_HALF, "size": {"height": 224, "width": 224}, "default_to_square": False, "resample": 3},
    "Bit": {**_SHORT, **_CLIP},
    "CLIP": {**_SHORT, **_CLIP},
    "MobileNetV1": {**_SHORT, **_HALF, "resample": 2, "size": {"shortest_edge": 256}},
    "MobileNetV2": {**_SHORT, **_HALF, "resample": 2, "size": {"shortest_edge": 256}},
    "ConvNext": {**_HALF, "size": {"shortest_edge": 384}, "default_to_square": False, "resample": 3, "crop_pct": 0.875},
}
_OF_MODEL = {
    "vit": "ViT", "swin": "ViT", "swinv2": "ViT", "deit": "DeiT", "beit": "Beit", "pvt": "Pvt", "pvt_v2": "Pvt",
    "siglip": "Siglip", "bit": "Bit", "dinov2": "Bit", "focalnet": "Bit", "clip": "CLIP",
    "mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2",
    "convnext": "ConvNext", "convnextv2": "ConvNext", "resnet": "ConvNext", "regnet": "ConvNext",
}  # fmt: skip
_UNDERSTOOD = {"do_resize", "do_rescale", "do_normalize", "rescale_factor", "crop_size", "do_center_crop"}
# Of the picture's reading, of truths other than classes, and of how transformers itself works.
_HARMLESS = {
    "image_processor_type", "feature_extractor_type", "processor_class", "do_convert_rgb", "do_reduce_labels",
    "reduce_labels", "data_format", "input_data_format", "device", "disable_grouping", "return_tensors",
    "_valid_processor_keys",
}  # fmt: skip


def read_pictures(file: Path, said: Settings, config: Settings) -> dict[str, Any]:  # TOML values
    """Give `[task] input` of what preprocessor_config.json says; raises SourceError for what can't be said so."""
    model = str(config.get("model_type"))
    name = _processor(file, said, model)
    usual = _USUAL[name]
    known = {*_UNDERSTOOD, *_HARMLESS, *usual}
    if unknown := [key for key, value in said.items() if key not in known and value not in (None, False)]:
        _refuse(f"{file} has {unknown[0]} = {said[unknown[0]]!r:.80}, which is not known here")
    given = {**usual, **{key: value for key, value in said.items() if value is not None}}
    if not given.get("do_resize", True):
        _refuse(f"{file} has do_resize = false: pictures of any size go into the model")
    if given["resample"] not in _RESAMPLE:
        _refuse(f"{file} has resample = {given['resample']!r:.80}, which is not known here")
    image = {"channels": "RGB", "layout": "NCHW", "resize": _RESAMPLE[given["resample"]], **_placed(file, name, given)}
    image["scale"] = float(given.get("rescale_factor", 1 / 255)) if given.get("do_rescale", True) else 1.0
    if given.get("do_normalize", True):
        image |= {key: _numbers(given[f"image_{key}"]) for key in ("mean", "std")}
    return image


def _processor(file: Path, said: Settings, model: str) -> str:
    """Give the processor's short name: of the file, else of the model's type, as transformers finds it."""
    named = str(said.get("image_processor_type") or said.get("feature_extractor_type") or "")
    short = (
        named.removesuffix("Fast").removesuffix("Pil").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    )
    name = short if named else _OF_MODEL.get(model, "")
    if name not in _USUAL:
        what = f"is of a {named}" if named else f"names no image_processor_type, for a model of type {model}"
        _refuse(f"{file} {what}: what it does to pictures is not known here (known: {', '.join(sorted(_USUAL))})")
    return name


def _placed(file: Path, name: str, given: Settings) -> dict[str, Any]:  # TOML values
    """Give size, fit and resize_short."""
    size = given["size"]
    if isinstance(size, int):
        size = {"height": size, "width": size} if given["default_to_square"] else {"shortest_edge": size}
    sides = {key: value for key, value in size.items() if value is not None}
    cut = _pair(given["crop_size"]) if given.get("do_center_crop") else None
    if sides.keys() == {"height", "width"} and name != "ConvNext":
        if cut not in (None, _pair(sides)):
            _refuse(f"{file} stretches pictures to {_pair(sides)} and cuts {cut} out of that, which [task] can't say")
        return {"size": _pair(sides), "fit": "stretch"}
    if sides.keys() != {"shortest_edge"}:
        _refuse(f"{file} has size = {size!r:.80}, which is not known here")
    edge = sides["shortest_edge"]
    if name == "ConvNext" and cut is None:
        cropped = {"fit": "crop", "resize_short": int(edge / given["crop_pct"])}
        return {"size": [edge, edge], **(cropped if edge < 384 else {"fit": "stretch"})}
    if name == "ConvNext" or cut is None or max(cut) > edge:
        _refuse(f"{file} has size = {size!r:.80} and cuts {cut or 'nothing'} out of that, which [task] can't say")
    return {"size": cut, "fit": "crop", "resize_short": edge}


def _pair(size: int | Settings) -> list[int]:
    return [size, size] if isinstance(size, int) else [int(size["height"]), int(size["width"])]


def _numbers(value: float | list[float]) -> list[float]:
    return [float(one) for one in value] if isinstance(value, list) else [float(value)]


def _refuse(said: str) -> NoReturn:
    raise SourceError(
        said, hint="export the model to ONNX, name that file as the source, and write [task] input yourself"
    )

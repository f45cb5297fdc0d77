"""Look at installed packages: the core's must load, the frameworks' are optional."""

import importlib
from importlib.metadata import PackageNotFoundError, version

from ferryman.core.privacy import forbid_telemetry

_CORE = {
    "numpy": "numpy",
    "pydantic": "pydantic",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pycocotools": "pycocotools",
    "uvloop": "uvloop",
    "httptools": "httptools",
    "wsproto": "wsproto",
    "hpack": "hpack",
    "protobuf": "google.protobuf",
    "orjson": "orjson",
    "pysimdjson": "simdjson",
}
_FRAMEWORKS = (
    "openvino", "nncf", "torch", "onnxscript", "scikit-learn", "skl2onnx", "xgboost", "lightgbm", "catboost",
    "tensorrt",
)  # fmt: skip


def load_core() -> dict[str, str]:
    """Import every package of the core; gives versions, or "BROKEN: ..." with the reason."""
    forbid_telemetry()
    return {package: _load(package, module) for package, module in _CORE.items()}


def framework_versions() -> dict[str, str]:
    """Give the versions of the optional frameworks, without importing them."""
    return {package: _version(package) for package in _FRAMEWORKS}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _load(package: str, module: str) -> str:
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - a broken package may fail in any way, and that is the finding
        return f"BROKEN: {type(error).__name__}: {error}"
    return _version(package)

"""`ferryman doctor`: look at this machine."""

import argparse
import importlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ferryman import __version__, api
from ferryman.cli.machine import describe_cache, describe_cores, describe_cpu, describe_disk, describe_memory
from ferryman.cli.options import add_json
from ferryman.cli.output import has_color, write_json, write_text
from ferryman.verify.columns import Paint
from ferryman.verify.figures import plain

EXAMPLE = "ferryman doctor --json"
CORE = {"numpy": "numpy", "pydantic": "pydantic", "onnx": "onnx", "onnxruntime": "onnxruntime",
        "opencv-python-headless": "cv2", "pycocotools": "pycocotools", "starlette": "starlette",
        "uvicorn": "uvicorn", "httptools": "httptools", "prometheus-client": "prometheus_client"}  # fmt: skip
FRAMEWORKS = ("openvino", "nncf", "torch", "onnxscript", "scikit-learn", "skl2onnx", "xgboost", "lightgbm", "catboost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing but the form of the answer."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 where a package of the core doesn't load."""
    cache = Path(api.config().get("FERRYMAN_CACHE") or Path.home() / ".cache" / "ferryman")
    machine = {
        "ferryman": __version__, "python": f"{platform.python_version()} {sys.executable}", "cpu": describe_cpu(),
        "cores": describe_cores(), "memory": describe_memory(), "disk": describe_disk(cache),
        "cache": describe_cache(cache),
    }  # fmt: skip
    core = {name: _load(name, module) for name, module in CORE.items()}
    frameworks = {name: _version(name) for name in FRAMEWORKS}
    missing: dict[str, list[str]] = {}
    for plugin in api.installed():
        if not plugin.is_available:
            missing.setdefault(plugin.install_command, []).append(f"{plugin.kind[:-1]} {plugin.name}")
    is_sound = all(state[0].isdigit() for state in core.values())
    found = {"machine": machine, "core": core, "frameworks": frameworks, "missing": missing, "broken": api.broken()}
    if args.json:
        write_json({"sound": is_sound, **found})
    else:
        write_text(_render(found, is_sound, Paint(has_color(sys.stdout))))
    return 0 if is_sound else 1


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


def _render(found: dict[str, dict[str, str] | dict[str, list[str]]], is_sound: bool, paint: Paint) -> str:
    lines: list[str] = []
    for title, facts in found.items():
        lines += [paint(title, "cyan")] if facts else []
        longest = max(map(len, facts), default=0)
        for name, value in facts.items():
            shown = plain(", ".join(value) if isinstance(value, list) else value)
            style = "red" if shown.startswith("BROKEN") else "dim" if shown == "not installed" else ""
            lines.append(f"  {plain(name):<{longest}}  {paint(shown, style)}")
    verdict = paint("✓ the core works", "green") if is_sound else paint("✗ the core is broken", "red")
    return "\n".join([*lines, verdict]) + "\n"

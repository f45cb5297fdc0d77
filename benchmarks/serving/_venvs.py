"""What each peer needs installed, and where: an environment of its own, outside of the repository."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ENGINE = ("numpy==2.4.6", "onnxruntime==1.31.1", "opencv-python-headless==5.0.0.93")
_OLD_ENGINE = ("numpy<2", "onnxruntime==1.31.1", "opencv-python-headless==4.11.0.86")
_FAST = ("uvloop==0.23.0", "httptools==0.9.0", "orjson==3.12.0")
_TORCH = ("torch==2.13.0",)
_DEBIAN_PYTHON = "/usr/bin/python3.11"


@dataclass(frozen=True, slots=True)
class Venv:
    """Say what to install: `first` before the rest, since a later package would else bring a bigger build of it.

    `python` is the interpreter wanted, where one is: this one makes the environment where that is missing.
    """

    packages: tuple[str, ...]
    first: tuple[str, ...] = ()
    python: str = ""


VENVS: Mapping[str, Venv] = {
    "raw": Venv((*_ENGINE, *_FAST)),
    "fastapi": Venv((*_ENGINE, "fastapi==0.165.0", "uvicorn==0.54.0", *_FAST)),
    "mosec": Venv((*_ENGINE, "mosec==0.9.8", "orjson==3.12.0")),
    # The wheel's Python backend is linked against 3.11 and fails with some builds of it: Debian's works.
    "triton": Venv((*_OLD_ENGINE, "nvidia-pytriton==0.7.0"), python=_DEBIAN_PYTHON),
    "grpc": Venv((*_ENGINE, "grpcio==1.85.1", "protobuf>=6,<8", "uvloop==0.23.0")),
    # Its worker pool has no event loop under newer versions of uvloop.
    "mlserver": Venv(("onnxruntime==1.31.1", "opencv-python-headless", "mlserver==1.7.1", "uvloop<0.22")),
    "litserve": Venv((*_ENGINE, "litserve==0.2.19", "python-multipart"), first=_TORCH),
    "bentoml": Venv((*_ENGINE, "bentoml==1.4.39")),
    "kserve": Venv(("onnxruntime==1.31.1", "opencv-python-headless", "kserve==0.21.0")),
    "ray": Venv((*_ENGINE, "ray[serve]==2.60.0", "orjson==3.12.0")),
    "torchserve": Venv(
        (*_ENGINE, "torchserve==0.12.0", "torch-model-archiver", "pyyaml", "setuptools<80"), first=_TORCH
    ),
}


def default_folder() -> Path:
    """Give the folder of the environments: $FERRYMAN_BENCH, or the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FERRYMAN_BENCH") or Path(cache) / "ferryman-bench")


def python_of(name: str, folder: Path) -> Path:
    """Give the interpreter of a peer's environment, which may not be there."""
    return folder / "venvs" / name / "bin" / "python"


def why_missing(name: str, folder: Path) -> str:
    """Say why a peer can't be run; "" where it can."""
    if (folder / "venvs" / name / "installed.json").exists():
        return ""
    failed = folder / "venvs" / f"{name}.failed"
    if failed.exists():
        return f"its packages could not be installed: {failed.read_text(encoding='utf-8').strip()}"
    return f"not installed (python benchmarks/serving/setup.py {name})"


def versions_of(name: str, folder: Path) -> dict[str, str]:
    """Give what was installed for a peer."""
    file = folder / "venvs" / name / "installed.json"
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def install(name: str, folder: Path) -> str:
    """Make a peer's environment; gives why that failed, "" where it didn't."""
    home = folder / "venvs" / name
    if (home / "installed.json").exists():
        return ""
    venv = VENVS[name]
    python = venv.python if venv.python and Path(venv.python).exists() else sys.executable
    home.parent.mkdir(parents=True, exist_ok=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    steps = [[python, "-m", "venv", "--clear", str(home)]]
    # pip and not a faster tool: it follows the settings of whoever runs this, mirrors and certificates included.
    steps += [[*pip, "install", "--quiet", *packages] for packages in (venv.first, venv.packages) if packages]
    failed = home.parent / f"{name}.failed"
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            failed.write_text(reason, encoding="utf-8")
            return reason
    listed = subprocess.run([*pip, "list", "--format=json"], capture_output=True, text=True, check=True)
    found = {row["name"].lower(): row["version"] for row in json.loads(listed.stdout)}
    (home / "installed.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    failed.unlink(missing_ok=True)
    return ""

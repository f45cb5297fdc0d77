"""Compile an ONNX model. Runs in the toolchain's own Python: imports the vendor's package, and nothing of Ferryman."""

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RUST_BACKTRACE"] = "0"  # tract reads it as it is loaded

import tract


def compile_model(request: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """Write `target`; what tract doesn't have is refused in its own words, which name the node."""
    tell("tract", note="compiling")
    try:
        model = tract.onnx().load(request["source"]).into_model()
        tract.nnef().with_onnx().with_tract_extra().write_model_to_tar(model, request["target"])
    except tract.TractError as error:
        reason = " ".join(str(error).partition("Stack backtrace")[0].split())
        raise Refused(f"tract can't compile this model: {reason[:400]}", hint="export it without this node") from error
    _settle(Path(request["target"]))
    return {}


def _settle(path: Path) -> None:
    """Make equal models equal bytes: tract writes the time of the day beside each file."""
    with tarfile.open(path) as archive:
        parts = {part.name: archive.extractfile(part) for part in archive.getmembers() if part.isfile()}
        held = {name: stream.read() for name, stream in parts.items() if stream is not None}
    with tarfile.open(path, "w") as archive:
        for name in sorted(held):
            entry = tarfile.TarInfo(name)
            entry.size = len(held[name])
            archive.addfile(entry, io.BytesIO(held[name]))

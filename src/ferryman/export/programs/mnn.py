"""Convert an ONNX model to MNN with the converter's compiled part alone.

MNN's own front, the module MNN.tools.mnnconvert and the command of that name, installs a logging package and sends the
machine's identity and the arguments to its maker. It is never imported here.
"""

import contextlib
import hashlib
import math
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _tools
import MNN
import numpy as np


def convert(request: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """Write `target`; `half` keeps weights in 16 bits, `bits` (2 to 8) quantizes them, 0 leaves them.

    `half_quadratic` chooses their scales in the way of that name.
    """
    target = Path(request["target"])
    words = ["MNNConvert", "-f", "ONNX", "--modelFile", request["source"], "--MNNModel", str(target)]
    words += ["--bizCode", "none"]
    words += ["--fp16"] if request["half"] else []
    words += ["--weightQuantBits", str(request["bits"])] if request["bits"] else []
    words += ["--hqq"] if request.get("half_quadratic") else []
    tell("mnn", note="converting")
    with _heard(Path(request["scratch"]) / "log") as log:
        is_done = _tools.mnnconvert(words)
    if not is_done or not target.is_file():
        raise Refused(
            f"MNN can't convert this model: {_reason(log.read_text(encoding='utf-8', errors='replace'))}",
            hint="export the model without it, or leave MNN out of [build] formats",
        )
    _settle(target)
    tell("mnn", note="checking")
    return {"shapes": _answer_once(target, request)}


def _settle(path: Path) -> None:
    """Make equal models equal bytes: MNN writes a random identifier into each, and the content gives ours."""
    random = MNN.get_model_uuid(str(path)).encode()
    content = path.read_bytes()
    if content.count(random) == 1:
        plain = content.replace(random, bytes(len(random)))
        name = hashlib.sha256(plain).hexdigest()
        path.write_bytes(content.replace(random, str(uuid.UUID(name[:32])).encode()))


@contextlib.contextmanager
def _heard(log: Path) -> Iterator[Path]:
    """Have what the converter's compiled part prints in a file as well as in our own log."""
    kept = os.dup(1), os.dup(2)
    try:
        with log.open("wb") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
            yield log
    finally:
        for descriptor, own in enumerate(kept, 1):
            os.dup2(own, descriptor)
            os.close(own)
        print(log.read_text(encoding="utf-8", errors="replace")[-20000:], flush=True)


def _reason(told: str) -> str:
    """Give the lines that name operators, or else the last one."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    about = [line for line in lines if "support" in line.lower() and "device supports" not in line]
    return ("; ".join(dict.fromkeys(about)) or (lines[-1] if lines else "it doesn't say why"))[:400]


def _answer_once(path: Path, request: dict[str, Any]) -> list[list[int]]:
    """Give the shapes of the outputs for the example inputs."""
    interpreter = MNN.Interpreter(str(path))
    session = interpreter.createSession({"backend": "CPU", "numThread": 1, "precision": "high"})
    takes, gives = interpreter.getSessionInputAll(session), interpreter.getSessionOutputAll(session)
    for part in request["inputs"]:
        if part["name"] not in takes:
            raise Refused(f"MNN lost the input '{part['name']}'; it has {', '.join(takes)}")
        shape = tuple(1 if isinstance(size, str) else size for size in part["shape"])
        interpreter.resizeTensor(takes[part["name"]], shape)
    interpreter.resizeSession(session)
    lost = [name for name in request["outputs"] if name not in gives]
    if lost:
        raise Refused(f"MNN lost the output '{lost[0]}'; it has {', '.join(gives)}")
    shapes = [list(gives[name].getShape()) for name in request["outputs"]]
    if any(math.prod(shape) < 0 or not np.all(np.array(shape) > 0) for shape in shapes):
        raise Refused(f"MNN can't tell the sizes of the outputs: {shapes}")
    return shapes

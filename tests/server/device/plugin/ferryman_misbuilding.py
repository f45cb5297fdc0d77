"""A runtime whose engines are built on the device, and that a file tells how to go wrong; see `tests.server.device`."""

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.engine import EngineRequest
from ferryman.core.errors import MissingExtra, StepError
from ferryman.core.plugins import find
from ferryman.core.runtime import Session
from ferryman.core.signature import Array, Signature, Tensors

_MANY_S = 10**6


class MisbuildingRuntime:
    """Build engines that are copies of the model, unless told otherwise."""

    name: ClassVar[str] = "misbuilding"
    formats: ClassVar[frozenset[str]] = frozenset({"misbuilding"})
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    serves: ClassVar[bool] = False
    targets: ClassVar[tuple[str, ...]] = ()
    builds_from: ClassVar[frozenset[str]] = frozenset({"onnx"})
    is_accelerator: ClassVar[bool] = True
    recipe: ClassVar[int] = 1

    def identity(self) -> dict[str, str]:
        if _told().get("no_device"):
            raise MissingExtra("there is no misbuilding device", hint="plug one in")
        return {"device": _told().get("device", "first")}

    def build(self, source: Artifact, folder: Path, request: EngineRequest) -> None:
        with Path(os.environ["MISBUILDING"]).with_suffix(".builds").open("a") as count:
            count.write(f"{os.getpid()} {os.nice(0)}\n")
        (folder / "half").write_bytes(b"half an engine")
        deeds: dict[str, Callable[[], object]] = {
            "crash": lambda: signal.raise_signal(signal.SIGSEGV),
            "hang": lambda: time.sleep(_MANY_S),
            "fail": lambda: _raise(StepError("told to fail", hint="tell it otherwise")),
            "surprise": lambda: _raise(RuntimeError("told to surprise")),
            "full": lambda: _raise(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
        }
        deeds.get(_told().get("build", ""), lambda: None)()
        while _told().get("build") == "wait":
            time.sleep(0.01)
        (folder / "half").unlink()
        (folder / "engine.onnx").write_bytes(source.path.read_bytes())

    def load(self, artifact: Artifact, *, threads: int) -> "MisbuildingSession":
        if _told().get("load") == "crash":
            signal.raise_signal(signal.SIGSEGV)
        model = Artifact(artifact.path / "engine.onnx", "onnx", artifact.signature, artifact.digest)
        return MisbuildingSession(find("runtimes", "onnx").cls().load(model, threads=threads))


class MisbuildingSession:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._is_stuck = False
        self.signature: Signature = session.signature

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        answers = self._session.infer(inputs)
        if any(bool((np.asarray(values) == _told().get("dies_of", 13)).any()) for values in inputs.values()):
            signal.raise_signal(signal.SIGSEGV)
        if self._is_stuck or any(
            bool((np.asarray(values) == _told().get("sticks_at", 14)).any()) for values in inputs.values()
        ):
            self._is_stuck = True
            raise RuntimeError("nothing works from now on")
        return {name: np.add(values, np.float32(_told().get("off_by", 0.0))) for name, values in answers.items()}

    def close(self) -> None:
        self._session.close()


def _told() -> dict[str, Any]:
    file = Path(os.environ["MISBUILDING"])
    return dict(json.loads(file.read_text())) if file.exists() else {}


def _raise(error: Exception) -> None:
    raise error

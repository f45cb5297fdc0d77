"""A runtime whose inputs tell it how to go wrong; see `tests.server.misbehaving` for the words."""

import ctypes
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import InputError
from ferryman.core.signature import Array, Signature, Tensors

ANSWER, SEGFAULT, EXIT, HANG, SLEEP, LEAK, NAN, HOLD_GIL, RAISE, REFUSE, ABORT, DATES, COUNT = range(13)
_MANY_S = 10**6


@dataclass
class MisbehavingSession:
    signature: Signature
    options: dict[str, Any]  # of the model's JSON file
    releases_gil: bool = False
    calls: int = 0
    leaked: list[bytes] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        self.signature.check(inputs)
        rows = np.asarray(inputs["order"], np.float32)
        with self.lock:
            self.calls += 1
        for code, argument in rows.tolist():
            self._obey(int(code), argument)
        answer = rows + np.float32(1)
        answer[rows[:, 0] == NAN] = np.nan
        answer[rows[:, 0] == COUNT] = self.calls
        if self.options.get("scales_over_batch"):
            step = max(float(np.abs(rows).max()), 1e-6) / 127
            answer = np.round(rows / step).astype(np.float32) * np.float32(step) + np.float32(1)
        if self._is_wrong():
            answer = answer + np.float32(0.5)
        if (rows[:, 0] == DATES).any():
            answer = answer.astype("datetime64[s]")
        if self.options.get("loses_rows"):
            answer = answer[:1]
        return {"answer": answer}

    def close(self) -> None:
        """Nothing to free."""

    def _is_wrong(self) -> bool:
        after, file = self.options.get("wrong_after"), self.options.get("wrong_file")
        return (after is not None and self.calls > after) or (file is not None and Path(file).exists())

    def _obey(self, code: int, argument: float) -> None:
        deeds: dict[int, Callable[[], object]] = {
            SEGFAULT: lambda: signal.raise_signal(signal.SIGSEGV),
            EXIT: lambda: os._exit(int(argument)),
            ABORT: os.abort,
            HANG: lambda: time.sleep(_MANY_S),
            SLEEP: lambda: time.sleep(argument),
            COUNT: lambda: time.sleep(argument),
            LEAK: lambda: self.leaked.append(os.urandom(1024) * int(argument * 1024)),
            HOLD_GIL: lambda: ctypes.PyDLL(None).usleep(int(argument * 1e6)),
            RAISE: lambda: _raise(RuntimeError("told to raise")),
            REFUSE: lambda: _raise(InputError("told to refuse", hint="send another order")),
        }
        deeds.get(code, lambda: None)()


def _raise(error: Exception) -> None:
    raise error


class MisbehavingRuntime:
    """Do what the input says."""

    name: ClassVar[str] = "misbehaving"
    formats: ClassVar[frozenset[str]] = frozenset({"misbehaving"})
    needs: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    serves: ClassVar[bool] = True

    def load(self, artifact: Artifact, *, threads: int) -> MisbehavingSession:
        options = json.loads(artifact.path.read_text())
        if Path(options.get("crash_file") or "/nowhere").exists():
            signal.raise_signal(signal.SIGSEGV)
        if Path(options.get("hang_file") or "/nowhere").exists():
            time.sleep(_MANY_S)
        session = MisbehavingSession(artifact.signature, options, bool(options.get("releases_gil")))
        session.leaked.append(os.urandom(1024) * 1024 * int(options.get("ballast_mb") or 0))
        return session

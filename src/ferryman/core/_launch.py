"""Run a program's functions for a caller over pipes, in a toolchain's own Python. Imports nothing of Ferryman.

Usage: python _launch.py PROGRAM REQUESTS REPLIES FOLDER, where the second and third are file descriptors. The first
words are {"network": "none" or "audited"}. A request is a line of JSON, {"verb": ..., "request": {...}}; each answer is
lines of {"progress": ...} and then one of {"result": ...}, {"refused": ...} or {"failed": ...}. Arrays travel as raw
little-endian files below FOLDER.
"""

import builtins
import importlib.util
import json
import os
import sys
import time
import traceback
from typing import Any

import numpy as np


class Refused(Exception):
    """Say that what was asked can't be done, in words for the user, and what can be done instead."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Line:
    """Speak over two pipes."""

    def __init__(self, requests: int, replies: int, folder: str) -> None:
        self._requests = os.fdopen(requests, "r", encoding="utf-8")
        self._replies = os.fdopen(replies, "w", encoding="utf-8")
        self._folder = folder
        self._count = 0

    def hear(self) -> Any:  # JSON and arrays
        """Give the next request; None at the end."""
        line = self._requests.readline()
        return json.loads(line, object_hook=self._read) if line else None

    def say(self, message: "dict[str, Any]") -> None:
        """Send one line."""
        self._replies.write(json.dumps(message, default=self._write) + "\n")
        self._replies.flush()

    def tell(self, stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
        """Send news of the work."""
        self.say({"progress": {"stage": str(stage), "done": int(done), "total": int(total), "note": str(note)}})

    def _read(self, value: "dict[str, Any]") -> Any:
        if value.keys() != {"$array"}:
            return value
        about = value["$array"]
        flat = np.fromfile(os.path.join(self._folder, about["file"]), dtype=about["dtype"])
        return flat.reshape(about["shape"])

    def _write(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        array = np.ascontiguousarray(value)
        if array.dtype.hasobject:
            raise TypeError(f"{type(value).__name__} can't be sent")
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        self._count += 1
        name = f"reply-{self._count}.bin"
        array.tofile(os.path.join(self._folder, name))
        return {"$array": {"file": name, "dtype": array.dtype.name, "shape": list(np.shape(value))}}


def forbid_network() -> None:
    """Refuse Python's own connections, where the process could not be cut off from the network."""

    def refuse(event: str, _args: "tuple[Any, ...]") -> None:
        if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
            raise PermissionError(f"a converter may not use the network ({event})")

    sys.addaudithook(refuse)


def load(path: str) -> Any:  # a module
    """Import the program by its path, under a name that hides no package."""
    spec = importlib.util.spec_from_file_location("ferryman_program", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["ferryman_program"] = module
    spec.loader.exec_module(module)
    return module


def answer(verbs: "dict[str, Any]", verb: str, request: "dict[str, Any]", tell: Any) -> Any:
    """Call one verb; `load` and `infer` keep a Model between them."""
    if verb == "load":
        verbs["model"] = verbs["program"].Model(request, tell)
        return {}
    if verb == "infer":
        begun = time.perf_counter()
        outputs = verbs["model"].infer(request["inputs"])
        return {"seconds": time.perf_counter() - begun, "outputs": {k: np.asarray(v) for k, v in outputs.items()}}
    return getattr(verbs["program"], verb)(request, tell)


def main() -> None:
    """Serve one caller until it hangs up."""
    path, requests, replies, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    line = Line(requests, replies, folder)
    builtins.Refused = Refused  # type: ignore[attr-defined]  # what programs raise, without an import of ours
    network = os.environ.get("FERRYMAN_NETWORK", "audited")
    if network != "none":
        forbid_network()
    line.say({"network": network})
    verbs: dict[str, Any] = {}
    while (asked := line.hear()) is not None:
        try:
            if "program" not in verbs:
                verbs["program"] = load(path)
            line.say({"result": answer(verbs, asked["verb"], asked["request"], line.tell)})
        except Refused as error:
            line.say({"refused": str(error), "hint": error.hint})
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a program may fail in any way, and its caller is told
            traceback.print_exc()
            sys.stderr.flush()
            line.say({"failed": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()

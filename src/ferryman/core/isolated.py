"""Have a toolchain's own Python or Node do a step's or a runtime's work: JSON in, JSON and progress out.

The program is cut off from the network where the system allows that, bounded in time and memory, and ends with all
that it started; its death is an error with its last lines.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import InputError, MissingExtra, StepError
from ferryman.core.limits import Limits, held_bytes
from ferryman.core.progress import Progress, silent
from ferryman.core.scratch import scratch_folder
from ferryman.core.signature import Array, Signature, Tensors
from ferryman.core.toolchain import Toolchain, find_toolchain

_HERE = Path(__file__).parent
_LAST_LINES = 12
_LOOK_S = 0.1
_ROOM_BYTES = 512_000_000

_USUAL = Limits()
_SESSION = Limits(time_s=300.0, is_fixed=True)


class Refusal(StepError):
    """Say what a program itself refused: its words are for the user."""


class Worker:
    """Be a program in a process of its own; a context manager. One request at a time."""

    def __init__(
        self, toolchain: Toolchain, program: Path, *, limits: Limits = _USUAL, progress: Progress = silent
    ) -> None:
        toolchain.require()
        self._name = toolchain.name
        self._limits = limits
        self._progress = progress
        self._count = 0
        self._sent: list[Path] = []
        self._pending = b""
        command = _command(toolchain, program)
        with contextlib.ExitStack() as stack:
            self._folder = stack.enter_context(scratch_folder(_roomy_folder(), prefix="ferryman-isolated-"))
            self._log = self._folder / "log"
            self._process = self._start(command, toolchain, stack)
            self._left = stack.pop_all()
        self._is_open = True

    def _start(
        self, command: list[str], toolchain: Toolchain, stack: contextlib.ExitStack
    ) -> "subprocess.Popen[bytes]":
        requests, self._requests = os.pipe()
        stack.callback(os.close, self._requests)
        self._replies, replies = os.pipe()
        stack.callback(os.close, self._replies)
        os.set_blocking(self._requests, False)  # one that doesn't listen is waited for no longer than it may take
        about = [str(requests), str(replies), str(self._folder)]
        words = [sys.executable, "-I", "-S", str(_HERE / "_start.py"), str(os.getpid()), *about]
        try:
            with self._log.open("wb") as log:
                return subprocess.Popen(  # noqa: S603 - the toolchain's own interpreter, our own launcher
                    [*words, *command, *about, str(toolchain.folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    pass_fds=(requests, replies), start_new_session=True, env=_environment(toolchain),
                )  # fmt: skip
        finally:
            os.close(requests)
            os.close(replies)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, verb: str, **request: Any) -> dict[str, Any]:  # JSON, and arrays anywhere in it
        """Call one of the program's functions.

        Raises Refusal for what the program refuses in its own words, StepError where it fails, dies, or takes more
        time or memory than it may.
        """
        if not self._is_open:
            raise StepError(f"{self._name}: this process has ended", hint="start it again")
        deadline = time.monotonic() + self._limits.time_s
        try:
            line = json.dumps({"verb": verb, "request": request}, default=self._send).encode() + b"\n"
            return self._answer(line, deadline)
        except BrokenPipeError:
            raise self._died() from None
        except Refusal:
            raise
        except BaseException:  # also Ctrl-C: what it does now is of no use to anybody
            self.close()
            raise
        finally:
            for path in self._sent:
                path.unlink(missing_ok=True)
            self._sent.clear()

    def close(self) -> None:
        """End the process and all that it started; no call may follow."""
        if not self._is_open:
            return
        self._is_open = False
        with self._left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answer(self, line: bytes, deadline: float) -> dict[str, Any]:
        for message in self._messages(line, deadline):
            if "network" in message:
                if message["network"] != "none":
                    self._progress(f"{self._name}: this system lets a converter use the network (no namespaces here)")
            elif "progress" in message:
                news = message["progress"]
                self._progress(news["stage"], done=news["done"], total=news["total"], note=news["note"])
            elif "refused" in message:
                raise Refusal(f"{self._name}: {message['refused']}", hint=message.get("hint", ""))
            elif "failed" in message:
                raise StepError(f"{self._name} failed: {message['failed']}", hint=self._last_lines())
            else:
                result: dict[str, Any] = message["result"]
                return result
        raise self._died()

    def _messages(self, line: bytes, deadline: float) -> Iterator[dict[str, Any]]:
        """Send a request, give what the program says until it hangs up; raises StepError where it is over a limit."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            selector.register(self._requests, selectors.EVENT_WRITE)
            while True:
                while b"\n" in self._pending:
                    told, _, self._pending = self._pending.partition(b"\n")
                    yield json.loads(told, object_hook=self._receive)
                for key, _ in selector.select(_LOOK_S):
                    if key.fd == self._requests:
                        line = line[os.write(self._requests, line) :]
                        if not line:
                            selector.unregister(self._requests)
                    elif payload := os.read(self._replies, 1 << 20):
                        self._pending += payload
                    else:
                        return
                self._check_limits(deadline)

    def _check_limits(self, deadline: float) -> None:
        what = "request" if self._limits.is_fixed else "step"
        if time.monotonic() > deadline:
            seconds = round(self._limits.time_s, 1) or self._limits.time_s
            raise StepError(
                f"{self._name} was stopped after {seconds:g} s: no {what} may take longer",
                hint=self._way_out("build.step_time_s"),
            )
        held = held_bytes(self._process.pid)
        if held > self._limits.memory_bytes:
            raise StepError(
                f"{self._name} was stopped: it held {held // 1_000_000} MB of the "
                f"{self._limits.memory_bytes // 1_000_000} MB that one {what} may have",
                hint=self._way_out("build.step_memory_mb"),
            )

    def _way_out(self, setting: str) -> str:
        if self._limits.is_fixed:
            return f"no setting allows more: ask for fewer samples at a time, or a larger machine; {self._last_lines()}"
        return f"allow more: {setting}; {self._last_lines()}"

    def _died(self) -> StepError:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            code = 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        told = self._last_lines()
        self.close()
        return StepError(
            f"{self._name} crashed: its process was {how}" if code < 0 else f"{self._name}: its process {how}",
            hint=told,
        )

    def _last_lines(self) -> str:
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        told = [line for line in lines if line.strip()][-_LAST_LINES:]
        return "its last lines:\n  " + "\n  ".join(told) if told else "it said nothing"

    def _send(self, value: object) -> dict[str, Any]:  # JSON
        if not isinstance(value, np.ndarray | np.generic) or value.dtype.hasobject:
            raise TypeError(f"{type(value).__name__} can't be sent")
        array = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
        self._count += 1
        path = self._folder / f"request-{self._count}.bin"
        self._sent.append(path)
        try:
            array.tofile(path)
        except OSError as error:
            raise StepError(
                f"{self._name}: {array.nbytes // 1_000_000} MB can't be written below {self._folder.parent}: {error}",
                hint="make room there (in Docker: --shm-size), or send less: fewer calibration samples",
            ) from error
        return {"$array": {"file": path.name, "dtype": value.dtype.name, "shape": list(value.shape)}}

    def _receive(self, value: dict[str, Any]) -> Any:  # JSON
        if value.keys() != {"$array"}:
            return value
        about = value["$array"]
        path = self._folder / about["file"]
        array = np.fromfile(path, dtype=about["dtype"]).reshape(about["shape"])
        path.unlink()
        return array


@contextlib.contextmanager
def isolated(
    toolchain: str, program: Path, *, limits: Limits = _USUAL, progress: Progress = silent
) -> Iterator[Worker]:
    """Start a program in its toolchain and end it afterwards; raises MissingExtra where the toolchain isn't there."""
    worker = Worker(find_toolchain(toolchain), program, limits=limits, progress=progress)
    try:
        yield worker
    finally:
        worker.close()


class IsolatedSession:
    """Answer with a model that a program holds. `inference_s` is what the engine itself took for the last answer."""

    def __init__(self, signature: Signature, toolchain: str | Toolchain, program: Path, **request: Any) -> None:
        """Start the program and have it load; `request` is what its Model is made of."""
        self.signature = signature
        self.inference_s = 0.0
        self._lock = threading.Lock()
        found = find_toolchain(toolchain) if isinstance(toolchain, str) else toolchain
        self._worker = Worker(found, program, limits=_SESSION)
        try:
            self._worker.ask("load", **request)
        except BaseException:
            self._worker.close()
            raise

    @classmethod
    def holding(cls, artifact: Artifact, toolchain: str, program: Path, **request: Any) -> Self:
        """Start the program and have it load an artifact: it is told its path, and its tensors' names in order."""
        signature = artifact.signature
        return cls(
            signature,
            toolchain,
            program,
            path=str(artifact.path.resolve()),
            inputs=[spec.name for spec in signature.inputs],
            outputs=[spec.name for spec in signature.outputs],
            **request,
        )

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        """Give the outputs in the signature's order; raises InputError for what the engine refuses."""
        self.signature.check(inputs)
        given = {spec.name: np.asarray(inputs[spec.name]) for spec in self.signature.inputs}
        with self._lock:
            try:
                reply = self._worker.ask("infer", inputs=given)
            except Refusal as error:
                raise InputError(str(error), hint=error.hint) from None
            self.inference_s = reply["seconds"]
        return {spec.name: reply["outputs"][spec.name] for spec in self.signature.outputs}

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._worker.close()


def _command(toolchain: Toolchain, program: Path) -> list[str]:
    if program.suffix == ".mjs":
        node = shutil.which("node")
        if node is None:
            raise MissingExtra("Node is not installed", hint="install Node 18 or newer: https://nodejs.org")
        return [node, str(_HERE / "_launch.mjs"), str(program)]
    return [str(toolchain.interpreter), "-u", "-E", "-s", "-P", str(_HERE / "_launch.py"), str(program)]


def _environment(toolchain: Toolchain) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP_", "NODE_", "npm_"))}
    tools = f"{toolchain.folder / 'bin'}{os.pathsep}{kept.get('PATH', os.defpath)}"
    return {
        **kept,
        "PATH": tools,
        "CUDA_VISIBLE_DEVICES": kept.get("CUDA_VISIBLE_DEVICES", ""),
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def _roomy_folder() -> Path:
    """Give memory's own folder, unless there is little room in it: Docker grants 64 MB."""
    shared = Path("/dev/shm")  # noqa: S108 - the folder made in it is ours alone
    if os.access(shared, os.W_OK | os.X_OK) and shutil.disk_usage(shared).free >= _ROOM_BYTES:
        return shared
    return Path(tempfile.gettempdir())

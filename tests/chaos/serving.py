"""Run `ferryman serve` as its users do, and know every process that belongs to it."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.server.running import Running, wait_until

_MARK = "FERRYMAN_CHAOS_MARK"
_READY_S = 90.0


class Serving(Running):
    """Be a running server whose processes can be found, also after its own end."""

    mark: str = ""

    @property
    def port(self) -> int:
        """Give the port that all callers use."""
        return self.host_and_port[1]

    def admin(
        self, method: str, path: str, request: Mapping[str, object] | None = None, *, key: str = ""
    ) -> tuple[int, Any]:
        """Ask at the admin port, with a key where keys are asked for; gives status and JSON."""
        body = None if request is None else json.dumps(request).encode()
        other = Running(self.admin_url, self.process, self.errors)
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        return other.ask(method, path, body, headers)[:2]

    def workers(self) -> list[int]:
        """Give the process ids of its workers."""
        return [pid for pid in family(self.mark) if name_of(pid) == "ferryman-worker"]

    def kill(self) -> None:
        """End the server's own process without a word."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def metric(self, name: str) -> float:
        """Give the value of a metric: what stands behind the name and its labels."""
        lines = self.ask("GET", "/metrics")[1].decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)


def family(mark: str) -> list[int]:
    """Give the ids of all living processes that were started with this mark in their environment."""
    found = []
    wanted = f"{_MARK}={mark}".encode()
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdecimal() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def name_of(pid: int) -> str:
    """Give a process's own name; nothing where it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


@contextmanager
def serving(
    paths: Sequence[Path], *options: str, port: int = 0, environment: Mapping[str, str] | None = None
) -> Iterator[Serving]:
    """Serve until the block ends; nothing may be left of it then, and no traceback in its log."""
    mark = uuid.uuid4().hex
    arguments = ["--json", "--port", str(port), "--admin-port", "0", *options]
    if "--access-log" not in options:
        arguments += ["--access-log", "off"]
    with tempfile.TemporaryDirectory() as folder, Path(folder, "stderr").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "ferryman", "serve", *map(str, paths), *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "error", _MARK: mark, **(environment or {})},
        )
        try:
            told = _first_line(process, Path(errors.name))
            server = Serving(told["url"], process, Path(errors.name), told["admin_url"] or "")
            object.__setattr__(server, "mark", mark)
            yield server
            assert "Traceback" not in server.log(), server.log()
        finally:
            process.kill()
            process.communicate(timeout=20)
            wait_until(lambda: not family(mark))


def _first_line(process: "subprocess.Popen[str]", errors: Path) -> dict[str, Any]:  # JSON
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], _READY_S)
    line = process.stdout.readline() if readable else ""
    assert line, errors.read_text()
    told: dict[str, Any] = json.loads(line)  # JSON
    return told

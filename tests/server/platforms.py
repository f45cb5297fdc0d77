"""Start the real command line as a platform starts a container: by its words and its environment alone."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from tests.server.running import Running, wait_until

_KEPT = ("PATH", "HOME", "LANG", "VIRTUAL_ENV")


@contextmanager
def started_by(
    environment: Mapping[str, str], *, port: int, module: str = "ferryman", within: Sequence[str] = ()
) -> Iterator[Running]:
    """Run `ferryman serve`, or a module in its place, with nothing but this environment until it is ready at `port`.

    `within` is a program that runs it.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    with tempfile.TemporaryDirectory() as folder, Path(folder, "stderr").open("w") as errors:
        process = subprocess.Popen(
            [*within, sys.executable, "-m", module, "serve"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, text=True, cwd="/",
            env={**kept, **environment},
        )  # fmt: skip
        server = Running(f"http://127.0.0.1:{port}", process, Path(errors.name))
        try:
            wait_until(lambda: process.poll() is not None or _is_ready(server))
            assert process.poll() is None, server.log()
            yield server
            assert "Traceback" not in server.log()
        finally:
            process.kill()
            process.wait(10)


def _is_ready(server: Running) -> bool:
    try:
        return server.ask("GET", "/v2/health/ready")[0] == 200
    except (OSError, HTTPException):
        return False

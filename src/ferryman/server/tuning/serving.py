"""A real server process with one choice of settings."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from ferryman.client.load import Address
from ferryman.core.bundle import Choice
from ferryman.core.errors import FerrymanError

SERVE = (sys.executable, "-m", "ferryman", "serve")
_START_S = 60.0
_STOP_S = 15.0
# Between fork and exec nothing but this may run, and a child's own Python is the safest place for it.
_PINNED = (
    "import os,sys; os.sched_setaffinity(0, map(int, sys.argv[1].split(','))); os.execv(sys.argv[2], sys.argv[2:])"
)


@contextmanager
def serving(bundle: Path, choice: Choice, *, cores: Sequence[int], command: Sequence[str] = SERVE) -> Iterator[Address]:
    """Start a server on a free port, wait until it is ready, and stop it at the end.

    Raises FerrymanError with the server's last words where it doesn't become ready.
    """
    words = [
        *command, str(bundle), "--port", "0", "--json", "--quiet", "--threads", str(choice.threads),
        "--instances", str(choice.instances), "--max-batch", str(choice.max_batch), "--unready-s", "0.01",
    ]  # fmt: skip
    pinned = [sys.executable, "-c", _PINNED, ",".join(map(str, cores)), *words] if cores else words
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(pinned, stdout=subprocess.PIPE, stderr=errors, text=True, env=dict(os.environ))  # noqa: S603 - our own program
        try:
            line = _first_line(process)
            if not line:
                errors.seek(0)
                words_said = errors.read().strip()[-400:] or "it said nothing"
                raise FerrymanError(f"the server did not become ready with {describe(choice)}: {words_said}")
            parts = urlsplit(str(json.loads(line)["url"]))
            yield Address(parts.hostname or "127.0.0.1", parts.port or 0)
        finally:
            _stop(process)


def describe(choice: Choice) -> str:
    """Give a choice in words."""
    threads = f"{choice.threads} {'thread' if choice.threads == 1 else 'threads'}"
    instances = f"{choice.instances} {'instance' if choice.instances == 1 else 'instances'}"
    return f"{threads} x {instances}, batches up to {choice.max_batch}"


def _first_line(process: subprocess.Popen[str]) -> str:
    """Give the line that a ready server writes, "" where it ended or took too long."""
    if process.stdout is None or not select.select([process.stdout], [], [], _START_S)[0]:
        return ""
    return process.stdout.readline()


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdout:
            process.stdout.close()

"""A `ferryman serve` in a process of its own, asked over a Unix socket; it ends with the process that started it."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from ferryman.core.errors import DeployError, NotReady
from ferryman.core.scratch import scratch_folder

# Linux ends a child with the thread that started it, where the child asks: a node that is killed leaves no server.
_LEASH = (
    "import ctypes, os, sys\n"
    "if sys.platform == 'linux': ctypes.CDLL(None).prctl(1, 15)\n"
    "if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])\n"
)
_LOADING = "is still loading"
_MUTE = "its server can't be asked"
_LOOK_S = 0.05
_ASK_S = 5.0
_LAST_LINES = 12
_STOP_S = 45.0  # the server's own drain is shorter
_READY = "/v2/health/ready"
# Of one connection, not of the request (RFC 9110, section 7.6.1), or told anew on the next one. Ray gives every request
# an x-request-id, and every answer: the server would take it for the caller's own, and answer with an "id".
_OWN = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "host",
     "content-length", "date", "server", "x-request-id")
)  # fmt: skip


class Serving:
    """Serve one bundle; `wait` until it answers its golden samples right, `pass_on` requests, `stop` in the end."""

    def __init__(
        self,
        bundle: str,
        *,
        python: str,
        options: Sequence[str] = (),
        tell: Callable[[str], None] = print,
        on_stop: Callable[[], object] = bool,
    ) -> None:
        self._on_stop = on_stop
        self._left = contextlib.ExitStack()
        folder = self._left.enter_context(scratch_folder(Path(tempfile.gettempdir()), prefix="ferryman-ray-"))
        self._path = folder / "socket"
        self._tell = tell
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._process: subprocess.Popen[str] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._stopping = threading.Lock()
        command = [
            python or sys.executable, "-m", "ferryman", "serve", bundle, "--host", f"unix:{self._path}",
            "--access-log", "off", *options,
        ]  # fmt: skip
        self._started = threading.Event()
        self._minder = threading.Thread(target=self._mind, args=(command,), name="ferryman-serve", daemon=True)
        self._minder.start()
        self._started.wait()

    def wait(self, limit_s: float) -> None:
        """Return once it answers its golden samples right; raises DeployError with the reason where it won't."""
        end_s = time.monotonic() + limit_s
        while reason := self.why_not_ready():
            is_over = time.monotonic() > end_s
            may_come = reason.endswith(_LOADING) or reason.startswith(_MUTE)  # it listens before it has time to answer
            if is_over or not self._is_alive or not may_come:
                if not self._is_alive:
                    self._minder.join(_LOOK_S)  # its last lines may still be on their way
                said = "" if self._is_alive else "\n" + "\n".join(self._last)
                raise DeployError(f"{reason}{said}", hint="`ferryman verify` says more of the bundle")
            time.sleep(_LOOK_S)

    def why_not_ready(self) -> str:
        """Give the reason why it gets no requests, or nothing; blocks for a moment."""
        if not self._is_alive:
            return "its server has ended"
        if not self._path.exists():  # Python is still importing
            return f"its server {_LOADING}"
        return _ask_ready(self._path)

    async def pass_on(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """Give the server's answer as it is: status, headers and body; raises NotReady where it has none."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                "http://localhost", connector=aiohttp.UnixConnector(str(self._path), limit=0), auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                timeout=aiohttp.ClientTimeout(total=None), cookie_jar=aiohttp.DummyCookieJar(),
            )  # fmt: skip
        try:
            async with self._session.request(
                method, path, headers=_forwarded(headers), data=body or None, allow_redirects=False
            ) as answer:
                return answer.status, _forwarded(answer.headers), await answer.read()
        except aiohttp.ClientError as error:
            raise NotReady(f"the model's server gave no answer: {error}", hint="ask again") from None

    def stop(self) -> None:
        """Let it finish what it has, end it and free everything; may be called twice."""
        self._on_stop()
        with self._stopping:
            process, self._process = self._process, None
            if process is not None:
                process.terminate()
                try:
                    process.wait(_STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
            self._left.close()

    def __del__(self) -> None:
        """Stop: Ray calls this for a model that makes room."""
        self.stop()

    def digests(self) -> dict[str, str]:
        """Give the digest of each bundle that it serves, by name."""
        names = [str(row["name"]) for row in self._page("/v2/repository/index")]
        return {name: str(self._page(f"/v2/models/{name}")["parameters"]["digest"]) for name in names}

    def _page(self, address: str) -> Any:  # JSON
        status, body = _get(self._path, address)
        if status != http.client.OK:
            raise DeployError(
                f"its server answers {status} at {address}: the digest can't be checked",
                hint="leave --keys, --jwt and the like out of options: what stands before the cluster checks them",
            )
        return json.loads(body)

    @property
    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _mind(self, command: Sequence[str]) -> None:
        """Start the server and pass on what it says until it ends; this thread lives as long as it does."""
        leash = [command[0], "-I", "-S", "-c", _LEASH, str(os.getpid()), *command]
        try:
            process = self._process = subprocess.Popen(  # noqa: S603 - a list of words, no shell
                leash, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8",
                errors="replace",
            )  # fmt: skip
        except OSError as error:
            self._last.append(f"{command[0]}: {error.strerror or error}")
            return
        finally:
            self._started.set()
        with process:
            for line in process.stderr or ():
                self._last.append(line.rstrip())
                self._tell(line.rstrip())


def _forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _OWN}


def _ask_ready(path: Path) -> str:
    """Give why the server at a Unix socket is not ready, in its own words."""
    try:
        status, body = _get(path, _READY)
    except OSError as error:
        return f"{_MUTE}: {error}"
    if status == http.client.OK:
        return ""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return f"its server answers {status}"


def _get(path: Path, address: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("localhost", timeout=_ASK_S)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(connection):
        connection.sock.settimeout(_ASK_S)
        connection.sock.connect(str(path))
        connection.request("GET", address)
        answer = connection.getresponse()
        return answer.status, answer.read()

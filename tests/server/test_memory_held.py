"""What a server holds of requests that are answered: nothing."""

import subprocess
import sys
from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from tests.bundle.making import bundle_affine
from tests.server.running import Running, running

_ROWS = 350_000  # of three float32: 4.2 MB
_REQUESTS = 30
_VALUES = np.ones((_ROWS, 3), "<f4").tobytes()
_HEAD = (
    b'{"inputs": [{"name": "values", "datatype": "FP32", "shape": [%d, 3], "parameters": {"binary_data_size": %d}}],'
    b' "parameters": {"binary_data_output": true}}' % (_ROWS, len(_VALUES))
)
_HEADERS = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(_HEAD))}


@pytest.mark.parametrize("connections", [1, _REQUESTS])
def test_the_body_of_an_answered_request_is_freed_at_once(tmp_path: Path, connections: int) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    with running([bundle.path]) as server:
        opened = [HTTPConnection(server.address, timeout=30) for _ in range(connections)]
        try:
            assert _ask(opened[0]) == 200
            before = _own_bytes(server)
            assert {_ask(opened[number % connections]) for number in range(_REQUESTS)} == {200}
            # Held until the collector comes, or until their connections close, they would be 130 MB.
            assert _own_bytes(server) - before < 8 * len(_VALUES)
        finally:
            for connection in opened:
                connection.close()


_FREED_AMID = """
from pathlib import Path
from ferryman.server.data.worker.memory import give_back_memory

def own_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))

blocks = [b"x" * 100_000 for _ in range(1000)]
kept = blocks[-1]  # above all that is freed: the C library can't shrink its heap by itself
del blocks
before = own_bytes()
give_back_memory()
print(before - own_bytes())
"""


def test_memory_that_is_freed_amid_what_is_in_use_is_given_back() -> None:
    command = [sys.executable, "-c", _FREED_AMID]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 50_000_000


_TIDYING = """
import os, signal, sys, threading
from pathlib import Path
from http.client import HTTPConnection
from ferryman.server import app
from ferryman.server.settings import ServerSettings

told = threading.Event()

def give_back():
    if not told.is_set():
        print(threading.current_thread() is threading.main_thread(), flush=True)
    told.set()

def ask(url):
    connection = HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.request("POST", "/v2/models/affine/infer", bytes(8 << 20), {"Content-Type": "application/json"})
    connection.getresponse().read()
    told.wait(20)
    os.kill(os.getpid(), signal.SIGTERM)

app.give_back_memory = give_back
settings = ServerSettings(port=0, access_log="off")
app.serve([Path(sys.argv[1])], settings, lambda url, _: threading.Thread(target=ask, args=(url,)).start())
"""


def test_giving_memory_back_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    command = [sys.executable, "-c", _TIDYING, str(bundle.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["False"], done


def _ask(connection: HTTPConnection, body: bytes = _HEAD + _VALUES, headers: Mapping[str, str] = _HEADERS) -> int:
    connection.request("POST", "/v2/models/affine/infer", body, dict(headers))
    response = connection.getresponse()
    response.read()
    return response.status


def _own_bytes(server: Running) -> int:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))

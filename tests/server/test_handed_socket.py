"""A server behind a socket that its service manager holds: restarts keep every caller."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

from tests.bundle.making import bundle_model, make_table_model

ROW = b'{"rows": [{"width": 1, "height": 2, "weight": 0.5}]}'
# The descriptor becomes number 3, and the server's own number stands in LISTEN_PID: what systemd does.
STARTER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "NOTIFY_SOCKET": sys.argv[2]}
words = [sys.executable, "-m", "ferryman", "serve", sys.argv[3], "--host", "systemd", "--admin-port", "off"]
os.execv(sys.executable, [*words, "--quiet", "--access-log", "off"])
"""


def start(listening: socket.socket, manager: Path, bundle: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", STARTER, str(listening.fileno()), str(manager), str(bundle)]
    return subprocess.Popen(command, pass_fds=[listening.fileno()])


def ask(port: int, ended: threading.Event, found: list[int | str]) -> None:
    while not ended.is_set():
        caller = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            caller.request("POST", "/v2/models/table/infer", ROW)
            found.append(caller.getresponse().status)
        except OSError as error:
            found.append(repr(error))
        finally:
            caller.close()


def test_a_restart_keeps_every_caller_and_the_manager_hears_of_it(tmp_path: Path) -> None:
    columns = ["width", "height", "weight"]
    row = {"width": 1.0, "height": 2.0, "weight": 0.5}
    task = {"kind": "tabular", "columns": columns, "labels": ["a", "b"]}
    bundle = bundle_model(tmp_path / "table", make_table_model(tmp_path), task, [row], name="table").path
    place, ended, found = tmp_path / "notify", threading.Event(), list[int | str]()
    with (
        socket.create_server(("127.0.0.1", 0), backlog=128) as listening,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(str(place))
        manager.settimeout(60)
        callers = [threading.Thread(target=ask, args=(listening.getsockname()[1], ended, found)) for _ in range(4)]
        first = start(listening, place, bundle)
        for caller in callers:  # they wait from before there is anybody to answer
            caller.start()
        assert manager.recv(100) == b"READY=1"
        os.kill(first.pid, signal.SIGTERM)
        assert first.wait(60) == 0
        assert manager.recv(100) == b"STOPPING=1"
        second = start(listening, place, bundle)
        assert manager.recv(100) == b"READY=1"
        ended.set()
        for caller in callers:
            caller.join(60)
        os.kill(second.pid, signal.SIGTERM)
        assert second.wait(60) == 0
    assert len(found) > len(callers)
    assert set(found) == {200}

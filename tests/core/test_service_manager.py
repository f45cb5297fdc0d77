"""Sockets and news between a service and what started it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ferryman.core.errors import UserError
from ferryman.core.service_manager import handed_socket, notify, watchdog_s

# What systemd does: the socket is descriptor 3, and the process that is started finds its own number in LISTEN_PID.
STARTER = """
import os, socket, sys
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
os.dup2(listening.fileno(), 3)
os.set_inheritable(3, True)  # also where it was number 3 already
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
SERVICE = """
from ferryman.core.service_manager import handed_socket
connection, _ = handed_socket().accept()
connection.sendall(b"answered")
"""


def test_a_service_answers_at_the_socket_that_was_opened_for_it() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER, SERVICE], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        port = int(started.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=30) as caller:  # before the service accepts
            assert caller.recv(100) == b"answered"


@pytest.mark.parametrize("given", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_FDS": "2"}])
def test_a_socket_that_is_not_for_this_process_is_not_taken(given: dict[str, str]) -> None:
    with pytest.raises(UserError, match="no service manager handed a socket over") as caught:
        handed_socket({"LISTEN_PID": str(os.getpid())} | given)
    assert "ListenStream=" in caught.value.hint


def test_news_reach_the_manager_and_a_missing_one_stops_nothing(tmp_path: Path) -> None:
    place = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(place)
        notify("READY=1", {"NOTIFY_SOCKET": place})
        assert manager.recv(100) == b"READY=1"
    notify("READY=1", {"NOTIFY_SOCKET": place})
    notify("READY=1", {})


def test_the_watchdog_hears_three_times_as_often_as_it_asks() -> None:
    assert watchdog_s({"WATCHDOG_USEC": "30000000"}) == 10
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    assert watchdog_s({}) is None

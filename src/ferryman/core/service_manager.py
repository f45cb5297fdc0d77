"""Speak with systemd, or whatever else starts services as it does: sockets handed over, and how the service is.

The protocols are those of sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3): three environment variables and a
datagram, so that nothing has to be installed for them.
"""

import contextlib
import os
import socket
from collections.abc import Mapping

from ferryman.core.errors import UserError

HANDED = "systemd"
"""The host of a server that listens at a socket which was handed over to it."""

NOT_READY = "not ready: "
"""What a status begins with that says why a server is up and doesn't answer."""

_FIRST_FD = 3
_SHARE_OF_WATCHDOG = 3  # how often in the time that the manager waits


def handed_socket(environment: Mapping[str, str] = os.environ) -> socket.socket:
    """Give the listening socket that the service manager opened; raises UserError where it gave none, or several."""
    if environment.get("LISTEN_PID") != str(os.getpid()) or environment.get("LISTEN_FDS") != "1":
        raise UserError(
            "no service manager handed a socket over",
            hint="--host systemd is for a service that a socket unit starts, with one ListenStream=",
        )
    os.set_inheritable(_FIRST_FD, False)
    return socket.socket(fileno=_FIRST_FD)


def notify(state: str, environment: Mapping[str, str] = os.environ) -> None:
    """Tell the service manager, where there is one: "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=words"."""
    place = environment.get("NOTIFY_SOCKET", "")
    if not place.startswith(("/", "@")):
        return
    address = "\0" + place[1:] if place.startswith("@") else place
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
        teller.setblocking(False)  # a manager that doesn't listen must not stop a server
        teller.sendto(state.encode(), address)


def watchdog_s(environment: Mapping[str, str] = os.environ) -> float | None:
    """Give how often the manager wants to hear "WATCHDOG=1", in seconds; None where it doesn't."""
    wanted, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
    if not wanted.isdigit() or pid != str(os.getpid()):
        return None
    return int(wanted) / 1e6 / _SHARE_OF_WATCHDOG

"""Ports that stay free until a server takes them."""

import random
import socket
from contextlib import ExitStack


def free_port() -> int:
    """Give a free port of 127.0.0.1 that the system gives to no connection by itself."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Give so many of them, one beside the other.

    Of those that the system does give to connections any may be gone a moment later: to another test's client, or to
    one that asks the very port until somebody listens there, and so connects to itself.
    """
    for first in random.sample(range(20_000, 32_000), 1_000):
        ports = list(range(first, first + count))
        with ExitStack() as tried:
            try:
                for port in ports:
                    tried.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return ports
    raise AssertionError("no free port")

"""Ask the server of this container whether it is ready: `python -m ferryman.client.health`, exit code 0 or 1.

For health checks without a shell or curl. It imports nothing heavy: it may run every few seconds.
"""

import os
import socket
import sys
from collections.abc import Mapping, Sequence

PORTS = ("AIP_HTTP_PORT", "PORT")
"""The variables in which platforms tell a container its port."""

_USUAL_PORT = 8080
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what servers listen on
_WAIT_S = 5.0


def is_service_link(value: str) -> bool:
    """Tell that Kubernetes made a variable of a Service's name: one called ferryman gives FERRYMAN_PORT=tcp://..."""
    return value.startswith(("tcp://", "udp://", "sctp://"))


def find_port(environment: Mapping[str, str]) -> int:
    """Give the port that `ferryman serve` takes in this environment; raises ValueError for what is none."""
    values = [environment.get(name, "") for name in ("FERRYMAN_PORT", *PORTS)]
    return next((int(value) for value in values if value and not is_service_link(value)), _USUAL_PORT)


def is_healthy(environment: Mapping[str, str], *, path: str = "/v2/health/ready", wait_s: float = _WAIT_S) -> bool:
    """Ask the server that was started in this environment; raises OSError where none answers in time."""
    host = environment.get("FERRYMAN_HOST", "")
    with _connect(host, find_port(environment), wait_s) as link:
        if environment.get("FERRYMAN_TLS_CERT"):
            link = _secured(link)
        link.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode())
        return link.recv(64).split(b" ")[1:2] == [b"200"]


def _connect(host: str, port: int, wait_s: float) -> socket.socket:
    if host.startswith("unix:"):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(wait_s)
        link.connect(host.removeprefix("unix:"))
        return link
    return socket.create_connection((_EVERYWHERE.get(host, host), port), timeout=wait_s)


def _secured(link: socket.socket) -> socket.socket:
    import ssl  # 15 ms, and few containers need it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is this container's own server
    return context.wrap_socket(link)


def main(words: Sequence[str]) -> int:
    """Tell on stderr what is wrong; `--live` asks only whether the process answers."""
    path = "/v2/health/live" if "--live" in words else "/v2/health/ready"
    try:
        if is_healthy(os.environ, path=path):
            return 0
        reason = "not ready"
    except (OSError, ValueError) as error:
        reason = str(error)
    sys.stderr.write(f"unhealthy: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

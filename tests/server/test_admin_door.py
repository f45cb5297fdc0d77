"""The admin's port is for this machine, and for nobody's web page."""

import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.bundle.making import bundle_affine
from tests.server.running import Running, running, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    with running([bundle_affine(tmp_path / "bundle").path], admin_port=0, cors=["https://app.example"]) as one:
        yield one


def ask_admin(server: Running, path: str, headers: dict[str, str], method: str = "POST") -> int:
    connection = HTTPConnection(urlsplit(server.admin_url).netloc, timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", "0")
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8081", "127.0.0.1.evil.example", "[::2]:80"])
def test_a_name_that_was_made_to_lead_here_is_refused(server: Running, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert ask_admin(server, "/v2/repository/models/affine/unload", headers) == 403
    assert ask_admin(server, "/admin/status", {"Host": host}, "GET") == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8081", "[::1]:8081", "LOCALHOST"])
def test_this_machine_by_its_own_name_is_answered(server: Running, host: str) -> None:
    assert ask_admin(server, "/admin/status", {"Host": host}, "GET") == 200


def test_a_site_that_may_ask_may_not_steer(server: Running) -> None:
    assert ask_admin(server, "/v2/repository/models/affine/unload", {"Origin": "https://app.example"}) == 403
    assert server.ask("GET", "/v2/models/affine/ready")[0] == 200


def test_figures_of_connections_and_refusals_are_those_of_both_ports(server: Running) -> None:
    def told() -> str:
        return str(server.ask("GET", "/metrics")[1].decode())

    admin = urlsplit(server.admin_url)
    with socket.create_connection((admin.hostname, admin.port)), socket.create_connection(server.host_and_port):
        wait_until(lambda: "ferryman_connections 3" in told())  # with the one that asks
    for address in ((admin.hostname, admin.port), server.host_and_port):
        with socket.create_connection(address) as link:
            link.sendall(b"broken\r\n\r\n")
            assert link.recv(12) == b"HTTP/1.1 400"
    assert 'ferryman_refused_total{status="400"} 2' in told()

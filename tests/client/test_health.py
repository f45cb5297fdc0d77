"""A container's health check: exit code 0 or 1, by the environment that the server has, with nothing heavy imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from ferryman.client.health import find_port
from tests.bundle.making import bundle_affine
from tests.ports import free_port
from tests.server.running import running
from tests.server.test_life import with_wrong_golden

HEAVY = ("numpy", "pydantic", "ssl", "http", "asyncio", "logging", "json", "argparse", "urllib", "email")


def check(*words: str, **environment: str) -> tuple[int, str]:
    told = subprocess.run(
        [sys.executable, "-m", "ferryman.client.health", *words], env=environment, capture_output=True, text=True,
        timeout=30, check=False,
    )  # fmt: skip
    return told.returncode, told.stderr


def test_a_ready_server_is_healthy_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    with running([bundle_affine(tmp_path / "bundle").path]) as server:
        port = str(server.host_and_port[1])
        for environment in ({"PORT": port}, {"AIP_HTTP_PORT": port, "PORT": "1"}, {"FERRYMAN_PORT": port}):
            assert check(**environment) == (0, "")
            assert check(FERRYMAN_HOST="0.0.0.0", **environment) == (0, "")
    code, told = check(PORT=port)
    assert code == 1 and told.startswith("unhealthy: ")


def test_a_server_whose_model_answers_wrong_is_alive_and_not_healthy(tmp_path: Path) -> None:
    with running([with_wrong_golden(tmp_path).path], is_ready=False) as server:
        port = str(server.host_and_port[1])
        assert check(PORT=port) == (1, "unhealthy: not ready\n")
        assert check("--live", PORT=port) == (0, "")


def test_a_socket_path_is_asked_too(tmp_path: Path) -> None:
    host = f"unix:{tmp_path}/at"
    with running([bundle_affine(tmp_path / "bundle").path], host=host):
        assert check(FERRYMAN_HOST=host) == (0, "")


def test_a_server_with_tls_is_asked_so(tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / "key", "-out",
         tmp_path / "cert", "-subj", "/CN=localhost", "-days", "1"],
        check=True, capture_output=True,
    )  # fmt: skip
    bundle = bundle_affine(tmp_path / "bundle").path
    with running([bundle], tls_cert=tmp_path / "cert", tls_key=tmp_path / "key") as server:
        port = str(server.host_and_port[1])
        assert check(PORT=port, FERRYMAN_TLS_CERT=str(tmp_path / "cert")) == (0, "")
        assert check(PORT=port)[0] == 1, "plain HTTP is not spoken there"


def test_a_port_that_is_none_is_told() -> None:
    code, told = check(PORT="http")
    assert code == 1 and "'http'" in told


@pytest.mark.parametrize("link", ["tcp://10.0.0.7:8080", "udp://10.0.0.7:8080"])
def test_a_service_of_our_name_is_not_taken_for_the_port(link: str) -> None:
    assert find_port({"FERRYMAN_PORT": link}) == 8080


def test_nothing_heavy_is_imported() -> None:
    code = f"import sys, ferryman.client.health; print([name for name in {HEAVY} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
    assert check(PORT=str(free_port()))[0] == 1

"""What is rendered for Compose."""

from typing import Any

import pytest
import yaml

from ferryman.core.errors import ConfigError
from tests.targets.making import IMAGE, render, target

FRONT = {"front": "haproxy:3.2", "replicas": 3}


def whole(**section: Any) -> dict[str, Any]:  # TOML; YAML
    found: dict[str, Any] = yaml.safe_load(render("compose", section)["compose.yaml"])
    return found


def test_the_server_may_write_nowhere_and_has_the_contracts_limits() -> None:
    server = whole()["services"]["server"]
    assert server["image"] == IMAGE
    assert (server["read_only"], server["cap_drop"], server["user"]) == (True, ["ALL"], "65532:65532")
    assert server["mem_limit"] == server["memswap_limit"] == 512 * 1024 * 1024
    assert server["cpus"] == 1.0
    assert server["restart"] == "unless-stopped"
    assert server["healthcheck"]["test"][0] == "CMD", "there is no shell in the image"
    assert int(server["stop_grace_period"].removesuffix("s")) > 5 + 25


def test_one_copy_has_the_hosts_port_itself() -> None:
    services = whole(address="0.0.0.0:9000")["services"]
    assert list(services) == ["server"]
    assert services["server"]["ports"] == ["0.0.0.0:9000:8080"]


def test_several_copies_stand_behind_a_front_that_asks_whether_they_are_ready() -> None:
    files = render("compose", FRONT)
    services = yaml.safe_load(files["compose.yaml"])["services"]
    assert (services["server"]["scale"], "ports" in services["server"]) == (3, False)
    assert services["front"]["ports"] == ["127.0.0.1:8080:8080"]
    assert "option httpchk GET /v2/health/ready" in files["haproxy.cfg"]
    assert "server-template copy 1-32 server:8080" in files["haproxy.cfg"]


def test_a_change_of_the_fronts_configuration_makes_another_container(monkeypatch: pytest.MonkeyPatch) -> None:
    before = whole(**FRONT)["services"]["front"]["labels"]
    monkeypatch.setattr("ferryman.targets.compose_file._HAPROXY", "global\n")
    assert whole(**FRONT)["services"]["front"]["labels"] != before


def test_secrets_are_files_that_only_the_server_gets() -> None:
    found = whole(keys="/etc/ferryman/keys.json")
    assert found["secrets"] == {"keys": {"file": "/etc/ferryman/keys.json"}}
    assert found["services"]["server"]["secrets"] == [{"source": "keys", "target": "keys"}]
    assert found["services"]["server"]["command"][-2:] == ["--keys", "/run/secrets/keys"]


@pytest.mark.parametrize(
    ("section", "said"), [({"replicas": 2}, "need front"), ({"address": "8080"}, "targets.compose.address")]
)
def test_settings_that_do_not_fit_are_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        target("compose", **section)

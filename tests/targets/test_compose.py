"""What is rendered for Compose."""

import json
import subprocess
from pathlib import Path
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


@pytest.mark.tool("docker-compose")
def test_a_dollar_of_the_settings_is_no_variable(tmp_path: Path) -> None:
    odd = "50% $HOME ${HOME} $$ ${"
    file = tmp_path / "compose.yaml"
    file.write_text(render("compose", {"env": {"ODD": odd}, "options": ["--cors", odd]})["compose.yaml"])
    words = ["docker-compose", "--file", str(file), "config", "--format", "json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    server = json.loads(done.stdout)["services"]["server"]
    # What `config` writes is a Compose file again.
    said = [server["environment"]["ODD"], server["command"][-1]]
    assert [text.replace("$$", "$") for text in said] == [odd, odd]


@pytest.mark.parametrize(
    ("section", "said"), [({"replicas": 2}, "need front"), ({"address": "8080"}, "targets.compose.address")]
)
def test_settings_that_do_not_fit_are_refused(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        target("compose", **section)

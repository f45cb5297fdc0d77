import base64
import json
from pathlib import Path

import pytest

from ferryman.core.errors import RegistryError
from ferryman.oci.auth import Credentials, find_credentials


def write(file: Path, config: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(config))
    return file


def basic(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_dockers_file_is_read_where_docker_config_says(tmp_path: Path) -> None:
    write(tmp_path / "config.json", {"auths": {"r.example:5000": basic("ada", "a:b")}})
    environment = {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path / "nobody")}
    assert find_credentials("r.example:5000", environment=environment) == Credentials("ada", "a:b")
    assert find_credentials("r.example", environment=environment) is None


def test_the_named_file_is_the_only_one(tmp_path: Path) -> None:
    write(tmp_path / ".docker" / "config.json", {"auths": {"r.example": basic("docker", "d")}})
    write(tmp_path / "run" / "containers" / "auth.json", {"auths": {"r.example": basic("podman", "p")}})
    environment = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    assert find_credentials("r.example", environment=environment) == Credentials("podman", "p")
    named = write(tmp_path / "named.json", {"auths": {}})
    assert find_credentials("r.example", environment={**environment, "REGISTRY_AUTH_FILE": str(named)}) is None


def test_a_repositorys_own_entry_goes_before_its_hosts(tmp_path: Path) -> None:
    auths = {
        "r.example": basic("all", "1"),
        "r.example/team": basic("team", "2"),
        "https://old.example/v1/": basic("o", "3"),
    }
    environment = {"REGISTRY_AUTH_FILE": str(write(tmp_path / "a.json", {"auths": auths}))}
    assert find_credentials("r.example", "team/model", environment=environment) == Credentials("team", "2")
    assert find_credentials("r.example", "teams/model", environment=environment) == Credentials("all", "1")
    assert find_credentials("old.example", "x", environment=environment) == Credentials("o", "3")


def test_docker_hub_is_found_by_its_old_address(tmp_path: Path) -> None:
    auths = {"https://index.docker.io/v1/": {"auth": "", "identitytoken": "refresh"}}
    environment = {"REGISTRY_AUTH_FILE": str(write(tmp_path / "a.json", {"auths": auths}))}
    assert find_credentials("docker.io", environment=environment) == Credentials(identity_token="refresh")


def helper(folder: Path, name: str, body: str) -> None:
    file = folder / f"docker-credential-{name}"
    file.write_text(f"#!/bin/sh\nread server\n{body}\n")
    file.chmod(0o755)


def test_credential_helpers_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    helper(tmp_path, "one", 'echo "{\\"Username\\": \\"u-$server\\", \\"Secret\\": \\"s\\"}"')
    helper(tmp_path, "all", 'echo \'{"Username": "<token>", "Secret": "t"}\'')
    helper(tmp_path, "none", "echo credentials not found in native keychain; exit 1")
    config = {"credHelpers": {"r.example": "one", "empty.example": "none"}, "credsStore": "all"}
    environment = {"REGISTRY_AUTH_FILE": str(write(tmp_path / "a.json", config))}
    assert find_credentials("r.example", environment=environment) == Credentials("u-r.example", "s")
    assert find_credentials("other.example", environment=environment) == Credentials(identity_token="t")
    assert find_credentials("empty.example", environment=environment) is None


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"credsStore": "missing-one"}, "docker-credential-missing-one, which is not installed"),
        ({"credsStore": "../../bin/sh"}, "not installed"),
        ({"auths": {"r.example": {"auth": "%%%"}}}, "not base64"),
        ([], "not a docker config"),
    ],
)
def test_a_config_that_cannot_work_says_why(tmp_path: Path, config: object, says: str) -> None:
    environment = {"REGISTRY_AUTH_FILE": str(write(tmp_path / "a.json", config))}
    with pytest.raises(RegistryError, match=says):
        find_credentials("r.example", environment=environment)


def test_a_helper_that_fails_says_what_it_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    helper(tmp_path, "bad", "echo the vault is shut >&2; exit 3")
    environment = {"REGISTRY_AUTH_FILE": str(write(tmp_path / "a.json", {"credsStore": "bad"}))}
    with pytest.raises(RegistryError, match="the vault is shut"):
        find_credentials("r.example", environment=environment)


def test_secrets_are_not_shown() -> None:
    assert "hidden" not in repr(Credentials("ada", "hidden", "hidden"))

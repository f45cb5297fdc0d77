"""Find who we are to a registry in the files that docker and podman keep, and by their credential helpers."""

import base64
import binascii
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ferryman.core.errors import RegistryError
from ferryman.oci.reference import HUB

_HUB_KEY = "https://index.docker.io/v1/"
_HELPER = re.compile(r"[A-Za-z0-9._-]+")
_HELPER_TIMEOUT_S = 60
_TOKEN_USER = "<token>"  # noqa: S105 - what helpers say instead of a user's name, where the secret is an identity token


@dataclass(frozen=True, slots=True)
class Credentials:
    """Hold a user's name and password, or an identity token that is exchanged for access tokens."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """Give the value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


def find_credentials(
    host: str, repository: str = "", *, environment: Mapping[str, str] = os.environ
) -> Credentials | None:
    """Give what the usual files know of a registry, or None.

    Read are the file of $REGISTRY_AUTH_FILE alone, where that is set; else $DOCKER_CONFIG/config.json, podman's
    auth.json in $XDG_RUNTIME_DIR/containers and ~/.config/containers, and ~/.docker/config.json: the first that knows
    the host. Raises RegistryError for a file that can't be read, or a helper that is missing or fails.
    """
    for file in _files(environment):
        if (found := _look_in(file, host, repository)) is not None:
            return found
    return None


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    if named := environment.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
        return
    home = Path(environment.get("HOME") or "/nonexistent")
    if folder := environment.get("DOCKER_CONFIG"):
        yield Path(folder) / "config.json"
    if folder := environment.get("XDG_RUNTIME_DIR"):
        yield Path(folder) / "containers" / "auth.json"
    yield Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "containers" / "auth.json"
    if not environment.get("DOCKER_CONFIG"):
        yield home / ".docker" / "config.json"


def _look_in(file: Path, host: str, repository: str) -> Credentials | None:
    try:
        raw = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise RegistryError(f"{file} can't be read: {error}", hint="log in again, or remove it") from None
    if not isinstance(raw, dict):
        raise RegistryError(f"{file} is not a docker config", hint="log in again, or remove it")
    helpers = _table(raw, "credHelpers")
    for key in _keys(host, ""):
        if key in helpers:
            return _ask_helper(str(helpers[key]), key)
    if (store := raw.get("credsStore")) and (found := _ask_helper(str(store), _server(host))) is not None:
        return found
    entries = {_plain(key): entry for key, entry in _table(raw, "auths").items()}
    found_entries = (entries[key] for key in _keys(host, repository) if key in entries)
    return next((one for entry in found_entries if (one := _parse(entry, file)) is not None), None)


def _keys(host: str, repository: str) -> list[str]:
    """List what an entry may be called, the most particular first: podman keeps one per repository, too."""
    parts = repository.split("/") if repository else []
    hosts = [HUB, "index.docker.io", "registry-1.docker.io"] if host == HUB else [host]
    return [f"{one}/{'/'.join(parts[:count])}" for count in range(len(parts), 0, -1) for one in hosts] + hosts


def _plain(key: str) -> str:
    """Take from a key what older tools wrote around the host."""
    key = re.sub(r"^https?://", "", key).rstrip("/")
    return re.sub(r"/v[12]$", "", key)


def _server(host: str) -> str:
    return _HUB_KEY if host == HUB else host


def _parse(entry: Any, file: Path) -> Credentials | None:  # JSON
    if not isinstance(entry, Mapping):
        return None
    if token := entry.get("identitytoken"):
        return Credentials(identity_token=str(token))
    if entry.get("auth"):
        try:
            username, colon, password = base64.b64decode(str(entry["auth"])).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise RegistryError(f"{file} holds an 'auth' that is not base64 of user:password", hint="log in again")
        return Credentials(username, password.rstrip("\0"))
    if entry.get("username"):
        return Credentials(str(entry["username"]), str(entry.get("password") or ""))
    return None


def _ask_helper(name: str, server: str) -> Credentials | None:
    """Run docker-credential-NAME (protocol: docker/docker-credential-helpers); one that knows nothing gives None."""
    program = f"docker-credential-{name}"
    found = shutil.which(program) if _HELPER.fullmatch(name) else None
    if found is None:
        raise RegistryError(
            f"the docker config wants {program}, which is not installed", hint="install it, or log in again"
        )
    try:
        done = subprocess.run(  # noqa: S603 - the program that the user's own config names
            [found, "get"], input=server, capture_output=True, text=True, timeout=_HELPER_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryError(f"{program} gives no answer: {error}", hint=f"try: echo {server} | {program} get") from None
    said = (done.stdout + done.stderr).strip()
    if done.returncode:
        if "not found" in said.lower():
            return None
        raise RegistryError(f"{program} failed: {said:.200}", hint=f"try: echo {server} | {program} get")
    try:
        raw = json.loads(done.stdout)
        username, secret = str(raw["Username"]), str(raw["Secret"])
    except (ValueError, KeyError, TypeError):
        raise RegistryError(f"{program} gives no credentials", hint=f"try: echo {server} | {program} get") from None
    if not secret:
        return None
    return Credentials(identity_token=secret) if username == _TOKEN_USER else Credentials(username, secret)


def _table(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:  # JSON
    found = raw.get(key)
    return found if isinstance(found, Mapping) else {}

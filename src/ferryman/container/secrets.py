"""Find what looks like a secret in an image: simple rules over names, variables and small files; no proof of none."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

_MOST_BYTES = 128 * 1024
_NAMES = {
    ".env", ".netrc", ".pypirc", ".npmrc", ".git-credentials", ".pgpass", ".htpasswd", "id_rsa", "id_dsa", "id_ecdsa",
    "id_ed25519", "cosign.key", "kubeconfig",
}  # fmt: skip
_ENDINGS = (".aws/credentials", ".docker/config.json", ".kube/config", "containers/auth.json")
_CONTENT = {
    "a private key": re.compile(rb"^-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s*$[\sA-Za-z0-9+/=:,-]{64}", re.MULTILINE),
    "an AWS access key": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})"),
    "a GitLab token": re.compile(rb"\bglpat-[A-Za-z0-9_-]{20}\b"),
    "a Slack token": re.compile(rb"\bxox[baprs]-[0-9A-Za-z-]{20,}"),
}
_VARIABLE = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL", re.IGNORECASE)
_ASSIGNED = re.compile(rf"\b(\w*(?:{_VARIABLE.pattern})\w*)=(\S+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Leak:
    """Say where something looks like which kind of secret; never the secret itself."""

    where: str
    what: str


def scan_env(pairs: Iterable[str]) -> list[Leak]:
    """Look at the variables that an image sets."""
    named = (pair.partition("=") for pair in pairs)
    return [Leak(f"${name}", "a variable named like a secret") for name, _, value in named if _tells(name, value)]


def scan_history(steps: Sequence[Mapping[str, Any]]) -> list[Leak]:  # JSON
    """Look at the commands that made the layers: build arguments stay in them."""
    found = []
    for number, step in enumerate(steps, start=1):
        told = str(step.get("created_by") or "")
        found += [
            Leak(f"history step {number}: {name}", "a build argument named like a secret")
            for name, value in _ASSIGNED.findall(told)
            if _tells(name, value)
        ]
        found += [Leak(f"history step {number}", what) for what in _kinds(told.encode())]
    return found


def scan_file(path: str, size: int, content: IO[bytes]) -> list[Leak]:
    """Look at one file of a layer; large ones by their name alone."""
    name = PurePosixPath(path).name
    if name in _NAMES or path.endswith(_ENDINGS):
        return [Leak(f"/{path}", "a file that holds credentials")] if size else []
    if not 0 < size <= _MOST_BYTES:
        return []
    return [Leak(f"/{path}", what) for what in _kinds(content.read())]


def _kinds(payload: bytes) -> Iterator[str]:
    return (what for what, rule in _CONTENT.items() if rule.search(payload))


def _tells(name: str, value: str) -> bool:
    """Tell a secret's value from nothing, a file's path and a reference to another variable."""
    return bool(_VARIABLE.search(name)) and bool(value) and not value.startswith(("/", "$", "file:"))

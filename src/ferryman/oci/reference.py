"""Name an image or artifact in a registry, by the rules that docker has for it."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from ferryman.core.errors import ImageError, RegistryError
from ferryman.oci.descriptor import check_digest

HUB = "docker.io"
_HUB_API = "registry-1.docker.io"
_SCHEMES = ("oci://", "docker://", "https://", "http://")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::\d{1,5})?")
_LENGTH_LIMIT = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """Name a manifest: `tag`, `digest`, or both, in which case the digest decides."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host:port/name:tag@sha256:...`; the host is docker.io and the tag `latest` where none is said.

        Raises RegistryError that says which part is wrong.
        """
        if scheme := next((scheme for scheme in _SCHEMES if text.startswith(scheme)), ""):
            raise RegistryError(f"{text!r} begins with {scheme}", hint=f"write {text.removeprefix(scheme)}")
        rest, has_digest, digest = text.partition("@")
        if has_digest:
            check_digest(digest, origin=text)
        first, slash, others = rest.partition("/")
        is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
        host, named = (first, others) if is_host else (HUB, rest)
        repository, has_tag, tag = named.partition(":")
        if host in (HUB, "index.docker.io"):
            host, repository = HUB, repository if "/" in repository else f"library/{repository}"
        _check(text, host, repository, tag if has_tag else "latest")
        return cls(host, repository, tag or ("" if digest else "latest"), digest)

    @property
    def api_host(self) -> str:
        """Give the host that answers for this registry."""
        return _HUB_API if self.host == HUB else self.host

    @property
    def target(self) -> str:
        """Give what the registry is asked for: the digest, or else the tag."""
        return self.digest or self.tag

    def pinned(self, digest: str) -> Self:
        """Give the same name by digest alone: what scripts should keep."""
        return replace(self, tag="", digest=check_digest(digest, origin=str(self)))

    def tagged(self, tag: str) -> Self:
        """Give another tag in the same repository."""
        _check(f"{self.host}/{self.repository}:{tag}", self.host, self.repository, tag)
        return replace(self, tag=tag, digest="")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.host}/{self.repository}{tag}{digest}"


def means_image(text: str) -> bool:
    """Tell an image's name from a path: nothing is there, and it has a tag, a digest or a registry's host."""
    if Path(text).exists() or text.endswith(".ferry"):
        return False
    try:
        Reference.parse(text)
    except (RegistryError, ImageError):
        return False
    host, slash, rest = text.partition("/")
    return ":" in (rest if slash else text) or "@" in text or bool(slash and ("." in host or ":" in host))


def _check(text: str, host: str, repository: str, tag: str) -> None:
    if not _HOST.fullmatch(host):
        raise RegistryError(
            f"{text!r}: {host!r} is not a registry's host", hint="write host/name:tag or host:5000/name"
        )
    if not _REPOSITORY.fullmatch(repository):
        lower = f"write it in small letters: {repository.lower()}" if repository.lower() != repository else ""
        hint = lower or "names are made of a-z, 0-9 and single . _ - between them, with / between parts"
        raise RegistryError(f"{text!r}: {repository!r} is not a repository's name", hint=hint)
    if len(host) + 1 + len(repository) > _LENGTH_LIMIT:
        raise RegistryError(f"{text[:60]!r}... is longer than {_LENGTH_LIMIT} characters", hint="choose a shorter name")
    if not _TAG.fullmatch(tag):
        raise RegistryError(
            f"{text!r}: {tag!r} is not a tag",
            hint="tags have at most 128 of a-z, A-Z, 0-9, _ . - and begin with none of . -",
        )

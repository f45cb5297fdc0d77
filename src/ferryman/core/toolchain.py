"""Environments of their own for converters whose packages conflict with others, or weigh gigabytes.

A toolchain is data: pinned packages. It is made only where the user asks (`ferryman toolchain add`), never by a build.
"""

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ferryman.core.errors import MissingExtra, PlanError
from ferryman.core.scratch import user_cache

RECORD = "toolchain.json"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Pin the packages of one environment.

    `python` are pip requirements; `bare` are installed after them without what they ask for; `node` are npm packages
    (name@version). `base` is another toolchain whose packages are seen here, too. `lock` is a pip constraints file
    that pins all that those bring along, and `node_lock` npm's own (package-lock.json). `license` is said wherever
    the toolchain is spoken of: for packages whose licence asks more of a user than to keep a notice.
    """

    name: str
    summary: str
    python: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    node: tuple[str, ...] = ()
    base: str = ""
    lock: Path | None = None
    node_lock: Path | None = None
    expected_mb: int = 0
    license: str = field(default="", compare=False)
    hint: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        """Give its name, with the licence that its user must know of."""
        return f"'{self.name}' ({self.license})" if self.license else f"'{self.name}'"

    @property
    def digest(self) -> str:
        """Give a digest of all that is pinned, with that of the base."""
        pins = {key: value for key, value in asdict(self).items() if key in ("python", "bare", "node")}
        text = json.dumps([self.name, pins, self.lock.read_text(encoding="utf-8") if self.lock else ""])
        text += self.node_lock.read_text(encoding="utf-8") if self.node_lock else ""
        under = find_toolchain(self.base).digest if self.base else ""
        return hashlib.sha256((text + under).encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """Give where it lies, or would: another digest is another folder."""
        version = f"py{sys.version_info.major}{sys.version_info.minor}"
        return toolchains_folder() / f"{self.name}-{version}-{self.digest[:12]}"

    @property
    def interpreter(self) -> Path:
        """Give its Python."""
        return self.folder / "bin" / "python"

    @property
    def record(self) -> dict[str, Any] | None:
        """Give what was written when it was whole (packages, mb, seconds); None where that is not so, or damaged."""
        try:
            record = json.loads((self.folder / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(record, dict) or record.get("digest") != self.digest:
            return None
        costs = (record.get("mb"), record.get("seconds"))
        whole = isinstance(record.get("packages"), dict) and all(isinstance(cost, int | float) for cost in costs)
        return record if whole else None

    @property
    def is_installed(self) -> bool:
        """Tell whether it was made, whole, with its base, and its Python is there."""
        whole = self.interpreter.is_file() and self.record is not None
        return whole and (not self.base or find_toolchain(self.base).is_installed)

    def require(self) -> None:
        """Raise MissingExtra unless it is installed."""
        if not self.is_installed:
            raise MissingExtra(
                f"the toolchain {self.title} is not installed", hint=f"ferryman toolchain add {self.name}"
            )


def toolchains_folder() -> Path:
    """Give where toolchains are kept: FERRYMAN_TOOLCHAINS, or the user's cache."""
    if chosen := os.environ.get("FERRYMAN_TOOLCHAINS"):
        return Path(chosen).expanduser().absolute()
    return user_cache() / "ferryman" / "toolchains"


@cache
def toolchains() -> dict[str, Toolchain]:
    """Give the toolchains that installed plug-ins declare, by name."""
    found = {}
    for entry in sorted(entry_points(group="ferryman.toolchains"), key=lambda entry: entry.name):
        toolchain = entry.load()
        if isinstance(toolchain, Toolchain):
            found[entry.name] = toolchain
    return found


def find_toolchain(name: str) -> Toolchain:
    """Give one toolchain, or raise PlanError that names the known ones."""
    known = toolchains()
    if name not in known:
        raise PlanError(f"no toolchain is called '{name}'", hint=f"known: {', '.join(known)}")
    return known[name]

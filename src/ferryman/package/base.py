"""What an image stands on: a Python with its C library, as layers, and how a program of it is started."""

import os
import platform as machine_of
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ferryman.core.errors import ImageError
from ferryman.core.progress import Progress
from ferryman.oci.image import ImageConfig
from ferryman.oci.layer import Entry, Layer
from ferryman.package.contents import Component
from ferryman.package.debian import debian_interpreter, debian_versions
from ferryman.package.python import CERTIFICATES, HOME, Interpreter, python_entries, running_interpreter
from ferryman.package.store import Store
from ferryman.package.target import MACHINES, Target

_DEBIAN_LIBC = (2, 36)
_WORDS = {word: name for name, word in MACHINES.items()}


@dataclass(frozen=True, slots=True)
class Base:
    """Hold a base's layers, how its Python is called, and what it is called itself.

    `libraries` are the file names of the shared libraries in it; `digest` is that of its manifest, "" for our own.
    """

    target: Target
    layers: tuple[Layer, ...]
    python: str
    config: ImageConfig
    libraries: frozenset[str]
    contents: tuple[Component, ...]
    name: str = ""
    digest: str = ""


def this_machine() -> str:
    """Give this machine in OCI's word; one that no image can be made for as it calls itself."""
    return _WORDS.get(machine_of.machine(), machine_of.machine())


def own_target(machine: str, store: Store, progress: Progress) -> Target:
    """Say what our own base for a machine is; makes no layer."""
    python, libc, _ = _own(machine, store, progress)
    return Target(python.short, "glibc", libc, machine)


def own_base(machine: str, store: Store, progress: Progress) -> Base:
    """Make the slim base: the running Python, or for another machine Debian's of the same version."""
    python, libc, packages = _own(machine, store, progress)
    key = _key(python)

    def make() -> Iterable[Entry]:
        progress("lay out Python")
        entries = python_entries(python)
        store.keep("libraries", key, sorted({e.name.rpartition("/")[2] for e in entries if ".so" in e.name}))
        return entries

    layer = store.layer("base", key, make)
    itself = Component("python", python.version, "python", "PSF-2.0", f"pkg:generic/python@{python.version}")
    return Base(
        target=Target(python.short, "glibc", libc, machine),
        layers=(layer,),
        python=f"/{HOME}/bin/python3",
        config=ImageConfig(
            env={"PATH": f"/{HOME}/bin:/usr/bin", "LANG": "C.UTF-8", "SSL_CERT_FILE": f"/{CERTIFICATES}"}
        ),
        libraries=frozenset(store.find("libraries", key) or ()),
        contents=(itself, *packages),
    )


def named_base(name: str, machine: str) -> Base:
    """Describe a base that is only named, for a Dockerfile: taken for Debian 12 or newer, with our Python."""
    python = running_interpreter(machine).short
    return Base(
        target=Target(python, "glibc", _DEBIAN_LIBC, machine),
        layers=(),
        python="python3",
        config=ImageConfig(),
        libraries=frozenset(),
        contents=(),
        name=name or f"python:{python}-slim",
    )


def _own(machine: str, store: Store, progress: Progress) -> tuple[Interpreter, tuple[int, int], list[Component]]:
    if machine == this_machine():
        return running_interpreter(machine), _libc(), []
    return _from_debian(machine, store, progress)


def _libc() -> tuple[int, int]:
    """Give the version of this machine's glibc."""
    known = "CS_GNU_LIBC_VERSION" in os.confstr_names
    name, _, version = ((os.confstr("CS_GNU_LIBC_VERSION") if known else None) or "").partition(" ")
    if name != "glibc":
        raise ImageError("this machine's Python is not built on glibc", hint="name a base: --base python:3.11-slim")
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _from_debian(
    machine: str, store: Store, progress: Progress
) -> tuple[Interpreter, tuple[int, int], list[Component]]:
    python = debian_interpreter(machine, running_interpreter(machine).short, store.folder / "debian", progress)
    found = debian_versions(python.root)
    version = found["libc6"].partition("-")[0].split(".")
    packages = [
        Component(name, number, "system", "", f"pkg:deb/debian/{name}@{number}?arch={machine}")
        for name, number in found.items()
    ]
    return python, (int(version[0]), int(version[1])), packages


def _key(python: Interpreter) -> list[object]:
    """Name what a base is made of, without reading it: files, their sizes and times."""
    folders: list[Path] = [python.library, python.modules]
    files = [python.executable, *(file for folder in folders for file in sorted(folder.glob("*")))]
    facts = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.exists()]
    system = [[str(file), file.stat().st_mtime_ns] for file in _system_files(python.root) if file.exists()]
    return [python.version, python.machine, facts, system]


def _system_files(root: Path) -> list[Path]:
    """Name the files whose change tells that the system's libraries were renewed."""
    return [root / "var/lib/dpkg/status", root / "var/lib/rpm", root / "etc/ld.so.cache", Path("/", CERTIFICATES)]

"""Lay out a Python and what it links as the files of an image, from a machine's own or from another system's folder."""

import os
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ferryman.core.errors import ImageError
from ferryman.oci.layer import Entry
from ferryman.package.elf import read_elf, trimmed, without_paths
from ferryman.package.libraries import Libraries
from ferryman.package.pyc import compile_source, running_tag
from ferryman.package.slim import STANDARD_LIBRARY, is_left_out

HOME = "usr/local"
USER = 65532
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_ALSO = (
    "libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0",
    "libutil.so.1", "libresolv.so.2", "libz.so.1", "libnss_dns.so.2", "libnss_files.so.2",
)  # fmt: skip
"""What wheels may link without bringing it (PEP 600), OpenMP for LightGBM, and what looks names up."""

_LOADERS = {"amd64": "lib64/ld-linux-x86-64.so.2", "arm64": "lib/ld-linux-aarch64.so.1"}
_CERTIFICATE_FILES = (CERTIFICATES, "etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/cert.pem")
_TEXTS = {
    "etc/passwd": f"root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/nonexistent:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nnonroot:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Say where the parts of a Python lie below `root`; `folder` is what its library's folder is called, as lib."""

    root: Path
    machine: str
    version: str
    executable: Path
    library: Path
    modules: Path
    folder: str = "lib"

    @property
    def short(self) -> str:
        """Give the version as folders have it: 3.11."""
        return ".".join(self.version.split(".")[:2])


def running_interpreter(machine: str) -> Interpreter:
    """Describe the Python that runs this, without the virtual environment around it."""
    library = Path(sysconfig.get_path("stdlib"))
    return Interpreter(
        root=Path("/"),
        machine=machine,
        version=".".join(str(part) for part in sys.version_info[:3]),
        executable=Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable))),
        library=library,
        modules=Path(sysconfig.get_config_var("DESTSHARED") or library / "lib-dynload"),
        folder=sys.platlibdir,
    )


def python_entries(python: Interpreter) -> list[Entry]:
    """Give all files of a base: Python, the libraries that it and wheels link, users, certificates, /tmp."""
    home = f"{HOME}/{python.folder}/python{python.short}"
    entries = [Entry(name, content=text.encode()) for name, text in _TEXTS.items()]
    entries += [Entry("tmp", 0o1777, kind="folder")]
    entries += [Entry(name, link=f"usr/{name}", kind="link") for name in ("bin", "lib", "lib64")]
    entries += [Entry(f"usr/{name}", 0o755, kind="folder") for name in ("bin", "lib", "lib64")]
    entries += [_program(python, f"{HOME}/bin/python{python.short}")]
    entries += [
        Entry(f"{HOME}/bin/{name}", link=f"python{python.short}", kind="link") for name in ("python", "python3")
    ]
    entries += [*_library(python, home), *_modules(python, home), *_shared(python), *_system(python)]
    return entries


def _program(python: Interpreter, name: str) -> Entry:
    return Entry(name, 0o755, _lean(python.executable))


def _library(python: Interpreter, home: str) -> Iterator[Entry]:
    is_compiled = python.short == f"{sys.version_info[0]}.{sys.version_info[1]}" and bool(running_tag())
    for file in _files(python.library):
        inner = file.relative_to(python.library).as_posix()
        if is_left_out(inner, STANDARD_LIBRARY) or inner.startswith("lib-dynload/"):
            continue
        source = file.read_bytes()
        if inner.startswith("_sysconfigdata"):
            source = source.replace(_built_for(python), f"/{HOME}".encode())
        code = compile_source(source, f"{home}/{inner}") if is_compiled and inner.endswith(".py") else None
        if code is None:
            yield Entry(f"{home}/{inner}", content=source)
        else:  # without its source, as the Windows "embeddable package" of python.org has it
            yield Entry(f"{home}/{inner}c", content=code)


def _built_for(python: Interpreter) -> bytes:
    """Give the prefix that a Python was built with, where it is one machine's own."""
    prefix = python.library.parents[1]
    return str(prefix).encode() if prefix.name != "usr" else f"/{HOME}".encode()


def _modules(python: Interpreter, home: str) -> Iterator[Entry]:
    for file in _files(python.modules):
        inner = f"lib-dynload/{file.relative_to(python.modules).as_posix()}"
        if not is_left_out(inner, STANDARD_LIBRARY):
            yield Entry(f"{home}/{inner}", 0o755, _lean(file))
    yield Entry(f"{home}/lib-dynload", 0o755, kind="folder")  # where it is empty, Python looks for it all the same


def _shared(python: Interpreter) -> Iterator[Entry]:
    libraries = Libraries(python.root, python.machine)
    kept = [
        file
        for file in _files(python.modules)
        if not is_left_out(f"lib-dynload/{file.relative_to(python.modules).as_posix()}", STANDARD_LIBRARY)
    ]
    also = {name: place for name in _ALSO if (place := libraries.find(name))}
    found, missing = libraries.closure([python.executable, *kept, *also.values()])
    if missing:
        name, wanted_by = next(iter(missing.items()))
        raise ImageError(f"{wanted_by} links {name}, which is not here", hint="install it, or name a base with --base")
    loader = _LOADERS[python.machine]
    for name, place in sorted({**also, **found}.items()):
        at = f"usr/{loader}" if name == loader.rpartition("/")[2] else f"usr/lib/{_triplet(python)}/{name}"
        yield Entry(at, 0o755, _lean(Path(os.path.realpath(place)) if python.root == Path("/") else place))


def _triplet(python: Interpreter) -> str:
    return f"{'x86_64' if python.machine == 'amd64' else 'aarch64'}-linux-gnu"


def _system(python: Interpreter) -> Iterator[Entry]:
    trusted = next((file for name in _CERTIFICATE_FILES if (file := Path("/", name)).is_file()), None)
    if trusted:
        yield Entry(CERTIFICATES, content=trusted.read_bytes())
    if (release := python.root / "usr/lib/os-release").is_file():
        yield Entry("etc/os-release", content=release.read_bytes())


def _lean(file: Path) -> bytes | Path:
    """Give an ELF file without what no loader reads, and without paths of the machine that it was built on."""
    elf = read_elf(file)
    if elf is None:
        return file
    lean = trimmed(file) or file.read_bytes()
    return without_paths(lean, elf) if any("ORIGIN" not in path for path in elf.paths) else lean


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())

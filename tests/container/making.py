"""Make small images of the machine's own Python: only what the foreign server imports, and what makes one bad."""

import io
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER = Path(__file__).with_name("foreign_server.py")
_IMPORTS = """
import argparse, http.client, http.server, json, os, signal, sys, threading, time, typing, encodings.idna, _socket
for module in list(sys.modules.values()):
    if getattr(module, "__file__", None):
        print(module.__file__)
"""
_DOCKERFILE = """
FROM {base} AS good
ENTRYPOINT ["/usr/local/bin/python3", "-S", "/foreign_server.py"]
USER 65532:65532
EXPOSE 8080
LABEL org.opencontainers.image.title=foreign org.opencontainers.image.version=1
HEALTHCHECK CMD ["/usr/local/bin/python3", "-S", "/foreign_server.py", "--health"]

FROM good AS bad
USER root
LABEL org.opencontainers.image.title=
ENV DATABASE_PASSWORD=hunter2 TOKEN_FILE=/run/token
COPY key.pem /srv/server.key
COPY --chmod=4755 tool /bin/sh
COPY large /large
HEALTHCHECK CMD ["/usr/local/bin/python3", "-S", "-c", "raise SystemExit(1)"]
"""
_KEY = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 4 + "-----END PRIVATE KEY-----\n"


@dataclass(frozen=True)
class Images:
    """Hold the names of the images."""

    good: str
    bad: str


@contextmanager
def built(folder: Path, name: str) -> Iterator[Images]:
    """Build both images with podman; they are removed after the block."""
    base = f"localhost/{name}-base:1"
    images = Images(f"localhost/{name}-good:1", f"localhost/{name}-bad:1")
    rootfs = write_rootfs(folder / "rootfs.tar")
    (folder / "Dockerfile").write_text(_DOCKERFILE.format(base=base))
    (folder / "key.pem").write_text(_KEY)
    (folder / "tool").write_bytes(b"#!")
    (folder / "large").write_bytes(b"\1" * 3_000_000)
    try:
        podman("import", "-q", str(rootfs), base)
        for target, image in (("good", images.good), ("bad", images.bad)):
            podman("build", "-q", "--pull=never", "--format", "docker", "--target", target, "-t", image, str(folder))
        yield images
    finally:
        for image in (images.bad, images.good, base):
            podman("rmi", "-f", image, may_fail=True)


def podman(*words: str, may_fail: bool = False) -> str:
    """Run podman."""
    done = subprocess.run(["podman", *words], capture_output=True, text=True, timeout=120, check=False)
    assert may_fail or done.returncode == 0, done.stderr
    return done.stdout.strip()


def write_rootfs(file: Path) -> Path:
    """Write a root file system: Python, the libraries that it loads, the server; nothing else."""
    wanted = dict(_python_files())
    for path in _libraries(list(wanted.values())):
        wanted[path.lstrip("/")] = _slimmed(Path(path).resolve(), file.parent)
    wanted["foreign_server.py"] = SERVER
    with tarfile.open(file, "w") as tar:
        for name, mode in {"tmp": 0o1777, "proc": 0o755, "sys": 0o755, "dev": 0o755, "etc": 0o755}.items():
            tar.addfile(_member(name, mode, kind=tarfile.DIRTYPE))
        for name, text in {
            "etc/passwd": "root:x:0:0::/:/\napp:x:65532:65532::/:/\n",
            "etc/group": "app:x:65532:\n",
        }.items():
            tar.addfile(_member(name, 0o644, size=len(text)), io.BytesIO(text.encode()))
        for name, source in sorted(wanted.items()):
            content = source.read_bytes()
            tar.addfile(_member(name, 0o755, size=len(content)), io.BytesIO(content))
    return file


def _python_files() -> Iterator[tuple[str, Path]]:
    yield "usr/local/bin/python3", Path(sys.executable).resolve()
    listed = subprocess.run([sys.executable, "-S", "-c", _IMPORTS], capture_output=True, text=True, check=True).stdout
    found = {Path(line) for line in listed.splitlines()}
    library = next(path.parent for path in found if path.name == "argparse.py")
    found |= set((library / "encodings").glob("*.py"))
    for path in found:
        if path.is_relative_to(library):
            yield f"usr/local/lib/{library.name}/{path.relative_to(library).as_posix()}", path


def _slimmed(library: Path, folder: Path) -> Path:
    """Leave out debug symbols, which are two thirds of Python's own library."""
    if not shutil.which("strip") or not library.name.startswith("libpython"):
        return library
    subprocess.run(["strip", "-o", folder / library.name, library], check=True)
    return folder / library.name


def _libraries(files: list[Path]) -> set[str]:
    binaries = [path for path in files if path.suffix == ".so" or path.name.startswith("python")]
    told = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(/\S+\.so[\w.]*) \(", told))


def _member(name: str, mode: int, *, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.size, member.type = mode, size, kind
    return member

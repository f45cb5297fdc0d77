"""An image with Debian's HAProxy and the libraries that it loads; nothing else."""

import io
import re
import tarfile
from pathlib import Path

from tests.targets.rolling import program, run

_FOLDERS = {"tmp": 0o1777, "proc": 0o755, "sys": 0o755, "dev": 0o755, "etc": 0o755}
_TEXTS = {"etc/passwd": "root:x:0:0::/:/\n", "etc/group": "root:x:0:\n"}


def write_front(file: Path) -> Path:
    """Write its root file system as a tar, for `docker import` or `podman import`."""
    haproxy = program("haproxy")
    found = re.findall(r"(/\S+\.so[\w.]*) \(", run("ldd", haproxy))
    files = {"usr/sbin/haproxy": Path(haproxy), **{path.lstrip("/"): Path(path).resolve() for path in found}}
    with tarfile.open(file, "w") as tar:
        for name, mode in _FOLDERS.items():
            tar.addfile(_member(name, mode, kind=tarfile.DIRTYPE))
        contents = {name: text.encode() for name, text in _TEXTS.items()}
        contents |= {name: path.read_bytes() for name, path in files.items()}
        for name, content in sorted(contents.items()):
            tar.addfile(_member(name, 0o755, size=len(content)), io.BytesIO(content))
    return file


def _member(name: str, mode: int, *, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.size, member.type = mode, size, kind
    return member

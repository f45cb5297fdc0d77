"""A host with a systemd of its own, in a container: this machine's /usr, read only, and a root folder that stays."""

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.ports import free_port
from tests.targets.rolling import run, wait_for

PROGRAM = "/srv/ferryman"  # what runs this repository's ferryman on that host
PORT = 8080
_SOURCES = Path(__file__).resolve().parents[2] / "src"
_UNITS = Path("/usr/lib/systemd/system")
_KEPT = ("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket")
_BOOT_S = 60.0
_TEXTS = {
    "etc/passwd": "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "etc/group": "root:x:0:\nsystemd-journal:x:999:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files systemd\ngroup: files systemd\nhosts: files\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/hostname": "box\n",
    "etc/machine-id": f"{uuid4().hex}\n",
    "srv/ferryman": """\
#!/bin/sh
export PYTHONPATH=/srv/src:/srv/packages LD_LIBRARY_PATH=/srv/python/lib PYTHONPYCACHEPREFIX=/var/cache/python
unset PYTHONDONTWRITEBYTECODE
exec /srv/python/bin/python3 -m ferryman "$@"
""",
}


@dataclass(frozen=True)
class SystemdHost:
    """Hold the container's name, its root folder, and the address where this machine finds the host's port 8080."""

    name: str
    root: Path
    url: str

    def __call__(self, *words: str, limit_s: float = 120.0, may_fail: bool = False) -> str:
        """Run a program on the host."""
        return run("podman", "exec", self.name, *words, limit_s=limit_s, may_fail=may_fail)

    def boot(self) -> None:
        """Start it, and wait until systemd has come up."""
        run("podman", "start", self.name)
        self._wait()

    def cut_power(self) -> None:
        """End every process of it at once; what is in its root folder stays as it is."""
        run("podman", "kill", "--signal", "KILL", self.name)
        run("podman", "wait", self.name)

    def unit(self, name: str, fact: str) -> str:
        """Give what systemd says of a unit."""
        return self("systemctl", "show", name, f"--property={fact}", "--value")

    def journal(self) -> str:
        """Give the last lines of the journal."""
        return self("journalctl", "--no-pager", "--lines", "40", may_fail=True)

    def _wait(self) -> None:
        def state() -> str:
            return self("systemctl", "is-system-running", may_fail=True)

        wait_for(lambda: state() in ("running", "degraded"), limit_s=_BOOT_S, words=lambda: state() + self.journal())


@contextmanager
def systemd_host(folder: Path, mounts: Mapping[str, Path] | None = None) -> Iterator[SystemdHost]:
    """Boot a host whose root is FOLDER/root; `mounts` are more folders of this machine, by where it finds them."""
    root, name, port = folder / "root", f"ferryman-systemd-{uuid4().hex[:8]}", free_port()
    _write_root(root)
    seen = {
        "/usr": Path("/usr"), "/srv/src": _SOURCES, "/srv/packages": Path(sysconfig.get_paths()["purelib"]),
        "/srv/python": Path(sys.base_prefix), **(mounts or {}),
    }  # fmt: skip
    given = [word for there, here in seen.items() for word in ("--volume", f"{here}:{there}:ro")]
    run(
        "podman", "create", "--name", name, "--privileged", "--systemd=always", "--publish", f"127.0.0.1:{port}:{PORT}",
        "--hostname", "box", *given, "--rootfs", str(root), "/usr/lib/systemd/systemd",
    )  # fmt: skip
    host = SystemdHost(name, root, f"http://127.0.0.1:{port}")
    try:
        host.boot()
        host(
            "env",
            "PYTHONPYCACHEPREFIX=/var/cache/python",
            "/srv/python/bin/python3",
            "-m",
            "compileall",
            "-q",
            "/srv/src",
        )
        yield host
    finally:
        run("podman", "rm", "--force", "--time", "0", name, may_fail=True)
        subprocess.run(["rm", "-rf", root], check=False, timeout=60)


def _write_root(root: Path) -> None:
    for name in (
        "etc/systemd/system",
        "var/log",
        "var/lib",
        "var/cache",
        "opt",
        "srv",
        "usr",
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
    ):
        (root / name).mkdir(parents=True, exist_ok=True)
    for folder in ("bin", "lib", "lib64", "sbin"):
        (root / folder).symlink_to(f"usr/{folder}")
    for name, text in _TEXTS.items():
        (root / name).write_text(text)
    (root / "srv/ferryman").chmod(0o755)
    if Path("/etc/ld.so.cache").is_file():
        shutil.copy("/etc/ld.so.cache", root / "etc")
    units = root / "etc/systemd/system"
    (units / "default.target").symlink_to(_UNITS / "multi-user.target")
    for wanted in _UNITS.glob("*.wants/*"):  # nothing that is this machine's own business
        if wanted.name not in _KEPT and not wanted.name.endswith(".target"):
            (units / wanted.name).unlink(missing_ok=True)
            (units / wanted.name).symlink_to("/dev/null")

"""Run images with the real podman and docker."""

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.ports import free_port

_HARD = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges", "--pids-limit", "256")
_DEADLINE_S = 60


@dataclass(frozen=True)
class Engine:
    """Be podman, or docker with a daemon of its own."""

    words: tuple[str, ...]
    more: tuple[str, ...] = ()

    def __call__(self, *words: str, check: bool = True, timeout: int = 120) -> str:
        result = subprocess.run([*self.words, *words], capture_output=True, text=True, timeout=timeout, check=False)
        assert not check or result.returncode == 0, f"{words}: {result.stdout}{result.stderr}"
        return (result.stdout + result.stderr).strip()

    @contextmanager
    def running(self, image: str, *words: str) -> Iterator[tuple[str, str]]:
        """Run a server without any rights; gives the container's name and the server's URL, ready."""
        name, port = f"ferryman-test-{uuid4().hex[:8]}", free_port()
        where = f"127.0.0.1:{port}"
        self("run", "-d", "--name", name, "--pull", "never", *_HARD, *self.more, "-p", f"{where}:8080", image, *words)
        try:
            wait_until_ready(f"http://{where}", lambda: self("logs", name, check=False))
            yield name, f"http://{where}"
        finally:
            self("rm", "-f", name, check=False)


PODMAN = Engine(("podman",), ("--read-only-tmpfs=false",))


def wait_until_ready(url: str, words: Callable[[], str]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=2):
                return
        except OSError:
            time.sleep(0.05)  # until it listens, and is ready
    raise AssertionError(f"{url} is not ready: {words()}")


@contextmanager
def docker_daemon(folder: Path) -> Iterator[Engine]:
    """Run dockerd on an empty folder and a socket of its own, without a network for its containers but the host's."""
    socket = folder / "docker.sock"
    words = [
        shutil.which("dockerd") or "", "--data-root", str(folder / "data"), "--exec-root", str(folder / "exec"),
        "--pidfile", str(folder / "pid"), "-H", f"unix://{socket}", "--default-ulimit", "nofile=16384:16384",
        "--bridge", "none", "--iptables=false", "--ip6tables=false",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, env=dict(os.environ))
    engine = Engine(("docker", "-H", f"unix://{socket}"))
    try:
        deadline = time.monotonic() + _DEADLINE_S
        while engine("info", "--format", "{{.ID}}", check=False) and "Cannot connect" in engine("info", check=False):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "docker doesn't start"
            time.sleep(0.1)  # until it listens
        yield engine
    finally:
        process.terminate()
        process.wait(timeout=30)
        unmount_below(folder)  # the daemon leaves the place of its network, and nobody could remove the folder


def unmount_below(folder: Path) -> None:
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted(places, reverse=True):
        if Path(place).is_relative_to(folder.resolve()):
            subprocess.run(["umount", place], check=True, timeout=30)


def remove(engine: Engine, images: Sequence[str]) -> None:
    engine("rmi", "-f", *images, check=False)

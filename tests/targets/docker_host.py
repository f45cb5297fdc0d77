"""A host with docker, in a network of its own: no rule, bridge or port of it stays behind."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.package.engines import unmount_below
from tests.targets.rolling import program, run, wait_for


@dataclass(frozen=True)
class DockerHost:
    """Hold the daemon's address, as in DOCKER_HOST, and the host's own, at which this machine finds its ports."""

    docker: str
    address: str

    def __call__(self, *words: str, limit_s: float = 120.0, may_fail: bool = False) -> str:
        return run("docker", "-H", self.docker, *words, limit_s=limit_s, may_fail=may_fail)


@contextmanager
def docker_host(folder: Path) -> Iterator[DockerHost]:
    """Run dockerd on an empty folder, in a network namespace that a pair of interfaces joins to this machine's."""
    name = f"fm{uuid4().hex[:8]}"
    net, here, there = f"/run/netns/{name}", f"{name}h", f"{name}t"
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        subnet = int(name[2:6], 16) % 250
        own, its = f"10.213.{subnet}.1", f"10.213.{subnet}.2"
        run("ip", "address", "add", f"{own}/30", "dev", here)
        run("ip", "link", "set", here, "up")
        run("ip", "-n", name, "address", "add", f"{its}/30", "dev", there)
        for link in (there, "lo"):
            run("ip", "-n", name, "link", "set", link, "up")
        socket = f"unix://{folder / 'docker.sock'}"
        words = [
            "nsenter", f"--net={net}", program("dockerd"), "--data-root", str(folder / "data"), "--exec-root",
            str(folder / "exec"), "--pidfile", str(folder / "pid"), "-H", socket,
            "--default-ulimit", "nofile=16384:16384", "--bridge", "none",
        ]  # fmt: skip
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log)
        host = DockerHost(socket, its)
        try:
            wait_for(
                lambda: process.poll() is None and "Cannot connect" not in host("info", may_fail=True),
                limit_s=60,
                words=(folder / "log").read_text,
            )
            yield host
        finally:
            process.terminate()
            process.wait(timeout=60)
            unmount_below(folder)
    finally:
        run("ip", "netns", "delete", name)
        run("ip", "link", "delete", here, may_fail=True)

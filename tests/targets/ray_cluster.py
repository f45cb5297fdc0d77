"""A real Ray cluster for tests and benchmarks, and callers who don't give up."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ferryman.client.steady import SteadyClient
from tests.conftest import TOOLS
from tests.ports import free_ports

PYTHON = "ferryman-ray-python"  # scripts/ray makes it
SOURCES = Path(__file__).resolve().parents[2] / "src"
_HOST = Path(__file__).with_name("ray_host.py")
_END_S = 20.0


@dataclass
class RayCluster:
    """Hold a running cluster; `address` is its dashboard's, `url` that of its doors."""

    process: "subprocess.Popen[str]"
    dashboard_port: int
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def order(self, do: str, **words: object) -> dict[str, Any]:
        """Have something done, and give what comes back."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **words}) + "\n")
        self.process.stdin.flush()
        return read_line(self.process)


def read_line(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:  # Ray itself may say something, too
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise AssertionError("the cluster has ended")


@contextmanager
def ray_cluster(folder: Path, *, nodes: dict[str, float], extra_path: str = "") -> Iterator[RayCluster]:
    """Start a head and nodes, each with so many cores; what they write is in FOLDER/ray.log."""
    python = shutil.which(PYTHON) or str(TOOLS / "bin" / PYTHON)
    assert Path(python).is_file(), "scripts/ray makes Ray's Python"
    dashboard_port, port = free_ports(2)
    path = os.pathsep.join(filter(None, (str(SOURCES), extra_path)))
    # Ray's own figures go nowhere: nothing here may leave the machine.
    variables = {"PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    with (folder / "ray.log").open("w") as log:
        process = subprocess.Popen(
            [python, str(_HOST), str(dashboard_port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            text=True, env={**os.environ, **variables}, start_new_session=True,
        )  # fmt: skip
        try:
            read_line(process)
            cluster = RayCluster(process, dashboard_port, port)
            for name, cpus in nodes.items():
                cluster.order("add", name=name, cpus=cpus)
            yield cluster
        finally:
            try:
                process.communicate(timeout=_END_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@dataclass
class Counts:
    """Count what became of the requests."""

    sent: int = 0
    answered: int = 0
    wrong: int = 0
    retried: int = 0
    lost: list[str] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    versions: dict[float, int] = field(default_factory=dict)


@contextmanager
def under_load(
    url: str,
    model: str,
    *,
    callers: int,
    right: Callable[[float], bool],
    ask: dict[str, Any] | None = None,
    total: int = sys.maxsize,
) -> Iterator[Counts]:
    """Ask without a pause from several callers; each goes on until the block ends, or it has asked `total` times."""
    counts, is_over, lock = Counts(), threading.Event(), threading.Lock()

    def call() -> None:
        inputs = ask or {"values": np.array([[1, 2, 3]], np.float32)}
        left = total
        client = SteadyClient([url])
        with client:
            while not (is_over.is_set() if total == sys.maxsize else left == 0):
                left -= 1
                begun = time.monotonic()
                with lock:
                    counts.sent += 1
                try:
                    answer = float(next(iter(client.infer_tensors(model, inputs).values())).flat[0])
                except Exception as error:  # noqa: BLE001 - each one is counted, and shown
                    with lock:
                        counts.lost.append(repr(error))
                    continue
                with lock:
                    counts.answered += 1
                    counts.wrong += not right(answer)
                    counts.latency_s.append(time.monotonic() - begun)
                    counts.versions[answer] = counts.versions.get(answer, 0) + 1
            with lock:
                counts.retried += client.retries

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def wait_for(is_so: Callable[[], bool], *, limit_s: float) -> None:
    """Return when it is so; fails after the time."""
    end_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end_s, "it has not come about"
        time.sleep(0.05)


def target_toml(cluster: RayCluster, **more: object) -> dict[str, Any]:
    """Give a target's section for this cluster: the models' servers run in this very Python."""
    return {
        "kind": "ray", "address": cluster.address, "port": cluster.port, "host": "127.0.0.1", "python": sys.executable,
        "cpus": 0.5, "memory_mb": 200, "health_s": 1.0, **more,
    }  # fmt: skip

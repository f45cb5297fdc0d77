"""A bundle on a Ray cluster of two nodes on this machine: more copies, a new version, a node killed, all under load.

    scripts/ray && python -m benchmarks.ray_cluster

(Not `ray.py`: its own folder comes first when Python looks for `ray`.)
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks._tables import table
from tests.bundle.making import bundle_affine, bundle_model, describe, make_affine, make_proof, make_slow_model
from tests.server.running import running
from tests.targets.ray_cluster import Counts, RayCluster, ray_cluster, target_toml, under_load, wait_for

from ferryman.bundle.read import load_bundle
from ferryman.bundle.write import write_bundle
from ferryman.core.bundle import Golden
from ferryman.core.deployment import parse_deployment, read_target
from ferryman.core.plugins import find, runtime_for
from ferryman.core.progress import silent
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.task import infer_items
from ferryman.targets.landing import land
from ferryman.targets.ray import Ray
from ferryman.targets.ray_dashboard import Dashboard

WAIT_S = 0.05
_SECONDS = 8.0
_DEVICE = f'''
"""An accelerator that isn't there: each call waits {WAIT_S} s without a core, one call at a time in a process."""

import threading
import time


class Session:
    releases_gil = True

    def __init__(self, artifact):
        self.signature = artifact.signature
        self._lock = threading.Lock()

    def infer(self, inputs):
        with self._lock:
            time.sleep({WAIT_S})
        return {{"sum": inputs["values"] * 2 + 1}}

    def close(self):
        pass


class DeviceRuntime:
    name, formats, needs, extra, serves, targets = "device", frozenset({{"device"}}), (), "", True, ("server",)

    def load(self, artifact, *, threads):
        return Session(artifact)
'''


def write_device(folder: Path) -> None:
    """Make a runtime that ferryman finds as an installed one wherever this folder is on Python's path."""
    about = folder / "ferryman_device-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ferryman-device\nVersion: 0\n")
    (about / "entry_points.txt").write_text("[ferryman.runtimes]\ndevice = ferryman_device:DeviceRuntime\n")
    (folder / "ferryman_device.py").write_text(_DEVICE)
    sys.path.insert(0, str(folder))


def bundle_device(destination: Path) -> Path:
    """Write a bundle for it, of one row a call."""
    onnx = describe(make_affine(destination.parent / "device-model"))
    one_row = tuple(TensorSpec(name=spec.name, dtype=spec.dtype, shape=(1, 3)) for spec in onnx.signature.inputs)
    artifact = replace(onnx, format="device", signature=Signature(inputs=one_row, outputs=onnx.signature.outputs))
    deployment = parse_deployment(
        {"model": {"name": "device", "source": onnx.path.name}, "task": {"kind": "tensor"}}, origin="benchmark"
    )
    session = runtime_for("device").require()().load(artifact, threads=1)
    bound = find("tasks", "tensor").require()(deployment.task, artifact.signature)
    item = {"values": np.array([[1, 2, 3]], np.float32)}
    golden = [Golden("item-0", item, infer_items(bound, session, [item])[0])]
    write_bundle(
        destination, deployment=deployment, artifact=artifact, proof=make_proof("device"), golden=golden,
        tolerance=dict(bound.tolerance), baseline={}, versions={},
    )  # fmt: skip
    return destination


def place(cluster: RayCluster, bundle: Path, **more: object) -> Ray:
    """Deploy a bundle, by default in the place of the last one, and wait until all copies answer."""
    options = ["--threads", "1", "--instances", "1"]
    settings = {"service": "affine", "options": options, **more}
    one: Ray = read_target("ray", target_toml(cluster, **settings), origin="benchmark")
    one.apply(land(load_bundle(bundle), one, ""), dry_run=False, progress=silent)
    return one


def curve(cluster: RayCluster, bundle: Path, model: str, values: dict[str, Any]) -> Iterator[list[str]]:
    """Give a row for 1, 2 and 4 copies: answers a second, by how much more, and half and almost all latencies."""
    base = 0.0
    for copies in (1, 2, 4):
        one = place(cluster, bundle, replicas=copies, cpus=0.25, service="curve")
        with under_load(cluster.url, model, callers=16, right=lambda _: True, ask=values) as counts:
            wait_for(lambda: counts.answered > 16, limit_s=60)
            begun, answered = time.monotonic(), counts.answered
            time.sleep(_SECONDS)
            rate = (counts.answered - answered) / (time.monotonic() - begun)
        base = base or rate
        yield [model, str(copies), f"{rate:.1f}", f"{rate / base:.2f}", *quantiles(counts), str(len(counts.lost))]
    one.remove("curve", dry_run=False, progress=silent)


def quantiles(counts: Counts) -> list[str]:
    """Give the median and the 99th percentile, in milliseconds."""
    return [f"{np.quantile(counts.latency_s, share) * 1000:.1f}" for share in (0.5, 0.99)]


def trouble(
    cluster: RayCluster, what: str, happen: Callable[[], object], right: set[float], *, model: str = "affine"
) -> list[str]:
    """Give the row of what becomes of the requests while something happens."""
    with under_load(cluster.url, model, callers=8, right=lambda answer: answer in right) as counts:
        wait_for(lambda: counts.answered > 100, limit_s=60)
        happen()
        before = counts.answered
        wait_for(lambda: counts.answered > before + 300, limit_s=120)
    longest = f"{max(counts.latency_s) * 1000:.0f}"
    told = [counts.sent, counts.answered, counts.retried, counts.wrong, len(counts.lost)]
    return [what, *map(str, told), *quantiles(counts), longest]


def beside_serve(cluster: RayCluster, bundle: Path) -> Iterator[list[str]]:
    """Give the latency of one caller, of `ferryman serve` alone and through Ray, in turns."""
    one = place(cluster, bundle, replicas=1)
    with running([bundle], threads=1) as alone:
        both = {"ferryman serve": Counts(), "Ray, one copy": Counts()}
        for _ in range(20):
            for name, url in (("ferryman serve", alone.url), ("Ray, one copy", cluster.url)):
                with under_load(url, "affine", callers=1, right=lambda _: True, total=20) as counts:
                    pass
                both[name].latency_s += counts.latency_s
    for name, counts in both.items():
        yield [name, str(len(counts.latency_s)), *quantiles(counts)]
    one.remove("affine", dry_run=False, progress=silent)


@contextmanager
def prepared() -> Iterator[tuple[Path, RayCluster]]:
    """Give bundles and a cluster of two nodes; this machine needn't have the cores that they say they have."""
    with tempfile.TemporaryDirectory(prefix="ferryman-bench-ray-") as name:
        folder = Path(name)
        write_device(folder / "device-runtime")
        bundle_device(folder / "device")
        bundle_affine(folder / "first")
        bundle_affine(folder / "second", factor=3.0)
        one = {"values": np.array([[1.0]], np.float32)}
        bundle_model(folder / "slow", make_slow_model(folder / "slow-model"), {"kind": "tensor"}, [one], name="slow")
        with ray_cluster(folder, nodes={"left": 2, "right": 2}, extra_path=str(folder / "device-runtime")) as cluster:
            yield folder, cluster


def main() -> None:
    """Measure, and print the tables."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with prepared() as (folder, cluster):
        print(
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} when it began; Ray 2.60.0, two nodes and a head\n"
        )
        rows = list(beside_serve(cluster, folder / "first"))
        print(table(["one caller, in turns", "requests", "p50 ms", "p99 ms"], rows), "\n", flush=True)
        three, single = {"values": np.ones((1, 3), np.float32)}, {"values": np.ones((1, 1), np.float32)}
        rows = [*curve(cluster, folder / "device", "device", three), *curve(cluster, folder / "slow", "slow", single)]
        print(table(["model", "copies", "answers/s", "times", "p50 ms", "p99 ms", "lost"], rows), "\n", flush=True)
        place(cluster, folder / "first", replicas=2)
        rows = [
            trouble(
                cluster, "new version, 2 copies", lambda: place(cluster, folder / "second", replicas=2), {3.0, 4.0}
            ),
        ]
        place(cluster, folder / "device", replicas=4)
        rows.append(
            trouble(cluster, f"node killed, 4 copies of {WAIT_S} s", lambda: kill_one(cluster), {3.0}, model="device")
        )
        cluster.order("add", name="again", cpus=2)
        place(cluster, folder / "first", replicas=1, surge_percent=0)
        update = lambda: place(cluster, folder / "second", replicas=1, surge_percent=0)  # noqa: E731 - as the two above
        rows.append(trouble(cluster, "new version, 1 copy, surge 0", update, {3.0, 4.0}))
        head = ["under load", "sent", "answered", "asked again", "wrong", "lost", "p50 ms", "p99 ms", "longest ms"]
        print(table(head, rows), flush=True)


def kill_one(cluster: RayCluster) -> None:
    """Kill the node of the first copy, with all that Ray runs there."""
    found = Dashboard(cluster.address, "").application("affine") or {}
    cluster.order("kill", node_id=found["deployments"]["ferryman"]["replicas"][0]["node_id"])


if __name__ == "__main__":
    main()

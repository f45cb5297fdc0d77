"""Simulate a fleet on one machine: real agents, a real registry, and everything that goes wrong with both.

    python -m benchmarks.fleet --boxes 200

Agents run as threads of a few processes, which are killed (kill -9) at random while they update; each box has its own
folder. The registry is reached through a proxy that cuts connections and flips bits. Needs docker-registry.
"""

import argparse
import contextlib
import json
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.bundle.making import bundle_affine, describe, make_affine
from tests.oci.registries import Cutter, docker_registry

from ferryman.bundle.read import load_bundle
from ferryman.bundle.write import write_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError
from ferryman.fleet.channel import Channel
from ferryman.fleet.collect import Collector, token_of
from ferryman.fleet.operate import Fleet, Operator
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.supply.keys import load_private, make_key
from ferryman.supply.modelpack import push_bundle
from ferryman.supply.signing import Wish, sign_bundle

SECRET = "0123456789abcdef" * 4
STAGES = ("canary", 10, 100)
BAD = {
    "wrong": "answers otherwise than verified",
    "unsigned": "is not signed",
    "sick": "is not well once it serves",
}
_PER_PROCESS = 25
_DEADLINE_S = 900
Row = tuple[str, dict[str, int], float]
Statuses = list[dict[str, Any]]


class Storm(Cutter):
    """Cut a share of the connections, and flip a bit of some of what comes down."""

    is_on = False
    flips = 0
    cut_share, flip_share = 0.04, 0.02

    def _pump(self, source: socket.socket, target: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                drawn = random.random() if self.is_on and way == "down" else 1.0
                if drawn < self.cut_share:
                    self.cuts += 1
                    target.sendall(chunk[: len(chunk) // 2])
                    break
                if drawn < self.cut_share + self.flip_share:
                    self.flips += 1
                    place = random.randrange(len(chunk))
                    chunk = chunk[:place] + bytes([chunk[place] ^ 1 << random.randrange(8)]) + chunk[place + 1 :]
                target.sendall(chunk)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@dataclass
class Process:
    """Hold the agents of some boxes: they lose their power together."""

    folder: Path
    first: int
    count: int
    running: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Give the file that it writes to."""
        return self.folder / f"log-{self.first}"

    @property
    def is_up(self) -> bool:
        """Tell whether its agents have begun since it was started."""
        return self.running is not None and f"up {self.running.pid}\n" in self.log.read_text()

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "benchmarks._fleet_boxes", str(self.folder), str(self.first), str(self.count)]
        with self.log.open("ab") as log:
            self.running = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """Cut the power."""
        if self.running is not None:
            self.running.kill()
            self.running.wait()
            self.running = None


@dataclass
class World:
    """Be the registry's and the operator's side of the simulation."""

    folder: Path
    storm: Storm
    collector: Collector
    processes: list[Process]
    boxes: int
    bundles: dict[str, Bundle] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    kills: int = 0

    @property
    def releases(self) -> str:
        """Give where releases lie."""
        return f"{self.storm.host}/fleet/street:stable"

    @property
    def operator(self) -> Operator:
        """Give the operator."""
        return Operator(
            Fleet(
                fleet="street",
                releases=self.releases,
                key=self.folder / "keys" / "release.pem",
                stages=STAGES,
                collector=self.collector.url,
                secret_file=self.folder / "secret",
                silent_s=5.0,
            )
        )

    def push(self, name: str, bundle: Bundle) -> None:
        """Push a bundle, and remember its reference by digest, as boxes reach it."""
        self.bundles[name] = bundle
        reference = Reference.parse(f"{self.storm.host}/models/affine:{name}")
        with Registry.of(reference) as registry:
            self.references[name] = push_bundle(bundle.path, reference, registry).reference

    def calm(self, work: Callable[[], Any]) -> Any:
        """Do the operator's work, whose connection is a good one."""
        self.storm.is_on, was_on = False, self.storm.is_on
        try:
            return work()
        finally:
            self.storm.is_on = was_on

    def wait(self, is_so: Callable[[Statuses], bool], *, what: str, kills: int = 0) -> float:
        """Wait until the boxes' reports are so; kill processes at random meanwhile. Gives the seconds."""
        began_s, left = time.monotonic(), kills
        while left or not is_so(self.collector.reports.boxes()):
            if time.monotonic() - began_s > _DEADLINE_S:
                raise SystemExit(f"{what}: not after {_DEADLINE_S} s")
            time.sleep(random.uniform(0.1, 0.8))
            victims = [one for one in self.processes if one.is_up]
            if left and victims:
                victim = random.choice(victims)
                victim.kill()
                victim.start()
                left, self.kills = left - 1, self.kills + 1
        return time.monotonic() - began_s

    def serving(self) -> dict[str, int]:
        """Look into every box's folder: which version `current` leads to, checked in full."""
        names = {bundle.manifest.digest: name for name, bundle in self.bundles.items()}
        found: Counter[str] = Counter()
        for number in range(self.boxes):
            try:
                found[names[load_bundle(self.folder / f"box-{number}" / "current").manifest.digest]] += 1
            except BundleError:
                found["nothing whole"] += 1
        return dict(found)


def main() -> int:
    """Run it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=200)
    parser.add_argument("--kills", type=int, default=0, help="kill -9 of processes (as many as boxes / 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if shutil.which("docker-registry") is None:
        parser.error("docker-registry is not installed")
    random.seed(args.seed)
    with make_world(args.boxes) as world:
        rows = simulate(world, args.kills or max(args.boxes // 10, 4))
        storm = {"kills": world.kills, "cuts": world.storm.cuts, "flips": world.storm.flips}
    if args.json:
        print(json.dumps({"rows": rows, **storm}))
        return 0
    print(f"{'what happens':<72} {'boxes serve':<20} {'s':>6}")
    for what, served, seconds in rows:
        versions = ", ".join(f"{amount} {name}" for name, amount in sorted(served.items()))
        print(f"{what:<72} {versions:<20} {seconds:>6.1f}")
    print("kill -9 of processes: {kills}; connections cut: {cuts}; bits flipped: {flips}".format(**storm))
    return 0


def simulate(world: World, kills: int) -> list[Row]:
    """Go through the fleet's bad days; gives what every box served at the end of each."""
    rows: list[Row] = []

    def tell(what: str, seconds: float) -> None:
        rows.append((what, world.serving(), seconds))
        print(rows[-1], file=sys.stderr, flush=True)

    away = world.processes[-1]
    for process in world.processes:
        process.start()
    world.storm.is_on = True
    tell("first install of one; kills, cuts, flipped bits", roll_out(world, "one", world.boxes, kills // 2))
    one = world.references["one"]
    for name, what in BAD.items():
        bundle = world.references[name]
        world.calm(lambda bundle=bundle: world.operator.release(bundle))
        took_s = world.wait(lambda _: is_halted(world), what=what)
        took_s += world.wait(lambda boxes: count(boxes, one) == world.boxes, what="all back")
        tell(f"a release that {what}: halted by itself", took_s)
        world.calm(lambda: world.operator.rollback())
    tell("a release that another key signed; an old release again", forge(world))
    away.kill()
    took_s = roll_out(world, "two", world.boxes - away.count, kills - kills // 2)
    tell(f"release of two; kills, cuts, flipped bits; {away.count} boxes are switched off", took_s)
    if away.running is None:
        away.start()
    two = world.references["two"]
    tell("those come back", world.wait(lambda boxes: count(boxes, two) == world.boxes, what="those that were away"))
    return rows


def roll_out(world: World, name: str, wanted: int, kills: int) -> float:
    """Release a bundle and let it go on stage by stage until so many boxes serve it."""
    bundle = world.references[name]
    world.calm(lambda: world.operator.release(bundle))

    def is_done(boxes: Statuses) -> bool:
        done = world.calm(lambda: world.operator.advance())
        if done.what.startswith("halted"):
            raise SystemExit(f"a good release was halted: {done.standing}")
        return count(boxes, bundle) >= wanted

    return world.wait(is_done, what=name, kills=kills)


def is_halted(world: World) -> bool:
    """Tell whether the release is halted because boxes failed."""
    return bool(world.calm(lambda: world.operator.advance()).release.is_halted)


def forge(world: World) -> float:
    """Publish what no box may believe, and see that each refuses it."""
    channel = Channel(world.releases, "street")
    good = world.calm(lambda: world.operator.current())
    own, other = (load_private(world.folder / "keys" / f"{name}.pem") for name in ("release", "other"))
    everywhere = {"stages": (100,), "stage": 0, "is_halted": False, "bundle": world.references["sick"]}
    forged = good.model_copy(update={**everywhere, "number": good.number + 5})
    world.calm(lambda: channel.publish(forged, other))
    took_s = world.wait(lambda _: told(world, "not signed by") == world.boxes, what="another key")
    world.calm(lambda: channel.publish(good.model_copy(update={**everywhere, "number": 1}), own))
    took_s += world.wait(lambda _: told(world, "is older than") == world.boxes, what="an old one")
    world.calm(lambda: channel.publish(good, own))
    return took_s


def count(boxes: Statuses, bundle: str) -> int:
    """Count the boxes that report to serve a bundle."""
    return sum(box["serving"] == bundle for box in boxes)


def told(world: World, words: str) -> int:
    """Count the boxes that told, at any time, that they refused something for a reason."""
    question = "select count(distinct box) from records where kind = 'update' and body like ?"
    with contextlib.closing(sqlite3.connect(world.folder / "collector" / "reports.sqlite")) as base:
        return int(base.execute(question, (f"%{words}%",)).fetchone()[0])


@contextlib.contextmanager
def make_world(boxes: int) -> Iterator[World]:
    """Make bundles, keys, a registry behind a storm, a collector, and the boxes' folders."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "registry").mkdir()
        storm = Storm(stack.enter_context(docker_registry(folder / "registry")))
        stack.enter_context(storm.running())
        collector = Collector(folder / "collector", SECRET, host="127.0.0.1", port=0)
        threading.Thread(target=collector.serve, daemon=True).start()
        stack.callback(collector.close)
        step = min(_PER_PROCESS, max(boxes // 4, 1))
        processes = [Process(folder, start, min(step, boxes - start)) for start in range(0, boxes, step)]
        for process in processes:
            stack.callback(process.kill)
        world = World(folder, storm, collector, processes, boxes)
        prepare(world)
        yield world


def prepare(world: World) -> None:
    """Write the keys, the bundles and the boxes' settings."""
    folder = world.folder
    (folder / "secret").write_text(SECRET)
    for name in ("release", "other"):
        make_key(folder / "keys" / name)
    (folder / "policy.toml").write_text('keys = ["keys/release.pub"]\n')
    factors = {"one": 2.0, "two": 3.0, "unsigned": 5.0, "sick": 6.0}
    bundles = {name: bundle_affine(folder / "made" / name, factor=factor) for name, factor in factors.items()}
    bundles["wrong"] = with_wrong_answers(folder / "made" / "wrong")
    for name, bundle in bundles.items():
        if name != "unsigned":
            sign_bundle(bundle.path, load_private(folder / "keys" / "release.pem"), Wish(bare=True))
        world.push(name, bundle)
    (folder / "sick").write_text(bundles["sick"].manifest.digest)
    for number in range(world.boxes):
        (folder / f"token-{number}").write_text(token_of(SECRET, f"box-{number}"))
        group = "canary" if number % 20 == 1 else "default"
        (folder / f"box-{number}.toml").write_text(
            f'fleet = "street"\nbox = "box-{number}"\ngroup = "{group}"\nreleases = "{world.releases}"\n'
            f'keys = ["keys/release.pub"]\npolicy = "policy.toml"\nroot = "box-{number}"\npoll_s = 1.0\n'
            f'watch_s = 0.2\n[service]\nkind = "files"\n[reports]\nurl = "{world.collector.url}"\n'
            f'token_file = "token-{number}"\nevery_s = 1.0\n'
        )


def with_wrong_answers(folder: Path) -> Bundle:
    """Make a bundle that is whole and whose golden answers are another model's."""
    bundle = bundle_affine(folder, factor=4.0)
    other = describe(make_affine(folder.parent / "another", factor=4.5))
    return write_bundle(
        folder,
        deployment=bundle.deployment,
        artifact=replace(other, made_by=bundle.artifact.made_by),
        proof=bundle.proof,
        golden=bundle.golden,
        tolerance=bundle.tolerance,
        baseline=bundle.baseline,
        versions=bundle.versions,
    )


if __name__ == "__main__":
    sys.exit(main())

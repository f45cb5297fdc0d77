"""Two hundred boxes whose processes are killed while they update; a full disk; a clock that was never set."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import FerrymanError, Untrusted
from ferryman.fleet.agent import Agent
from ferryman.fleet.box import read_box
from ferryman.fleet.channel import Channel
from ferryman.fleet.release import Release, read_release, sign_release
from ferryman.fleet.slots import Slots
from ferryman.fleet.update import Outcome, Updater, Watch
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.supply.keys import PrivateKey, load_private, make_key
from ferryman.supply.modelpack import pull_bundle, push_bundle
from ferryman.supply.policy import EVERYTHING
from tests.chaos.counts import Report
from tests.fleet.test_slots import Told
from tests.oci.registries import docker_registry
from tests.server.gate.issuing import certificate

Fetch = Callable[[str, Path], None]
BOXES = 200
_SEED = 20261123
_DIGESTS = {
    name: f"registry.example.com/models/affine@sha256:{digit * 64}"
    for name, digit in {"one": "1", "two": "2", "three": "3"}.items()
}
_PAGE = 4096


def served(root: Path) -> str:
    """Give the digest of what `current` leads to, checked in full."""
    return load_bundle(root / "current").manifest.digest


def updater(slots: Slots, fetch: Fetch) -> Updater:
    return Updater(slots, Told(), fetch, EVERYTHING, watch=Watch(for_s=0.0, every_s=0.01, failures=2))


class Life:
    """Be what a box's process does from its start to its end: believe a release, and bring its bundle into service."""

    def __init__(self, fetch: Fetch, key: PrivateKey, thief: PrivateKey) -> None:
        names = {source: name for name, source in _DIGESTS.items()}
        self._fetch: Fetch = lambda source, folder: fetch(names[source], folder)
        self._key = key
        self._right = self._sign("two", 2, key)
        self._forged = self._sign("three", 3, thief)

    def go_on(self, root: Path, *, is_damaged: bool) -> None:
        slots = Slots(root)
        with contextlib.suppress(Untrusted):
            forged = read_release(self._forged, [self._key.public], "street", origin="here")
            raise AssertionError(f"release {forged.number} is believed, and another key has signed it")
        release = read_release(self._right, [self._key.public], "street", origin="here")
        slots.believe(release.number)
        one = updater(slots, self._damaged if is_damaged else self._fetch)
        one.resume()
        one.update(release.bundle, release.number)

    def _damaged(self, source: str, folder: Path) -> None:
        self._fetch(source, folder)
        model = next((folder / "model").iterdir())
        content = bytearray(model.read_bytes())
        content[len(content) // 2] ^= 1
        model.write_bytes(content)

    @staticmethod
    def _sign(name: str, number: int, key: PrivateKey) -> bytes:
        told = Release.model_validate({"fleet": "street", "number": number, "bundle": _DIGESTS[name], "stages": (100,)})
        return json.dumps(sign_release(told, key)).encode()


def lives(life: Life, root: Path, *, kill_after_s: float, is_damaged: bool) -> bool:
    """Run a box's process, and kill it after a time; gives whether it was killed before its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            life.go_on(root, is_damaged=is_damaged)
            code = 0
        finally:
            os._exit(code)
    time.sleep(kill_after_s)
    os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL), f"{root.name}: a box's process failed"
    return status != 0


@pytest.fixture
def memory() -> Iterator[Path]:
    """Give a folder in memory: a kill loses nothing that was written, so that no disk has to turn for it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)


def test_two_hundred_boxes_that_are_killed_while_they_update_all_end_on_the_right_version(
    memory: Path, tmp_path: Path, fetch: Fetch, versions: dict[str, Bundle], report: Report
) -> None:
    key, thief = (load_private(make_key(tmp_path / name)[0]) for name in ("release", "thief"))
    life, chance = Life(fetch, key, thief), random.Random(_SEED)
    digests = {bundle.manifest.digest: name for name, bundle in versions.items()}
    start = memory / "start"
    updater(Slots(start), lambda _, folder: fetch("one", folder)).update(_DIGESTS["one"], 1)
    begun = time.monotonic()
    shutil.copytree(start, memory / "whole", symlinks=True)
    life.go_on(memory / "whole", is_damaged=False)
    whole_s = time.monotonic() - begun
    kills: Counter[str] = Counter()
    starts, ends, damaged = 0, Counter[str](), 0
    for number in range(BOXES):
        root = memory / f"box-{number}"
        shutil.copytree(start, root, symlinks=True)
        is_killed, is_damaged = False, chance.random() < 0.3
        damaged += is_damaged
        while not is_killed and digests[served(root)] == "one":
            starts += 1
            is_killed = lives(life, root, kill_after_s=chance.uniform(0.0, whole_s), is_damaged=is_damaged)
            is_damaged = False
        assert digests[served(root)] in ("one", "two"), f"{root.name} serves what nobody released"
        change = Slots(root).journal.change
        kills[change.phase if change else "before or after"] += is_killed
        Slots(root).boot()
        assert digests[served(root)] in ("one", "two"), f"{root.name} serves what nobody released after its start"
        for _ in range(3):  # the power stays; a damaged download is fetched again
            life.go_on(root, is_damaged=False)
        ends[digests[served(root)]] += 1
        assert Slots(root).journal.change is None
        shutil.rmtree(root)
    report.lines.append(
        f"fleet: {BOXES} boxes, {kills.total()} killed in {starts} updates ({dict(kills)}), "
        f"{damaged} downloads damaged, {BOXES} forged releases refused: {dict(ends)}"
    )
    assert ends == {"two": BOXES}
    assert kills.total() > BOXES / 2
    assert kills.keys() > {"filling"}


@pytest.fixture
def registry(versions: dict[str, Bundle], tmp_path: Path) -> Iterator[dict[str, str]]:
    """Give references by digest of what a real registry holds."""
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry") as host:
        found = {}
        for name in ("one", "two"):
            reference = Reference.parse(f"{host}/models/affine:{name}")
            with Registry.of(reference) as there:
                found[name] = push_bundle(versions[name].path, reference, there).reference
        yield found


def pull(source: str, folder: Path) -> None:
    reference = Reference.parse(source)
    with Registry.of(reference) as there:
        pull_bundle(reference, folder, there)


@pytest.mark.tool("docker-registry", "mount")
@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: to mount a small disk wants root")
def test_a_disk_that_is_full_at_any_page_of_an_update_leaves_a_whole_version_and_room_ends_it_right(
    registry: dict[str, str], versions: dict[str, Bundle], tmp_path: Path, report: Report
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True, timeout=30)
    one, two = (versions[name].manifest.digest for name in ("one", "two"))
    outcomes: Counter[str] = Counter()
    try:
        start, root, filler = tmp_path / "start", disk / "box", disk / "filler"
        assert updater(Slots(start), pull).update(registry["one"], 1).kind == "updated"
        for pages in range(16):
            shutil.copytree(start, root, symlinks=True)
            left = shutil.disk_usage(disk).free - pages * _PAGE
            filler.write_bytes(b"\1" * left)
            outcomes[tried(root, registry["two"]).kind] += 1
            assert served(root) in (one, two), f"{pages} pages were left"
            filler.unlink()
            assert [tried(root, registry["two"]).kind for _ in range(2)][-1] in ("updated", "unchanged"), pages
            assert served(root) == two, f"{pages} pages were left"
            shutil.rmtree(root)
    finally:
        subprocess.run(["umount", disk], check=True, timeout=30)
    report.lines.append(f"fleet: a disk full at {outcomes.total()} places of an update: {dict(outcomes)}")
    assert outcomes["waiting"] > 0
    assert outcomes["updated"] > 0, "no place was left where an update fits"


def tried(root: Path, source: str) -> Outcome:
    """Start a box's process anew and let it update; what it raises is what an agent tells, and tries again."""
    try:
        one = updater(Slots(root), pull)
        one.resume()
        return one.update(source, 2)
    except (FerrymanError, OSError) as error:
        return Outcome("waiting", source, str(error))


@pytest.mark.slow
@pytest.mark.tool("docker-registry", "faketime")
@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "tls"])
def test_a_box_in_1970_goes_on_serving_and_updates_as_soon_as_it_can(
    has_tls: bool, versions: dict[str, Bundle], tmp_path: Path
) -> None:
    file = certificate(tmp_path)
    private, public = make_key(tmp_path / "release")
    (tmp_path / "registry").mkdir()
    tls = {"certificate": str(file), "key": str(file)} if has_tls else None
    with docker_registry(tmp_path / "registry", tls=tls) as host:
        releases = f"{host}/fleet/street:stable"
        channel = Channel(releases, "street", ca=file if has_tls else None)
        ca = 'ca = "certificate.pem"\n' if has_tls else ""
        (tmp_path / "box.toml").write_text(
            f'fleet = "street"\nbox = "line-1"\nreleases = "{releases}"\nkeys = ["{public.name}"]\nroot = "box"\n'
            f'watch_s = 0\nspare_mb = 0\n{ca}[service]\nkind = "files"\n'
        )

        def publish(name: str, number: int) -> None:
            reference = Reference.parse(f"{host}/models/affine:{name}")
            with Registry.of(reference, ca=file if has_tls else None) as there:
                moved = push_bundle(versions[name].path, reference, there)
            told = {"fleet": "street", "number": number, "bundle": moved.reference, "stages": (100,)}
            channel.publish(Release.model_validate(told), load_private(private))

        publish("one", 1)
        assert look(tmp_path) == 0
        publish("two", 2)
        code = look(tmp_path, "faketime", "1970-01-02 00:00:00")
        assert served(tmp_path / "box") == versions["one" if has_tls else "two"].manifest.digest
        assert code == (1 if has_tls else 0)
        assert look(tmp_path) == 0
        assert served(tmp_path / "box") == versions["two"].manifest.digest
        assert Slots(tmp_path / "box").journal.bad == {}


@pytest.mark.tool("docker-registry")
def test_a_box_without_room_goes_back_to_what_it_has_and_takes_nothing_new(
    versions: dict[str, Bundle], tmp_path: Path
) -> None:
    private, public = make_key(tmp_path / "release")
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry") as host:
        releases = f"{host}/fleet/street:stable"
        channel = Channel(releases, "street")
        (tmp_path / "box.toml").write_text(
            f'fleet = "street"\nbox = "line-1"\nreleases = "{releases}"\nkeys = ["{public.name}"]\nroot = "box"\n'
            'watch_s = 0\nspare_mb = 0\n[service]\nkind = "files"\n'
        )
        box = read_box(tmp_path / "box.toml")

        def look_after(name: str, number: int, *, spare_mb: float) -> Agent:
            reference = Reference.parse(f"{host}/models/affine:{name}")
            with Registry.of(reference) as there:
                moved = push_bundle(versions[name].path, reference, there)
            told = {"fleet": "street", "number": number, "bundle": moved.reference, "size_bytes": 1}
            channel.publish(Release.model_validate(told), load_private(private))
            agent = Agent(box.model_copy(update={"spare_mb": spare_mb}))
            agent.look()
            return agent

        for number, name in enumerate(("one", "two"), start=1):
            look_after(name, number, spare_mb=0)
        assert "MB left" in look_after("three", 3, spare_mb=1e12).trouble
        assert look_after("one", 4, spare_mb=1e12).trouble == ""
        assert served(box.root) == versions["one"].manifest.digest


def look(folder: Path, *before: str) -> int:
    """Let a box look once; gives the exit code."""
    command = [*before, sys.executable, "-m", "ferryman", "fleet", "agent", "--box", str(folder / "box.toml"), "--once"]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode

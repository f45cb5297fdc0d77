"""The edge archive on a host with a running systemd: installed, updated under load, taken back, cut off from power."""

import random
import subprocess
import tarfile
import time
from collections.abc import Iterator

import pytest

from ferryman.core.progress import silent
from ferryman.targets.edge import Edge
from ferryman.targets.landing import land
from tests.chaos.counts import Report
from tests.targets.rolling import answers, under_load, wait_for, wait_for_answers, write_versions
from tests.targets.systemd_host import SystemdHost, systemd_host

pytestmark = [pytest.mark.slow, pytest.mark.tool("podman", "systemctl", "unshare", "chroot")]

_SERVICE, _SOCKET = "ferryman-edge.service", "ferryman-edge.socket"
_BACK_S = 90.0
_CUTS = 3
_SEED = 8


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdHost]:
    folder = tmp_path_factory.mktemp("edge")
    mounts = {}
    for name, bundle in write_versions(folder).items():
        edge = Edge(kind="edge", output=str(folder / f"out-{name}"), memory_mb=400)
        (change,) = edge.apply(land(bundle, edge, ""), dry_run=False, progress=silent)
        with tarfile.open(change.what) as archive:
            archive.extractall(folder / f"box-{name}", filter="data")
        (mounts[f"/srv/{name}"],) = (folder / f"box-{name}").iterdir()
    with systemd_host(folder, mounts) as one:
        yield one


def install(host: SystemdHost, name: str) -> str:
    return host("sh", f"/srv/{name}/install.sh", limit_s=180)


def wait_until_it_answers(host: SystemdHost, name: str) -> None:
    wait_for(lambda: answers(host.url, name), limit_s=_BACK_S, words=host.journal)


def test_it_installs_without_a_network_updates_under_load_and_goes_back(host: SystemdHost, report: Report) -> None:
    assert "outcome: updated" in install(host, "one")
    wait_until_it_answers(host, "one")
    assert host.unit(_SERVICE, "User") == "65532"
    assert host.unit(_SOCKET, "ActiveState") == "active"
    with under_load(host.url) as counts:
        wait_for_answers(counts, 50)
        assert "outcome: updated" in install(host, "two")
        wait_until_it_answers(host, "two")
        assert "outcome: updated" in install(host, "one")
        wait_until_it_answers(host, "one")
        wait_for_answers(counts, 50)
    counts.tell(report, "edge box, two installs")
    assert counts.is_whole, counts
    assert counts.again == 0, "the socket has let a caller go"


def test_a_killed_server_is_back_by_itself(host: SystemdHost) -> None:
    before = int(host.unit(_SERVICE, "NRestarts"))
    host("systemctl", "kill", "--signal", "KILL", _SERVICE)
    wait_for(lambda: int(host.unit(_SERVICE, "NRestarts")) == before + 1, limit_s=30, words=host.journal)
    wait_until_it_answers(host, "one")


def test_power_cuts_during_an_update_leave_a_box_that_answers_and_can_be_updated(
    host: SystemdHost, report: Report
) -> None:
    chance, after = random.Random(_SEED), []
    begun = time.monotonic()
    install(host, "one")
    whole_s = time.monotonic() - begun
    for _ in range(_CUTS):
        going = subprocess.Popen(
            ["podman", "exec", host.name, "sh", "/srv/two/install.sh"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(chance.uniform(0.1, whole_s))
        host.cut_power()
        going.wait(timeout=30)
        host.boot()
        wait_for(lambda: answers(host.url, "one") or answers(host.url, "two"), limit_s=_BACK_S, words=host.journal)
        after.append("two" if answers(host.url, "two") else "one")
        assert "outcome:" in install(host, "one")
        wait_until_it_answers(host, "one")
    assert "outcome: updated" in install(host, "two")
    wait_until_it_answers(host, "two")
    report.lines.append(f"edge box: {_CUTS} power cuts during an update, each box answered after its start: {after}")


def test_it_goes_and_leaves_no_unit(host: SystemdHost) -> None:
    host("sh", "/srv/one/install.sh", "--uninstall", "--purge")
    assert host.unit(_SERVICE, "LoadState") == "not-found"
    assert not (host.root / "opt/ferryman/runtime").exists()
    assert not (host.root / "var/lib/ferryman").exists()

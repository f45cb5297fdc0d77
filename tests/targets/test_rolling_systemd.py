"""The hardened service and its socket under a real systemd: callers wait while the bundle changes, and lose nothing."""

import time
from collections.abc import Iterator

import pytest

from tests.chaos.counts import Report
from tests.targets.rolling import answers, under_load, wait_for, wait_for_answers, write_versions, write_wrong
from tests.targets.systemd_host import PORT, PROGRAM, SystemdHost, systemd_host

pytestmark = [pytest.mark.slow, pytest.mark.tool("podman", "systemctl")]

_UNIT = "ferryman-affine.service"
_CALLERS = 6
_PROJECT = f"""
[model]
name = "affine"
source = "affine.onnx"
[task]
kind = "tensor"
[targets.systemd]
address = "0.0.0.0:{PORT}"
program = "{PROGRAM}"
memory_mb = 400
drain_s = 10
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdHost]:
    folder = tmp_path_factory.mktemp("systemd")
    write_versions(folder / "project")
    write_wrong(folder / "project")
    (folder / "project" / "ferryman.toml").write_text(_PROJECT)
    with systemd_host(folder, {"/srv/project": folder / "project"}) as one:
        yield one


def deploy(host: SystemdHost, move: str, *words: str, may_fail: bool = False) -> str:
    return host(PROGRAM, "deploy", move, "systemd", "--project", "/srv/project", "--quiet", *words, may_fail=may_fail)


def bring(host: SystemdHost, name: str) -> str:
    return deploy(host, "apply", "--bundle", f"/srv/project/{name}")


def test_two_new_bundles_and_a_restart_lose_no_request(host: SystemdHost, report: Report) -> None:
    assert "4 created" in bring(host, "one")
    assert "ready, 1 of 1" in deploy(host, "status")
    with under_load(host.url, callers=_CALLERS) as counts:
        wait_for_answers(counts, 50)
        assert "1 created, 1 changed" in bring(host, "two")
        assert answers(host.url, "two")
        assert "1 changed" in bring(host, "one")
        assert answers(host.url, "one")
        host("systemctl", "restart", _UNIT)
        wait_for_answers(counts, 50)
    counts.tell(report, "systemd")
    assert counts.is_whole, counts
    assert counts.again == 0, "the socket has let a caller go"
    assert counts.by.keys() == {"one", "two"}


def test_a_bundle_that_answers_wrong_never_serves_and_no_request_is_lost(host: SystemdHost, report: Report) -> None:
    bring(host, "one")
    with under_load(host.url, callers=_CALLERS) as counts:
        wait_for_answers(counts, 20)
        said = deploy(host, "apply", "--bundle", "/srv/project/wrong", may_fail=True)
        wait_for_answers(counts, 20)
    counts.tell(report, "systemd, a bundle that answers wrong")
    assert "golden" in said
    assert "the units from before are back in place" in said
    assert counts.is_whole, counts
    assert counts.by.keys() == {"one"}


def test_a_killed_server_breaks_what_it_held_alone_and_is_back_by_itself(host: SystemdHost, report: Report) -> None:
    bring(host, "one")
    before = int(host.unit(_UNIT, "NRestarts"))
    with under_load(host.url, callers=_CALLERS, pause_s=0.0) as counts:
        wait_for_answers(counts, 50)
        begun = time.monotonic()
        host("systemctl", "kill", "--signal", "KILL", _UNIT)
        wait_for(lambda: int(host.unit(_UNIT, "NRestarts")) == before + 1, limit_s=30, words=host.journal)
        wait_for(lambda: host.unit(_UNIT, "ActiveState") == "active", limit_s=30, words=host.journal)
        back_s = time.monotonic() - begun
        wait_for_answers(counts, 50)
    counts.tell(report, f"systemd, SIGKILL: {counts.again} connections broke, ready again after {back_s:.1f} s")
    assert counts.is_whole, counts
    assert counts.again <= _CALLERS, "more than what the killed process had in its hands"


def test_it_goes_without_a_trace(host: SystemdHost) -> None:
    assert "nothing to change" in bring(host, "one")
    assert "3 removed" in deploy(host, "remove")
    assert not list((host.root / "etc/systemd/system").glob("ferryman-*"))
    assert host.unit(_UNIT, "LoadState") == "not-found"

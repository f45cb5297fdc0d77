"""A disk that is full: under the access log, and under what a server remembers."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bundle.making import bundle_affine
from tests.chaos.counts import Report
from tests.chaos.load import HttpLoad, Target
from tests.chaos.questions import affine
from tests.chaos.serving import serving
from tests.server.running import wait_until

FULL = Path("/dev/full")


def test_a_full_disk_under_the_access_log_stops_no_answer(tmp_path: Path, report: Report) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    log = tmp_path / "access.log"
    log.symlink_to(FULL)
    with serving([bundle.path], "--access-log", str(log)) as server, HttpLoad(Target(server.port), affine()) as http:
        wait_until(lambda: "No space left on device" in server.log())
        http.wait_for_answers(200)
    report.add("the access log's disk is full", http.counts)
    assert http.counts.answered == http.counts.sent


@contextmanager
def no_room(pid: int) -> Iterator[None]:
    """Have no file of the process ``pid`` grow at all, as on a disk that is full, until the block ends."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_a_full_disk_under_the_state_refuses_a_choice_and_keeps_the_one_before(tmp_path: Path, report: Report) -> None:
    repository, state = tmp_path / "repository", tmp_path / "state"
    for version in ("1", "2", "3"):
        bundle_affine(repository / "affine" / version, factor=float(version))
    with (
        serving([repository], "--state", str(state)) as server,
        HttpLoad(Target(server.port), affine(float)) as http,
    ):
        activate = "/admin/models/affine/activate"
        assert server.admin("POST", activate, {"version": "1"})[0] == 200
        with no_room(server.process.pid):
            status, answer = server.admin("POST", activate, {"version": "2"})
            assert status >= 400, answer
            http.wait_for_answers(50)
            assert http.versions == ["3", "1"], "what could not be remembered was not done"
        assert server.admin("POST", activate, {"version": "2"})[0] == 200
        http.wait_for_answers(50)
    report.add("the state's disk is full", http.counts, f"the operator is told {status}")
    assert http.versions == ["3", "1", "2"]
    assert http.counts.answered == http.counts.sent
    with serving([repository], "--state", str(state)) as server:
        assert server.ask("GET", "/v2/models/affine")[1]["versions"] == ["2"]

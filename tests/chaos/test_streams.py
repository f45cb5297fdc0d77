"""Streams of requests, over WebSockets and gRPC, while versions, workers and servers come and go."""

from pathlib import Path

from tests.bundle.making import bundle_affine
from tests.chaos.counts import Report
from tests.chaos.load import Target
from tests.chaos.pairs import Pair, factor_of, kill_workers, load_version, streams
from tests.chaos.questions import affine
from tests.chaos.serving import family, serving
from tests.ports import free_port
from tests.server.running import wait_until

RELOADS = 5
AHEAD = 9  # frames that the callers of one protocol have under way at once


def tell(report: Report, what: str, callers: Pair, note: str = "") -> None:
    """Note what became of the frames, and make sure that each was answered right or had its reason."""
    report.add(f"{what}, WebSockets", callers.http.counts, note)
    report.add("  and streams of gRPC", callers.grpc.counts)
    counts = callers.counts
    assert (counts.lost, counts.wrong, counts.failed) == (0, 0, {}), counts.examples


def test_frames_are_answered_over_reloads(tmp_path: Path, report: Report) -> None:
    repository = tmp_path / "repository"
    bundle_affine(repository / "affine" / "1", factor=factor_of("1"))
    with serving([repository]) as server, streams(Target(server.port), affine(factor_of)) as callers:
        for version in range(2, RELOADS + 2):
            callers.wait_for_answers(30)
            load_version(server, repository, str(version))
        callers.wait_for_answers(30)
    tell(report, f"{RELOADS} reloads", callers)
    assert callers.counts.answered == callers.counts.sent, callers.counts.examples


def test_frames_are_answered_over_a_rollout(tmp_path: Path, report: Report) -> None:
    repository = tmp_path / "repository"
    for version in ("1", "2"):
        bundle_affine(repository / "affine" / version, factor=factor_of(version))
    plan = {"steps": [0.5], "step_s": 1, "min_requests": 20, "shadow": 0, "max_p99_ratio": 1000.0}
    with serving([repository]) as server:
        assert server.admin("POST", "/admin/models/affine/activate", {"version": "1"})[0] == 200
        with streams(Target(server.port), affine(factor_of)) as callers:
            callers.wait_for_answers(30)
            status, answer = server.admin("POST", "/admin/rollouts/affine", {"version": "2", "plan": plan})
            assert status < 300, answer
            wait_until(lambda: server.admin("GET", "/admin/status")[1]["models"]["affine"]["active"] == "2")
            callers.wait_for_answers(30)
    tell(report, "a rollout", callers)
    assert callers.counts.answered == callers.counts.sent, callers.counts.examples


def test_at_sigterm_each_frame_is_answered_or_its_client_is_told(tmp_path: Path, report: Report) -> None:
    with serving([bundle_affine(tmp_path / "affine").path]) as server:
        with streams(Target(server.port, leaves_when_refused=True), affine()) as callers:
            callers.wait_for_answers(100)
            code = server.stop(timeout_s=40)
            callers.wait_until_left()
        assert code == 0
        assert not family(server.mark)
    tell(report, "SIGTERM", callers, "refused: told by the close that they were not taken")
    assert max(callers.http.counts.refused, callers.grpc.counts.refused) <= AHEAD, "no more than was under way"


def test_a_killed_worker_costs_streams_the_frames_that_it_had(tmp_path: Path, report: Report) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    with serving([bundle.path]) as server, streams(Target(server.port), affine()) as callers:
        kill_workers(server, callers)
    tell(report, "a worker is killed, three times", callers)
    for counts in (callers.http.counts, callers.grpc.counts):
        assert counts.refused <= 3 * AHEAD, "only those under way are refused"
        assert counts.well_after_s < 30


def test_streams_come_back_to_a_server_that_was_killed(tmp_path: Path, report: Report) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    port = free_port()
    with serving([bundle.path], port=port) as server, streams(Target(port, server_may_die=True), affine()) as callers:
        callers.wait_for_answers(50)
        server.kill()
        callers.hurt()
        wait_until(lambda: not family(server.mark))
        with serving([bundle.path], port=port):
            callers.wait_for_answers(50)
            callers.stop()
    tell(report, "the server is killed and they connect again", callers)
    # Twice, as the kernel may have taken their next connections for a server that was dying.
    assert max(callers.http.counts.cut, callers.grpc.counts.cut) <= 2 * AHEAD, "no more than was under way"

"""kill -9, of a worker and of the server, while it is asked."""

import os
import signal
from pathlib import Path

from tests.bundle.making import bundle_affine
from tests.chaos.counts import Report, together
from tests.chaos.grpc_load import GrpcLoad
from tests.chaos.load import HttpLoad, Target
from tests.chaos.pairs import kill_workers, requests
from tests.chaos.questions import affine
from tests.chaos.serving import family, name_of, serving
from tests.ports import free_port
from tests.server.running import wait_until

FACTORS = {"1": 2.0, "2": 3.0}


def test_a_killed_worker_costs_refusals_and_no_request(tmp_path: Path, report: Report) -> None:
    with serving([bundle_affine(tmp_path / "affine").path]) as server:
        with requests(Target(server.port), affine()) as callers:
            kill_workers(server, callers)
        counts = callers.counts
        report.add("a worker is killed, three times", counts)
        assert (counts.lost, counts.wrong, counts.failed) == (0, 0, {}), counts.examples
        assert counts.well_after_s < 30
        assert server.ask("GET", "/v2/health/ready")[0] == 200


def test_a_killed_worker_of_two_costs_nobody_else_anything(tmp_path: Path, report: Report) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    with serving([bundle.path], "--processes", "2") as server, HttpLoad(Target(server.port), affine()) as http:
        http.wait_for_answers(100)
        os.kill(server.workers()[0], signal.SIGKILL)
        http.counts.hurt()
        http.wait_for_answers(100)
        wait_until(lambda: len(server.workers()) == 2)
        http.wait_for_answers(20)
    report.add("one worker of two is killed", http.counts)
    assert (http.counts.lost, http.counts.wrong, http.counts.failed) == (0, 0, {})
    assert http.counts.refused <= 8, "only those that it had are refused"


def test_a_killed_zygote_is_started_again_with_its_workers(tmp_path: Path, report: Report) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    with serving([bundle.path]) as server, HttpLoad(Target(server.port), affine()) as http:
        http.wait_for_answers(100)
        before = set(family(server.mark))
        (zygote,) = [pid for pid in before if name_of(pid) == "ferryman-zygote"]
        os.kill(zygote, signal.SIGKILL)
        http.counts.hurt()
        http.wait_for_answers(100)
        wait_until(lambda: len(before & set(family(server.mark))) == 1)  # the server's own process
        http.wait_for_answers(20)
    report.add("the process that workers are forked from is killed", http.counts)
    assert (http.counts.lost, http.counts.wrong, http.counts.failed) == (0, 0, {}), http.counts.examples
    assert http.counts.well_after_s < 30


def test_a_killed_server_leaves_no_orphan_and_comes_back_as_it_was(tmp_path: Path, report: Report) -> None:
    repository = tmp_path / "repository"
    for version, factor in FACTORS.items():
        bundle_affine(repository / "affine" / version, factor=factor)
    with serving([repository], port=free_port()) as server:
        status, _ = server.admin("POST", "/admin/models/affine/activate", {"version": "1"})
        assert status == 200
        target = Target(server.port, server_may_die=True)
        questions = affine(lambda version: FACTORS[version])
        with HttpLoad(target, questions) as http, GrpcLoad(target, questions) as grpc:
            http.wait_for_answers(100)
            grpc.wait_for_answers(50)
            server.kill()
            http.counts.hurt()
            grpc.hurt()
            wait_until(lambda: not family(server.mark))
            with serving([repository], port=server.port) as second:
                http.wait_for_answers(100)
                grpc.wait_for_answers(50)
                assert second.ask("GET", "/v2/health/ready")[0] == 200
                http.stop()
                grpc.stop()
        counts = together([http.counts, grpc.counts])
        report.add("the server is killed and started again", counts, "cut: in work when it died; asked again, answered")
        assert http.versions == ["1"], "the choice of before still holds"
        assert (counts.lost, counts.wrong, counts.failed) == (0, 0, {}), counts.examples
        # Twice, as the kernel may have taken its next connection for a server that was dying.
        assert counts.cut <= 2 * 11, "no more than each caller had under way"

"""New versions and SIGTERM while callers ask over both protocols: no request is lost."""

from pathlib import Path

from tests.bundle.making import bundle_affine
from tests.chaos.counts import Report, together
from tests.chaos.grpc_load import GrpcLoad
from tests.chaos.load import HttpLoad, Target
from tests.chaos.pairs import factor_of, load_version, requests
from tests.chaos.questions import affine
from tests.chaos.serving import family, serving
from tests.server.http.serving import read_answers
from tests.server.http.serving import serving as serving_echo
from tests.server.running import wait_until

RELOADS = 20


def test_twenty_reloads_refuse_and_lose_nothing(tmp_path: Path, report: Report) -> None:
    repository = tmp_path / "repository"
    bundle_affine(repository / "affine" / "1", factor=factor_of("1"))
    with serving([repository]) as server:
        target = Target(server.port)
        with HttpLoad(target, affine(factor_of)) as http, GrpcLoad(target, affine(factor_of)) as grpc:
            http.wait_for_answers(50)
            for version in range(2, RELOADS + 2):
                load_version(server, repository, str(version))
                http.wait_for_answers(5)
            wait_until(lambda: len(server.workers()) == 1)
        counts = together([http.counts, grpc.counts])
        report.add(f"{RELOADS} reloads", counts)
        assert counts.answered == counts.sent, counts
        assert http.versions == [str(version) for version in range(1, RELOADS + 2)], "each in its turn"


def test_sigterm_answers_everything_that_was_accepted(tmp_path: Path, report: Report) -> None:
    with serving([bundle_affine(tmp_path / "affine").path]) as server:
        with requests(Target(server.port, leaves_when_refused=True), affine(), callers=16) as callers:
            callers.wait_for_answers(150)
            code = server.stop(timeout_s=40)
            callers.wait_until_left()
        counts = callers.counts
        report.add("SIGTERM", counts, "callers left when nobody took their connection")
        assert code == 0
        assert not family(server.mark)
        assert counts.answered == counts.sent, counts


def test_a_connection_is_not_closed_as_idle_over_a_request_that_was_just_written() -> None:
    request = b"GET /just HTTP/1.1\r\nHost: chaos\r\n\r\n"
    with serving_echo() as server, server.connect() as link:
        link.sendall(request)
        assert read_answers(link, 1)[0][0] == 200

        def stop_while_it_comes() -> None:
            link.sendall(request)  # on the server's own loop, which can't have read it yet
            server.connections.close_idle(0)

        server.call(stop_while_it_comes)
        assert read_answers(link, 1)[0][0] == 200

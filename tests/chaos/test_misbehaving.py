"""Models that segfault, hang, leak, or answer nonsense, while others ask them and their neighbours."""

from pathlib import Path

from tests.bundle.making import bundle_affine
from tests.chaos.counts import Report
from tests.chaos.load import HttpLoad, Target
from tests.chaos.questions import affine, order
from tests.chaos.serving import Serving, serving
from tests.server.misbehaving import HANG, LEAK, NAN, SEGFAULT, bundle_misbehaving
from tests.server.running import Running, running, wait_until

EVIL = 1e3


def test_a_model_that_segfaults_takes_nobody_with_it(tmp_path: Path, report: Report) -> None:
    bad, good = bundle_misbehaving(tmp_path / "bad"), bundle_affine(tmp_path / "good")
    with serving([bad.path, good.path]) as server:
        target = Target(server.port)
        with HttpLoad(target, order(), callers=4) as beside, HttpLoad(target, affine(), callers=4) as neighbours:
            beside.wait_for_answers(50)
            for _ in range(3):
                assert harm(server, SEGFAULT) == 503, "and it may be asked again"
                beside.counts.hurt()
                beside.wait_for_answers(20)
            neighbours.wait_for_answers(50)
    report.add("a model segfaults, three times", beside.counts, "its other callers")
    report.add("  and another model beside it", neighbours.counts)
    assert (beside.counts.lost, beside.counts.wrong, beside.counts.failed) == (0, 0, {})
    assert neighbours.counts.answered == neighbours.counts.sent


def test_a_model_that_hangs_is_ended_and_started_again(tmp_path: Path, report: Report) -> None:
    bad, good = bundle_misbehaving(tmp_path / "bad"), bundle_affine(tmp_path / "good")
    with running([bad.path, good.path], hang_s=1.0) as server:
        target = Target(server.host_and_port[1])
        with HttpLoad(target, order(), callers=4) as beside, HttpLoad(target, affine(), callers=4) as neighbours:
            beside.wait_for_answers(50)
            beside.counts.hurt()
            assert harm(server, HANG) == 503
            beside.wait_for_answers(50)
            neighbours.wait_for_answers(50)
    report.add("a model hangs (1 s is a hang)", beside.counts, "its other callers")
    report.add("  and another model beside it", neighbours.counts)
    assert (beside.counts.lost, beside.counts.wrong, beside.counts.failed) == (0, 0, {})
    assert neighbours.counts.answered == neighbours.counts.sent


def test_a_model_that_leaks_is_renewed_before_it_is_too_large_and_nobody_notices(
    tmp_path: Path, report: Report
) -> None:
    bad = bundle_misbehaving(tmp_path / "bad")
    limit_mb = 200
    seen_mb: list[int] = []
    seen_pids: set[int] = set()

    def is_renewed_twice() -> bool:
        pids = server.workers()
        seen_pids.update(pids)
        seen_mb.append(largest_mb(pids))
        return len(seen_pids) > 2

    with (
        serving([bad.path], "--max-worker-mb", str(limit_mb)) as server,
        HttpLoad(Target(server.port), order(LEAK, 1.0), callers=4, pause_s=0.04) as http,
    ):
        wait_until(is_renewed_twice, timeout_s=60)
        http.wait_for_answers(20)
    note = f"renewed twice at {limit_mb} MB; the largest had {max(seen_mb)} MB"
    report.add("a model leaks 1 MB a request", http.counts, note)
    assert http.counts.answered == http.counts.sent
    assert max(seen_mb) < 4 * limit_mb


def test_a_model_that_answers_nan_says_so_in_words_and_is_examined_at_once(tmp_path: Path, report: Report) -> None:
    bad = bundle_misbehaving(tmp_path / "bad")
    with serving([bad.path], "--probe-s", "3600") as server:
        with HttpLoad(Target(server.port), order(), callers=4) as beside:
            beside.wait_for_answers(50)
            for _ in range(20):
                answer = server.infer("misbehaving", {"inputs": [told(NAN)]})[1]
                assert answer["outputs"][0]["data"] == ["NaN", "NaN"]
            wait_until(lambda: probes(server) > 0)
            beside.wait_for_answers(50)
        assert server.ask("GET", "/v2/health/ready")[0] == 200
    report.add("a model answers NaN", beside.counts, "its other callers; who gets NaN reads NaN")
    assert beside.counts.answered == beside.counts.sent


def test_a_model_that_goes_wrong_is_found_out_and_never_answers_again(tmp_path: Path, report: Report) -> None:
    switch = tmp_path / "wrong"
    bad = bundle_misbehaving(tmp_path / "bad", wrong_file=str(switch))
    with serving([bad.path], "--probe-s", "0.5") as server, HttpLoad(Target(server.port), order(), callers=4) as http:
        http.wait_for_answers(50)
        http.counts.hurt()
        switch.touch()
        wait_until(lambda: server.ask("GET", "/v2/health/ready")[0] == 503)
        before = http.counts.wrong
        refused = http.counts.refused
        wait_until(lambda: http.counts.refused > refused + 50)
        assert http.counts.wrong == before, "once it was found out no wrong answer came"
        assert server.metric("ferryman_golden_ok") == 0
        switch.unlink()
        http.wait_for_answers(50)
    note = "wrong: until a golden sample told (each 0.5 s)"
    report.add("a model goes wrong, and is right again later", http.counts, note)
    assert (http.counts.lost, http.counts.failed) == (0, {})


def harm(server: Running, code: int) -> int:
    """Ask the model to do harm; gives the status."""
    return server.infer("misbehaving", {"inputs": [told(code)]})[0]


def told(code: int) -> dict[str, object]:
    return {"name": "order", "shape": [1, 2], "datatype": "FP32", "data": [code, EVIL]}


def probes(server: Serving) -> int:
    """Give how many golden samples were asked while it served."""
    (version,) = server.admin("GET", "/admin/status")[1]["models"]["misbehaving"]["versions"].values()
    asked: int = version["golden_probes"]
    return asked


def largest_mb(pids: list[int]) -> int:
    """Give the resident memory of the largest of these processes."""
    sizes = [0]
    for pid in pids:
        try:
            sizes.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 // 2**20)
        except OSError:
            continue  # it ended meanwhile
    return max(sizes)

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from ferryman import api
from ferryman.cli.main import main
from ferryman.core.errors import InputError, UserError
from ferryman.core.proof import Accuracy, Calibration, Reliability
from tests.bundle.making import make_proof
from tests.server.running import Running, read_answer, running, wait_until
from tests.server.watch.making import bundle_proven, make_rows
from tests.server.watch.test_watch import ask, metric

SETTINGS: dict[str, Any] = {"monitor": {"cost": 1.0, "alerts": {"rules": {"performance": {"for_s": 0.5}}}}}
RELIABILITY = Reliability(error=0.02, bins=((0.55, 0.55, 100), (0.95, 0.95, 400)))


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Running]:
    """Serve a model whose proof says that it is right nine times of ten."""
    empty = make_proof("table")
    measured = Accuracy(
        metric="accuracy", value=0.9, source_value=0.9, drop=0, drop_low=0, drop_high=0, samples=500,
        figures={"accuracy": 0.9},
    )  # fmt: skip
    calibration = Calibration(source=RELIABILITY, candidate=RELIABILITY)
    winner = empty.candidates[0].model_copy(update={"accuracy": measured, "calibration": calibration})
    proof = empty.model_copy(update={"candidates": (winner,)})
    bundle = bundle_proven(folder / "bundle", proof, **SETTINGS)
    with running([bundle.path], admin_port=0, **settings) as server:
        wait_until(lambda: ask(server, "/v1/monitor")[0] == 200)
        yield server


def post(server: Running, told: object) -> tuple[int, Any]:
    connection = HTTPConnection(server.admin_url.removeprefix("http://"), timeout=30)
    try:
        connection.request("POST", "/v1/monitor/feedback", json.dumps(told), {"Content-Type": "application/json"})
        return read_answer(connection.getresponse())[:2]
    finally:
        connection.close()


def answer_rows(server: Running, count: int) -> list[str]:
    """Ask about rows under the names r0, r1 ...; gives the labels that were answered."""
    labels = []
    for place, row in enumerate(make_rows(count, seed=2)):
        body, headers = json.dumps({"instances": [row]}).encode(), {"X-Request-Id": f"r{place}"}
        status, answer, _ = server.ask(
            "POST", "/v2/models/table/infer", body, {"Content-Type": "application/json", **headers}
        )
        assert status == 200, answer
        labels.append(answer["predictions"][0]["label"])
    return labels


def other(label: str) -> str:
    return {"light": "heavy", "heavy": "light"}[label]


def truths(labels: Sequence[str], *, wrong_of_ten: int) -> list[dict[str, str]]:
    return [
        {"id": f"r{place}", "truth": other(label) if place * 7 % 10 < wrong_of_ten else label}
        for place, label in enumerate(labels)
    ]


def test_labels_that_come_late_are_measured_and_a_drop_is_an_alert(tmp_path: Path) -> None:
    with serving(tmp_path, monitor=tmp_path / "kept") as server:
        labels = answer_rows(server, 120)
        wait_until(lambda: ask(server, "/v1/monitor")[1]["records"] >= 120)
        assert post(server, {"feedback": [*truths(labels, wrong_of_ten=5), {"id": "nobody", "right": True}]}) == (
            202, {"taken": 121, "replaced": 0},
        )  # fmt: skip
        wait_until(lambda: ask(server, "/v1/monitor/performance")[1]["feedback"].get("joined") == 120)
        told = ask(server, "/v1/monitor/performance")[1]
        assert told["feedback"]["waiting"] == 1
        [version] = told["versions"]
        assert version["rolling"]["windows"][-1]["value"] == pytest.approx(0.5)
        assert version["rolling"]["drop"]["least"] > 0.1
        wait_until(lambda: metric(server, "ferryman_metric_drop") > 0.1)
        assert metric(server, "ferryman_metric_value") == pytest.approx(0.5)
        assert metric(server, "ferryman_labelled_items") == 120
        wait_until(lambda: any(
            (alert["rule"], alert["state"]) == ("performance", "firing")
            for alert in ask(server, "/v1/monitor/alerts")[1]
        ))  # fmt: skip
        corrected = truths(labels, wrong_of_ten=1)
        told = api.feedback(corrected, server.admin_url)
        assert (told["taken"], told["replaced"]) == (120, 120)
        wait_until(lambda: metric(server, "ferryman_metric_value") == pytest.approx(0.9))
        server.stop()
    again = api.feedback([], tmp_path / "kept")  # what was kept is there without the server
    assert again["versions"][0]["rolling"]["windows"][-1]["value"] == pytest.approx(0.9)


def test_answers_without_labels_are_estimated(tmp_path: Path) -> None:
    with serving(tmp_path, monitor=tmp_path / "kept") as server:
        answer_rows(server, 60)
        server.stop()
    with serving(tmp_path / "again", monitor=tmp_path / "kept") as server:
        wait_until(lambda: metric(server, "ferryman_metric_estimate") > 0.5)
        [version] = ask(server, "/v1/monitor/performance")[1]["versions"]
        assert version["estimate"]["count"] == 60
        assert version["estimate"]["low"] < version["estimate"]["value"] < version["estimate"]["high"]
        assert version["rolling"] is None


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"feedback": []}, "key 'feedback' must be a list"),
        ({"labels": []}, "unknown key 'labels'"),
        ({"feedback": [{"id": "a", "truth": 1}, {"id": "a"}]}, "row 1: one of 'truth', 'right', 'objects' is needed"),
        ({"feedback": [{"id": "a", "truth": "x" * 70_000}]}, "at most 65536 are read"),
    ],
)
def test_what_is_no_feedback_is_refused_by_name(unkept: Running, told: object, said: str) -> None:
    status, answer = post(unkept, told)
    assert (status, said in answer["error"]) == (400, True), answer


def test_without_a_place_for_records_no_feedback_is_taken(unkept: Running) -> None:
    status, answer = post(unkept, {"feedback": [{"id": "a", "truth": 1}]})
    assert (status, answer["hint"]) == (400, "ferryman serve ... --monitor DIR")
    with pytest.raises(UserError, match="none are kept"):
        api.feedback([{"id": "a", "truth": 1}], unkept.admin_url)


@pytest.fixture(scope="module")
def unkept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("unkept")) as server:
        yield server


def test_the_verb_joins_a_file_with_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path, monitor=tmp_path / "kept") as server:
        labels = answer_rows(server, 40)
        wait_until(lambda: ask(server, "/v1/monitor")[1]["records"] >= 40)
        server.stop()
    rows = "".join(f"{row['id']},{row['truth']}\n" for row in truths(labels, wrong_of_ten=2))
    (tmp_path / "labels.csv").write_text(f"id,truth\n{rows}gone,light\n")
    assert main(["feedback", str(tmp_path / "labels.csv"), "--monitor", str(tmp_path / "kept")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["taken 41, of which 0 replaced earlier ones", "in all: joined 40, waiting 1"]
    assert lines[4].split()[0] == "table"
    assert lines[4].split()[2:5] == ["right", "40", "0.800"]
    assert (
        main(["feedback", str(tmp_path / "labels.csv"), "--monitor", str(tmp_path / "nothing")]) == UserError.exit_code
    )
    assert "holds no records" in capsys.readouterr().err
    with pytest.raises(InputError, match="row 0"):
        api.feedback([{"id": "a", "truth": None}], tmp_path / "kept")


def test_a_request_without_a_name_is_told_about_by_the_id_that_it_was_given(tmp_path: Path) -> None:
    with serving(tmp_path, monitor=tmp_path / "kept") as server:
        body = json.dumps({"rows": make_rows(1, seed=5)}).encode()
        headers = {"Content-Type": "application/json"}
        given = [server.ask("POST", "/v2/models/table/infer", body, headers)[2]["x-request-id"] for _ in range(3)]
        wait_until(lambda: ask(server, "/v1/monitor")[1]["records"] >= 3)
        assert post(server, {"feedback": [{"id": each, "right": True} for each in given]})[0] == 202
        wait_until(lambda: ask(server, "/v1/monitor/performance")[1]["feedback"].get("joined") == 3)

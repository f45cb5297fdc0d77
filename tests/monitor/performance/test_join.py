import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ferryman.core.errors import NotReady
from ferryman.monitor.performance.feedback import Feedback
from ferryman.monitor.performance.join import confidences
from ferryman.monitor.performance.ledger import FILE
from ferryman.monitor.performance.watch import Known, PerformanceWatch
from tests.monitor.performance.making import BEGUN_S, keep, promise, record

NOW_S = BEGUN_S + 7 * 86_400
KEY = ("street", "1")


def watch_in(folder: Path) -> PerformanceWatch:
    return PerformanceWatch(folder, keep_days=30)


def said(name: str, truth: str | float = "car", *, at_s: float = NOW_S, item: int = 0) -> Feedback:
    return Feedback(name, item, at_s, truth=truth)


def test_labels_that_come_a_week_late_find_their_records(tmp_path: Path) -> None:
    keep(tmp_path, [record(f"r{number}") for number in range(50)])
    watch = watch_in(tmp_path)
    watch.take([said(f"r{number}", "car" if number % 5 else "bus") for number in range(50)], NOW_S)
    watch.refresh({KEY: Known(promise())}, NOW_S)
    told = watch.tell()
    assert told["feedback"] == {"taken": 50, "joined": 50, "waiting": 0}
    [version] = told["versions"]
    assert (version["model"], version["version"], version["labelled"]) == (*KEY, 50)
    assert version["rolling"]["windows"][-1]["value"] == 0.8
    assert version["labels_never_answered"] == {"bus": 10}
    [outcome] = [each for each in watch.ledger.outcomes(*KEY, 100) if each.id == "r3"]
    assert outcome.signals == {"cell.zone": "north", "answer.confidence": 0.8, "picture.brightness": 90.0}
    assert (outcome.right, outcome.confidence, outcome.told_s) == (True, 0.8, NOW_S)


def test_each_item_of_a_request_has_its_own_truth(tmp_path: Path) -> None:
    columns = {"answer.label": ["car", "bus", "car"], "answer.confidence": [0.9, 0.8, 0.7]}
    keep(tmp_path, [record("many", rows=3, columns=columns)])
    watch = watch_in(tmp_path)
    watch.take(
        [said("many", "car"), said("many", "bus", item=1), said("many", "bus", item=2), said("many", item=3)], NOW_S
    )
    watch.join(NOW_S)
    found = {each.item: each.right for each in watch.ledger.outcomes(*KEY, 10)}
    assert found == {0: True, 1: True, 2: False}
    assert watch.ledger.figures() == {"taken": 4, "joined": 3, "no_such_item": 1, "waiting": 0}


def test_the_truth_that_was_found_out_last_counts_whenever_it_comes(tmp_path: Path) -> None:
    keep(tmp_path, [record("r0")])
    watch = watch_in(tmp_path)

    def right_after(*feedback: Feedback) -> bool | None:
        watch.take(feedback, NOW_S)
        watch.join(NOW_S)
        [outcome] = watch.ledger.outcomes(*KEY, 10)
        return outcome.right

    assert right_after(said("r0", "bus", at_s=100)) is False
    assert right_after(said("r0", "car", at_s=300)) is True
    assert right_after(said("r0", "bus", at_s=200)) is True  # older news
    assert right_after(said("r0", "bus", at_s=400), said("r0", "car", at_s=401)) is True
    assert watch.ledger.figures()["replaced"] == 4


def test_what_comes_before_its_record_waits_for_it_a_day_and_no_longer(tmp_path: Path) -> None:
    keep(tmp_path, [record("r0")])
    watch = watch_in(tmp_path)
    watch.take([said("early"), said("never")], NOW_S)
    assert watch.join(NOW_S) == 0
    keep(tmp_path, [record("early")])
    assert watch.join(NOW_S + 30) == 0  # it is looked for each minute
    assert watch.join(NOW_S + 61) == 1
    assert watch.ledger.figures() == {"taken": 2, "joined": 1, "waiting": 1}
    watch.join(NOW_S + 86_401)
    assert watch.ledger.figures() == {"taken": 2, "joined": 1, "unknown": 1, "waiting": 0}


def test_what_can_t_be_told_of_an_answer_is_counted_by_its_reason(tmp_path: Path) -> None:
    keep(tmp_path, [
        record("twice"), record("twice", columns={"answer.label": ["bus"]}),
        record("failed", outcome="deadline", columns={}),
        record("boxes", columns={"answer.label": ["car"], "answer.objects": [2.0]}),
        record("value", columns={"answer.value": [3.0]}),
    ])  # fmt: skip
    watch = watch_in(tmp_path)
    feedback = [
        said("twice"),
        said("failed"),
        said("boxes"),
        said("value", "high"),
        Feedback("value", 1, NOW_S, objects=1),
    ]
    watch.take(feedback, NOW_S)
    watch.join(NOW_S)
    told = watch.ledger.figures()
    assert told == {"taken": 5, "ambiguous": 1, "unanswered": 1, "unfit": 2, "no_such_item": 1, "waiting": 0}


def test_boxes_are_judged_by_people_or_counted(tmp_path: Path) -> None:
    columns = {"answer.label": ["car"], "answer.objects": [2.0], "answer.confidence": [0.5]}
    keep(tmp_path, [record(f"r{number}", columns=columns) for number in range(80)])
    watch = watch_in(tmp_path)
    watch.take([Feedback(f"r{number}", 0, NOW_S, right=number % 4 > 0) for number in range(40)], NOW_S)
    watch.take([Feedback(f"r{number}", 0, NOW_S, objects=3.0) for number in range(40, 80)], NOW_S)
    known = Known(promise(metric="map", value=0.6, right=None))
    watch.refresh({KEY: known}, NOW_S)
    [version] = watch.tell()["versions"]
    assert version["rolling"]["metric"] == "right"
    assert version["rolling"]["windows"][-1]["value"] == 0.75
    assert version["rolling"]["drop"] is None
    assert version["estimate"] is None
    assert "not how many were missed" in version["no_estimate"]
    assert watch.readings() == []  # mAP can't be told of this: no alert stands on it


def test_a_shadow_that_answered_the_same_request_is_measured_too(tmp_path: Path) -> None:
    other = record("r0", version="2", columns={"answer.label": ["bus"], "answer.confidence": [0.6]})
    keep(tmp_path, [record("r0"), other])
    watch = watch_in(tmp_path)
    watch.take([said("r0", "bus")], NOW_S)
    watch.join(NOW_S)
    assert [watch.ledger.outcomes("street", version, 1)[0].right for version in ("1", "2")] == [False, True]


def test_confidences_of_all_records_are_counted(tmp_path: Path) -> None:
    drawn = np.round(np.random.default_rng(0).uniform(0.5, 1.0, 400), 4)
    columns = [{"answer.label": ["car"], "answer.confidence": [float(each)]} for each in drawn]
    keep(tmp_path, [record(f"r{number}", columns=each) for number, each in enumerate(columns)])
    values, counts = confidences(tmp_path / "records", 0.0)[KEY]
    assert counts.sum() == 400
    assert values @ counts / 400 == pytest.approx(drawn.mean())
    assert confidences(tmp_path / "records", NOW_S) == {}


def test_outcomes_go_with_their_records(tmp_path: Path) -> None:
    keep(tmp_path, [record("old"), record("new", at_s=NOW_S)])
    watch = watch_in(tmp_path)
    watch.take([said("old"), said("new")], NOW_S)
    watch.join(NOW_S)
    watch.ledger.trim(NOW_S - 86_400)
    assert [each.id for each in watch.ledger.outcomes(*KEY, 10)] == ["new"]


def test_feedback_that_was_taken_outlives_a_kill(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from ferryman.monitor.performance.feedback import Feedback\n"
        "from ferryman.monitor.performance.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "for number in range(100000):\n"
        "    ledger.take([Feedback(f'r{number}', 0, 1.0, truth='car')], 1.0)\n"
        "    print(number, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 20:
            os.kill(process.pid, signal.SIGKILL)
            break
    told = int([line, *process.stdout.read().splitlines()][-1] or 20)
    process.wait()
    process.stdout.close()
    ledger = watch_in(tmp_path).ledger
    kept = {each.id for each in ledger.due(2.0, 1_000_000)}
    assert {f"r{number}" for number in range(told)} <= kept
    assert ledger.figures()["taken"] == len(kept)


def test_a_file_that_is_no_ledger_is_refused_by_name_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"something else" * 1000)
    with pytest.raises(NotReady, match="can't be used"):
        watch_in(tmp_path)
    assert (tmp_path / FILE).read_bytes() == b"something else" * 1000


def test_another_process_may_hand_over_feedback_beside_the_watch(tmp_path: Path) -> None:
    keep(tmp_path, [record("r0")])
    ours, theirs = watch_in(tmp_path), watch_in(tmp_path)
    theirs.take([said("r0")], NOW_S)
    theirs.close()
    assert ours.join(NOW_S) == 1


def test_a_record_that_a_killed_batch_kept_twice_is_one(tmp_path: Path) -> None:
    keep(tmp_path, [record("twice", total_s=0.1), record("twice", at_s=BEGUN_S + 60, total_s=0.2)])
    watch = watch_in(tmp_path)
    watch.take([said("twice")], NOW_S)
    watch.join(NOW_S)
    assert watch.ledger.figures() == {"taken": 1, "joined": 1, "waiting": 0}

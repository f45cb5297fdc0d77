"""Sinks: each record arrives at least once, with a stable id, over outages and restarts, up to the bound."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.recording import CloudEventsSink, DirectorySink
from ferryman.monitor.store.layout import SPOOL, sealed_files, segments
from ferryman.monitor.store.query import latest
from ferryman.monitor.store.sinks.deliveries import Deliveries
from ferryman.monitor.store.sinks.delivery import FIRST_WAIT_S
from ferryman.monitor.store.tally import Tally
from tests.monitor.store.conftest import KeepIn, Kept, record
from tests.monitor.store.receiver import Receiver
from tests.monitor.store.waiting import wait_for


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    assert FIRST_WAIT_S == 1.0
    monkeypatch.setattr("ferryman.monitor.store.sinks.delivery.LONGEST_WAIT_S", 0.05)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    made.start()
    yield made
    made.stop()


def cloudevents(receiver: Receiver, **told: Any) -> dict[str, CloudEventsSink]:
    return {"site": CloudEventsSink(kind="cloudevents", url=receiver.url, **told)}


def figures(kept: Kept, name: str = "site") -> dict[str, Any]:
    sinks: Any = kept.keeper.figures()["sinks"]
    told: dict[str, Any] = sinks[name]
    return told


@pytest.mark.parametrize("mode", ["structured", "binary", "batched"])
def test_each_record_arrives_as_a_cloudevent_as_kserve_names_them(keep: KeepIn, receiver: Receiver, mode: str) -> None:
    kept = keep(sinks=cloudevents(receiver, mode=mode, source="line 3/ö"))
    kept.keeper.add([record(number, columns={"b": [1.0, float("inf")]}) for number in range(5)])
    wait_for(lambda: len(receiver.events) == 5)
    event = receiver.events[2]
    assert event["specversion"] == "1.0"
    assert event["type"] == "org.kubeflow.serving.inference.response"
    assert event["source"] == ("line%203/%C3%B6" if mode == "binary" else "line 3/ö")
    assert event["inferenceservicename"] == "street"
    assert event["time"] == "2026-11-23T12:00:00.020000Z"
    assert event["data"]["id"] == "id-2"
    assert event["data"]["signals"] == {"b": [1.0, "inf"]}
    assert len({event["id"] for event in receiver.events}) == 5


def test_a_receiver_that_is_down_gets_all_once_it_is_up_and_adding_never_waits(
    keep: KeepIn, receiver: Receiver
) -> None:
    receiver.stop()
    kept = keep(sinks=cloudevents(receiver))
    for start in range(0, 500, 100):
        kept.keeper.add([record(number) for number in range(start, start + 100)])
        kept.seal()
    wait_for(lambda: figures(kept)["failures"] > 2)
    assert "refused" in figures(kept)["waits"]
    assert len(latest(kept.folder, 1000).rows) == 500
    receiver.start()
    wait_for(lambda: len(set(receiver.ids)) == 500)
    assert receiver.ids == [f"id-{number}" for number in range(500)]
    wait_for(lambda: figures(kept)["waits"] == "")
    kept.seal()
    assert kept.keeper.losses == {}


def test_a_sink_goes_on_after_a_restart_where_it_was(keep: KeepIn, receiver: Receiver) -> None:
    kept = keep(sinks=cloudevents(receiver))
    kept.keeper.add([record(1), record(2)])
    wait_for(lambda: figures(kept)["delivered"] == 2)
    receiver.stop()
    kept.keeper.add([record(3)])
    kept.again().add([record(4)])
    receiver.start()
    wait_for(lambda: len(receiver.events) == 4)
    assert receiver.ids == ["id-1", "id-2", "id-3", "id-4"]


def test_what_is_sent_again_has_the_id_that_it_had(keep: KeepIn, receiver: Receiver) -> None:
    kept = keep(sinks=cloudevents(receiver))
    kept.keeper.add([record(1), record(2)])
    wait_for(lambda: figures(kept)["delivered"] == 2)
    kept.keeper.close()
    (kept.folder / "sinks" / "site.json").write_text("damaged")
    kept.keeper = kept._made()
    wait_for(lambda: len(receiver.events) == 4)
    assert [event["id"] for event in receiver.events[:2]] == [event["id"] for event in receiver.events[2:]]


@pytest.mark.parametrize("status", [500, 503, 429, 401, 302])
def test_what_is_not_taken_is_sent_again(keep: KeepIn, receiver: Receiver, status: int) -> None:
    receiver.statuses = [status, status]
    kept = keep(sinks=cloudevents(receiver))
    kept.keeper.add([record(1)])
    wait_for(lambda: receiver.ids == ["id-1"])
    wait_for(lambda: figures(kept)["failures"] == 2)
    assert kept.keeper.losses == {}


@pytest.mark.parametrize("mode", ["structured", "batched"])
def test_a_record_that_a_receiver_refuses_for_good_holds_no_other_up(
    keep: KeepIn, receiver: Receiver, mode: str
) -> None:
    receiver.refuses = "poison"
    kept = keep(sinks=cloudevents(receiver, mode=mode))
    kept.keeper.add([record(number, trace="poison" if number == 3 else "") for number in range(8)])
    wait_for(lambda: len(receiver.events) == 7)
    wait_for(lambda: figures(kept)["refused"] == 1)
    assert "id-3" not in receiver.ids
    assert kept.keeper.losses == {"sink_site_refused": 1}


def test_beyond_the_bound_the_oldest_are_given_up_and_counted(keep: KeepIn, receiver: Receiver) -> None:
    receiver.stop()
    kept = keep(sinks=cloudevents(receiver, max_mb=0.05), seal_mb=0.02)
    for start in range(0, 1000, 50):
        kept.keeper.add([record(number) for number in range(start, start + 50)])
        kept.clocks.pass_s(1)
        kept.keeper.tick()
    wait_for(lambda: figures(kept)["waiting_bytes"] <= 50_000)
    receiver.start()
    wait_for(lambda: "id-999" in receiver.ids)
    lost = figures(kept)["lost"]
    assert lost > 0
    assert receiver.ids == [f"id-{number}" for number in range(lost, 1000)]
    assert kept.keeper.losses == {"sink_site": lost}
    assert len(latest(kept.folder, 2000).rows) == 1000


def test_journals_that_every_sink_has_are_deleted(keep: KeepIn, receiver: Receiver) -> None:
    kept = keep(sinks=cloudevents(receiver))
    for start in range(3):
        kept.keeper.add([record(start)])
        kept.seal()
    wait_for(lambda: len(receiver.events) == 3)
    kept.keeper.add([record(3)])
    wait_for(lambda: len(receiver.events) == 4)
    kept.seal()
    wait_for(lambda: len(segments(kept.folder, SPOOL)) <= 1)


def test_a_token_comes_from_the_environment_and_is_not_shown(tmp_path: Path, receiver: Receiver) -> None:
    section = cloudevents(receiver, token="env:SITE_TOKEN")
    (tmp_path / "sinks").mkdir()
    (tmp_path / "journal").mkdir()
    deliveries = Deliveries(tmp_path, section, Tally(), environ={"SITE_TOKEN": "s3cret"}.get)
    assert "s3cret" not in repr(deliveries.figures())
    deliveries.close()


@pytest.mark.parametrize("wrong", ["", "s3\x07cret"])
def test_a_sink_without_its_secret_is_down_and_loses_nothing(
    keep: KeepIn, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("SITE_TOKEN", wrong)
    kept = keep(sinks=cloudevents(receiver, token="env:SITE_TOKEN"))
    kept.keeper.add([record(1)])
    wait_for(lambda: "SITE_TOKEN" in figures(kept)["waits"])
    assert "s3" not in figures(kept)["waits"]
    assert len(latest(kept.folder, 20).rows) == 1
    monkeypatch.setenv("SITE_TOKEN", "s3cret\n")
    wait_for(lambda: len(receiver.events) == 1)
    assert receiver.requests[0]["authorization"] == "Bearer s3cret"


def test_a_token_is_sent_as_a_bearer(keep: KeepIn, receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    kept = keep(sinks=cloudevents(receiver, token=f"file:{tmp_path / 'token'}"))
    kept.keeper.add([record(1)])
    wait_for(lambda: len(receiver.events) == 1)
    assert receiver.requests[0]["authorization"] == "Bearer s3cret"


def test_a_folder_gets_every_sealed_file_under_the_same_name(keep: KeepIn, tmp_path: Path) -> None:
    kept = keep(sinks={"copy": DirectorySink(kind="directory", path=str(tmp_path / "copy"))})
    for model in ("a", "b"):
        kept.keeper.add([record(1, model=model), record(2, model=f"{model}/{model}")])
        kept.seal()
    names = {one.path.relative_to(kept.folder / "records").as_posix() for one in sealed_files(kept.folder)}
    assert len(names) == 4
    wait_for(
        lambda: (
            {path.relative_to(tmp_path / "copy").as_posix() for path in (tmp_path / "copy").rglob("*.parquet")} == names
        )
    )


def test_a_folder_that_can_not_be_written_is_tried_again(keep: KeepIn, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("a file is in the way")
    kept = keep(sinks={"copy": DirectorySink(kind="directory", path=str(tmp_path / "copy"))})
    kept.keeper.add([record(1)])
    kept.seal()
    wait_for(lambda: figures(kept, "copy")["failures"] > 1)
    os.unlink(tmp_path / "copy")
    wait_for(lambda: figures(kept, "copy")["delivered"] == 1)


def test_files_deleted_before_a_sink_had_them_are_counted(keep: KeepIn, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("a file is in the way")
    kept = keep(sinks={"copy": DirectorySink(kind="directory", path=str(tmp_path / "copy"))}, max_mb=0.000001)
    kept.keeper.add([record(1)])
    kept.seal()
    kept.seal()
    assert sealed_files(kept.folder) == []
    assert kept.keeper.losses == {"sink_copy": 1}

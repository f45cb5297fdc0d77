from pathlib import Path

from ferryman.monitor.baseline import make_baseline
from ferryman.monitor.report.diary import Diary, last_totals, read_baseline, read_events


def test_what_is_written_is_read_in_its_order(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    diary.add("served", 1.0, model="a", version="1", digest="d", p99_s=None)
    diary.add("left", 2.0, model="a", version="1")
    assert [(event["kind"], event["at"]) for event in read_events(tmp_path)] == [("served", 1.0), ("left", 2.0)]
    assert list(read_events(tmp_path / "none")) == []


def test_a_line_that_a_kill_tore_costs_no_other_line(tmp_path: Path) -> None:
    Diary(tmp_path).add("left", 1.0, model="a", version="1")
    with (tmp_path / "diary.jsonl").open("ab") as stream:
        stream.write(b'{"kind":"left","at":2.0,"mod')
    Diary(tmp_path).add("left", 3.0, model="a", version="1")
    assert [event["at"] for event in read_events(tmp_path)] == [1.0, 3.0]


def test_what_is_no_event_is_passed_over(tmp_path: Path) -> None:
    lines = [
        b"[]",
        b'{"kind":1,"at":1}',
        b'{"kind":"left","at":"x"}',
        b'{"kind":"left","at":1e99}',
        b"\xff\xfe",
        b"[" * 9999,
    ]
    (tmp_path / "diary.jsonl").write_bytes(b"\n".join(lines) + b'\n{"kind":"left","at":5}\n')
    assert [event["at"] for event in read_events(tmp_path)] == [5]


def test_it_never_grows_over_its_size_and_keeps_the_newest(tmp_path: Path) -> None:
    diary = Diary(tmp_path, most_bytes=2000)
    for number in range(200):
        diary.add("left", float(number), model="a", version="1")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4000
    times = [event["at"] for event in read_events(tmp_path)]
    assert times == sorted(times)
    assert times[-1] == 199.0
    assert len(times) >= 2000 // 60


def test_a_folder_that_can_not_be_written_loses_events_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    diary = Diary(tmp_path / "file")
    diary.add("left", 1.0)
    diary.keep_baseline("d", {})
    assert diary.lost == 2


def test_a_baseline_is_kept_by_its_bundle_and_read_back(tmp_path: Path) -> None:
    kept = make_baseline({"brightness": [1.0, 2.0, 3.0]})
    Diary(tmp_path).keep_baseline("sha256:../../ab", kept.to_json())
    found = read_baseline(tmp_path, "sha256:../../ab")
    assert found is not None
    assert found.to_json() == kept.to_json()
    assert read_baseline(tmp_path, "sha256:cd") is None
    assert [path.name for path in tmp_path.rglob("*.json")] == ["sha256ab.json"]


def test_the_next_writer_goes_on_counting_only_after_a_kill(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    for version in ("1", "2"):
        diary.add("traffic", 1.0, model="a", version=version, outcomes={"ok": 5}, total={"ok": 5})
    diary.add("left", 2.0, model="a", version="1")
    assert last_totals(tmp_path) == {("a", "2"): {"ok": 5}}

"""The figures of a report against the records that were kept."""

import json
import re
import statistics
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman import api
from ferryman.core.errors import UserError
from ferryman.monitor.baseline import make_baseline
from ferryman.monitor.report.gather import Asked, gather
from tests.monitor.report.making import DAY_S, DIGEST, NOW_S, WEEK_S, Week, darker_week, record

pytest.importorskip("duckdb")

HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202e"


class Seen(HTMLParser):
    """Read a page: its tags, its text, and what it would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "br"):
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def see(page: str) -> Seen:
    seen = Seen(page)
    assert seen.open == [], "tags are left open"
    assert seen.tags["script"] == 0
    assert all(one.startswith("data:image/jpeg;base64,") for one in seen.fetched), seen.fetched
    assert not re.search(r"=\"[^\"]*\b(nan|inf)\b", page.partition("</style>")[2])
    return seen


def asked(**told: Any) -> Asked:
    return Asked(**({"since_s": NOW_S - WEEK_S, "until_s": NOW_S} | told))


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Week:
    made = darker_week(tmp_path_factory.mktemp("kept"))
    diary, began_s = made.diary, NOW_S - WEEK_S
    about = {"model": "street", "version": "2"}
    diary.add("served", began_s - DAY_S, **about, digest=DIGEST, p99_s=0.05)
    for hour in range(168):
        outcomes = {"ok": 1000, "failed": 2, "invalid": 5}
        diary.add("traffic", began_s + 3600 * hour + 60, **about, outcomes=outcomes, total={})
    moved = [{"signal": "brightness", "text": "brightness 110 -> 60, below 99% of the baseline"}]
    diary.add("drift", began_s + 4.2 * DAY_S, **about, change="began", moved=moved)
    alert = {"id": "x", "episode": 1, "rule": "drift", "severity": "warning", "summary": "street has drifted", **about}
    times = {"since": began_s + 4.2 * DAY_S, "ended": None}
    for at_s in (began_s + 4.2 * DAY_S, began_s + 5 * DAY_S):  # told again after a restart
        diary.add("alert", at_s, **alert, **times, state="firing")
    over = {**alert, "id": "y", "rule": "latency", "state": "resolved", "since": began_s, "ended": began_s + 600}
    diary.add("alert", began_s + 600, **over)
    diary.add("alert", began_s - 9000, **{**over, "episode": 0})  # over before the range began
    diary.add("lost", began_s + DAY_S, reasons={"disk_low": 12, "queue_full": 3})
    diary.add("lost", began_s + 2 * DAY_S, reasons={"disk_low": 8})
    diary.add("lost", began_s - DAY_S, reasons={"disk_low": 1000})
    return made


def test_counts_and_times_are_those_of_the_records(week: Week) -> None:
    [one] = gather(week.folder, asked()).versions
    good = [each for each in week.records if each.outcome == "ok"]
    assert (one.records, one.looked_into, one.items) == (3000, len(good), len(good))
    assert one.outcomes == {"ok": len(good), "failed": 3000 - len(good)}
    times = [each.total_s for each in good]
    told = [one.p50_s, one.p90_s, one.p99_s, one.max_s]
    assert told == pytest.approx([*np.quantile(times, [0.5, 0.9, 0.99]).tolist(), max(times)])
    assert sum(slot.records for slot in one.slots) == 3000
    assert sum(slot.failed for slot in one.slots) == 3000 - len(good)
    assert len(one.slots) == 168
    for slot in one.slots[::40]:
        inside = [each for each in week.records if slot.at_s <= each.at_s < slot.at_s + 3600]
        assert slot.records == len(inside)
        middle = statistics.median(each.total_s for each in inside if each.outcome == "ok")
        assert slot.p50_s == pytest.approx(middle, abs=0.012)  # approximate: within a neighbour


def test_all_requests_are_those_that_the_diary_counted(week: Week) -> None:
    [one] = gather(week.folder, asked()).versions
    assert one.requests == {"ok": 168_000, "failed": 336, "invalid": 840}
    assert sum(slot.requests or 0 for slot in one.slots) == 169_176
    assert sum(slot.requests_failed or 0 for slot in one.slots) == 336
    page = see(api.report_html(gather(week.folder, asked()))).text
    assert "99.800%" in page  # 168,000 of 168,336: what the caller got wrong doesn't count
    assert "169\N{NARROW NO-BREAK SPACE}176" in page


def test_signals_are_set_beside_the_baseline_and_the_strongest_comes_first(week: Week) -> None:
    [one] = gather(week.folder, asked()).versions
    assert one.before == "baseline"
    good = [each for each in week.records if each.outcome == "ok"]
    by_name = {signal.name: signal for signal in one.signals}
    assert [signal.name for signal in one.signals if signal.has_moved] == ["brightness", "label"]
    values = np.asarray([each.columns["brightness"][0] for each in good], float)
    told = by_name["brightness"]
    assert isinstance(told.before, list)
    assert isinstance(told.after, list)
    assert told.after[0] == pytest.approx(values.min())
    assert told.after[-1] == pytest.approx(values.max())
    assert told.after[20] == pytest.approx(np.median(values), abs=2.5)
    assert told.before[20] == pytest.approx(110, abs=3)
    below_all = (values < told.before[0]).mean()
    assert told.distance == pytest.approx(0.36, abs=0.04)  # 40 % of the items, darker by 2.5 deviations
    assert told.distance >= below_all
    labels = Counter(str(each.columns["label"][0]) for each in good)
    after = by_name["label"].after
    assert isinstance(after, dict)
    assert after == pytest.approx({name: count / len(good) for name, count in labels.items()})
    assert by_name["label"].text.startswith("label: 'bus'")
    assert not by_name["contrast"].has_moved


def test_what_is_as_it_was_has_not_moved(week: Week) -> None:
    [one] = gather(week.folder, asked(until_s=NOW_S - 0.45 * WEEK_S)).versions
    assert [signal.name for signal in one.signals if signal.has_moved] == []
    assert {signal.name for signal in one.signals} == {"brightness", "contrast", "label"}


def test_alerts_losses_drift_and_versions_come_from_the_diary(week: Week) -> None:
    made = gather(week.folder, asked())
    assert [(alert["rule"], alert["state"]) for alert in made.alerts] == [("drift", "firing"), ("latency", "resolved")]
    assert made.losses == {"disk_low": 20, "queue_full": 3}
    [one] = made.versions
    assert [change["change"] for change in one.drift] == ["began"]
    assert one.served == [(NOW_S - WEEK_S - DAY_S, None)]
    assert (one.digest, one.promised_p99_s) == (DIGEST, 0.05)
    page = see(api.report_html(made)).text
    for told in ("1 alert firing", "drift in street 2", "p99 over its promise", "brightness 110 -> 60", "10.0 min"):
        assert told in page, told


def test_the_json_holds_what_the_page_tells(week: Week) -> None:
    made = gather(week.folder, asked())
    told = json.loads(json.dumps(made.to_json(), default=str))
    assert told["form"] == 1
    assert told["versions"][0]["records"] == 3000
    assert [signal["has_moved"] for signal in told["versions"][0]["signals"]] == [True, True, False]
    assert len(told["ranks"]) == len(told["versions"][0]["signals"][0]["before"])


def test_a_range_without_records_says_so(week: Week) -> None:
    made = gather(week.folder, asked(since_s=NOW_S + DAY_S, until_s=NOW_S + 2 * DAY_S))
    assert made.versions == []
    assert "No requests were recorded" in see(api.report_html(made)).text


def test_a_range_that_ends_before_it_begins_is_refused(week: Week) -> None:
    with pytest.raises(UserError, match="ends before"):
        gather(week.folder, asked(since_s=NOW_S))


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no records"):
        gather(tmp_path, asked())


def test_one_record_alone_and_none_at_all_make_a_page(tmp_path: Path) -> None:
    week = Week(tmp_path)
    week.keep([])
    assert gather(tmp_path, asked()).versions == []
    week.keep([record(1, NOW_S - 60, total_s=0.02)])
    made = gather(tmp_path, asked())
    [one] = made.versions
    assert (one.records, one.p50_s, one.p99_s, one.before) == (1, 0.02, 0.02, "")
    page = see(api.report_html(made)).text
    assert "There is no diary" in page
    assert "neither a baseline nor enough earlier records" in page


def test_without_a_baseline_the_time_before_is_what_it_is_set_beside(tmp_path: Path) -> None:
    week = Week(tmp_path)
    hours = [record(number, NOW_S - 7200 + number * 7.2) for number in range(1000)]
    later = [replace(each, columns={"brightness": [40.0], "label": ["bus"]}) for each in hours[500:]]
    week.keep(hours[:500] + later)
    [one] = gather(tmp_path / "records", asked(since_s=NOW_S - 3600)).versions  # the records' own folder does, too
    assert one.before == "records"
    assert {signal.name: signal.distance for signal in one.signals} == pytest.approx({"brightness": 1.0, "label": 1.0})
    assert all(signal.has_moved for signal in one.signals)


def test_several_models_are_told_apart(tmp_path: Path) -> None:
    week = Week(tmp_path)
    for place, (model, version) in enumerate([("a", "1"), ("a", "2"), ("b", "1")]):
        many = [record(n, NOW_S - 3000 + n, model=model, version=version) for n in range(10 * (place + 1))]
        week.keep(many)
    made = gather(tmp_path, asked())
    assert [(one.model, one.version, one.records) for one in made.versions] == [
        ("a", "1", 10),
        ("a", "2", 20),
        ("b", "1", 30),
    ]
    assert see(api.report_html(made)).tags["h2"] >= 4
    [only] = gather(tmp_path, asked(model="a", version="2")).versions
    assert only.records == 20


def test_records_of_a_clock_that_was_ahead_or_behind_are_told_and_not_mixed_in(tmp_path: Path) -> None:
    week = Week(tmp_path)
    week.keep([record(1, NOW_S - 60), record(2, NOW_S + 90 * DAY_S), record(3, 5.0), record(4, float("nan"))])
    made = gather(tmp_path, asked())
    assert [one.records for one in made.versions] == [1]
    assert made.later == 1
    assert "a clock was ahead" in see(api.report_html(made)).text


def test_missing_values_infinities_and_new_categories_are_told(tmp_path: Path) -> None:
    week = darker_week(tmp_path, count=500)
    odd: list[Any] = [None, float("nan"), float("inf"), -1e308]
    more = [
        record(n, NOW_S - 3000 + n, columns={"brightness": [odd[n % 4]], "contrast": [50.0], "label": ["tram"]})
        for n in range(400)
    ]
    week.keep(more)
    week.diary.add("served", NOW_S - DAY_S, model="street", version="2", digest=DIGEST, p99_s=None)
    made = gather(tmp_path, asked(since_s=NOW_S - 3500))
    by_name = {signal.name: signal for signal in made.versions[0].signals}
    assert by_name["brightness"].missing == pytest.approx(200 / 402, abs=0.01)
    assert by_name["brightness"].has_moved
    assert "'tram' (new)" in by_name["label"].text
    see(api.report_html(made))


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    week = Week(tmp_path)
    names = {f"sig {HOSTILE}": [1.0], f"cat {HOSTILE}": [HOSTILE]}
    week.keep(
        [record(n, NOW_S - 7000 + n, model=HOSTILE, version=HOSTILE, columns=names, id=HOSTILE) for n in range(6999)]
    )
    week.diary.add("lost", NOW_S - 60, reasons={HOSTILE: 1})
    alert = {"id": HOSTILE, "episode": 1, "rule": HOSTILE, "state": HOSTILE, "summary": HOSTILE, "muted": HOSTILE}
    week.diary.add("alert", NOW_S - 60, **alert, model=HOSTILE, version=HOSTILE, severity=HOSTILE, since=HOSTILE)
    week.diary.add("drift", NOW_S - 60, model=HOSTILE, version=HOSTILE, change=HOSTILE, moved=[{"text": HOSTILE}, 3])
    made = gather(tmp_path, asked(since_s=NOW_S - 3500))
    assert [signal.name for signal in made.versions[0].signals] != []
    page = api.report_html(made)
    seen = see(page)
    assert "<script>alert(1)</script>" in seen.text
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_a_short_life_fills_the_page_and_a_short_drift_is_marked(tmp_path: Path) -> None:
    week = Week(tmp_path)
    usual = {"brightness": [float(value) for value in range(100, 120)] * 20}
    week.diary.keep_baseline(DIGEST, make_baseline(usual).to_json())
    week.diary.add("served", NOW_S - 1800, model="street", version="2", digest=DIGEST, p99_s=None)
    week.keep([record(n, NOW_S - 1700 + n, columns={"brightness": [100.0 + n % 20]}) for n in range(400)])
    moved = [{"signal": "brightness", "text": "brightness 110 -> 60"}]
    for change, at_s in (("began", NOW_S - 900), ("ended", NOW_S - 800)):
        week.diary.add("drift", at_s, model="street", version="2", change=change, moved=moved)
    made = gather(tmp_path, asked())
    assert (made.since_s, made.slot_s) == (NOW_S - 1800, 60.0)
    assert not made.versions[0].signals[0].has_moved
    assert "drifted for a time" in see(api.report_html(made)).text


@pytest.mark.slow
def test_a_million_records_are_told_in_bounded_memory(tmp_path: Path) -> None:
    import resource
    import zlib

    import duckdb

    place = tmp_path / "records" / "records" / "model=street" / "version=2" / "date=2026-11-20"
    place.mkdir(parents=True)
    unnamed = place / "unnamed"
    columns = ", ".join(f"100 + 20 * sin(i * {n + 1}) AS s_signal{n}" for n in range(15))
    duckdb.execute(
        f"COPY (SELECT 'id-' || i AS id, 'street' AS model, '2' AS version, 'ok' AS outcome, 'http' AS transport, "
        f"'' AS trace, {NOW_S - WEEK_S} + i * 0.6 AS at_s, (i % 1000) / 1e4 AS total_s, 0.0 AS queue_s, "
        f"0.0 AS prepare_s, 0.0 AS infer_s, 0.0 AS finish_s, 1 AS asks, 1 AS rows, 0 AS item, {columns}, "
        f"['car', 'bus'][1 + i % 2] AS c_label FROM range(1000000) t(i)) TO '{unnamed}' (FORMAT parquet)"
    )
    crc = zlib.crc32(unnamed.read_bytes())
    unnamed.rename(place / f"0000000001-{'ab' * 8}.{crc:08x}.parquet")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = gather(tmp_path, asked())
    [one] = made.versions
    assert (one.records, one.looked_into) == (1_000_000, 1_000_000)
    assert one.p99_s == pytest.approx(0.0990, abs=1e-4)
    assert sum(slot.records for slot in one.slots) == 1_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 1_200_000
    assert len(api.report_html(made)) < 3_000_000


def test_actions_of_the_range_are_told_with_their_cause_and_end(tmp_path: Path) -> None:
    made = Week(tmp_path)
    made.keep([record(1, NOW_S - 3600)])
    cause = {"alert": "a", "rule": "drift", "episode": 1, "summary": f"street has drifted {HOSTILE}"}
    about: dict[str, Any] = {"id": "7", "do": "retrain", "model": "street", "version": "2", "cause": cause}
    began = {**about, "began": NOW_S - 1800, "ended": None, "outcome": "", "said": ""}
    made.diary.add("action", NOW_S - 1800, **began)
    made.diary.add("action", NOW_S - 600, **began | {"ended": NOW_S - 600, "outcome": "failed", "said": "exit code 3"})
    made.diary.add("action", NOW_S - 2 * WEEK_S, **began | {"id": "6", "outcome": "done"})
    report = gather(tmp_path, asked())
    assert [(one["id"], one["outcome"]) for one in report.actions] == [("7", "failed")]
    seen = see(api.report_html(report))
    assert "Actions" in seen.text and "retrain" in seen.text and "exit code 3" in seen.text
    assert "street has drifted <script>" in seen.text

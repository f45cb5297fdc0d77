"""Reports: spooled, bounded, delivered once, and believed only from the box itself."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman.client.access import Access
from ferryman.client.link import Link, read_url
from ferryman.core.errors import ConfigError
from ferryman.fleet.box import Box, read_box
from ferryman.fleet.collect import BOXES, OPERATOR, Collector, read_secret, token_of
from ferryman.fleet.report import RECORDS, Reporter
from ferryman.fleet.slots import Slots
from ferryman.fleet.spool import Spool
from tests.fleet.powercut import DAMAGES, Power, in_a_process_of_its_own

SECRET = "s" * 64


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    one = Collector(tmp_path / "collector", SECRET, host="127.0.0.1", port=0)
    threading.Thread(target=one.serve, daemon=True).start()
    yield one
    one.close()


def box_of(tmp_path: Path, url: str, *, name: str = "line-1", token: str = "") -> Box:
    (tmp_path / "token").write_text(token or token_of(SECRET, name))
    (tmp_path / "box.toml").write_text(
        f'fleet = "street"\nbox = "{name}"\nreleases = "127.0.0.1:1/fleet/street:stable"\nkeys = ["release.pub"]\n'
        f'root = "{name}"\n[reports]\nurl = "{url}"\ntoken_file = "token"\n'
    )
    return read_box(tmp_path / "box.toml")


def ask(url: str, method: str, path: str, *, key: str, body: bytes = b"") -> tuple[int, dict[str, object]]:
    link = Link(read_url(url, "http"), timeout_s=10.0, access=Access(key=key))
    reply = link.ask(method, path, body, {})
    link.close()
    return reply.status, json.loads(reply.payload)


def test_reports_wait_while_nobody_listens_and_come_in_order_once_somebody_does(
    tmp_path: Path, collector: Collector
) -> None:
    offline = box_of(tmp_path, "http://127.0.0.1:9")
    slots = Slots(offline.root)
    reporter = Reporter(offline, slots)
    for trouble in ("first", "second"):
        reporter.tell_status(trouble=trouble, unwell="", figures={})
    assert not reporter.send()
    online = Reporter(box_of(tmp_path, collector.url), slots)  # after a restart
    online.tell_status(trouble="third", unwell="", figures={"ferryman_requests_total": 7.0})
    assert online.send()
    assert online.spool.waiting == 0
    (box,) = collector.reports.boxes()
    assert (box["trouble"], box["number"], box["dropped"]) == ("third", 3, 0)
    assert box["figures"] == {"ferryman_requests_total": 7.0}


def test_what_is_sent_twice_is_kept_once(tmp_path: Path, collector: Collector) -> None:
    one = {"box": "line-1", "life": "x", "number": 1, "kind": "status", "fleet": "street"}
    for _ in range(2):
        collector.reports.take([one])
    assert collector.reports.boxes()[0]["dropped"] == 0


def test_a_full_spool_drops_the_oldest_and_the_collector_counts_them(tmp_path: Path, collector: Collector) -> None:
    box = box_of(tmp_path, collector.url)
    box = box.model_copy(update={"reports": box.reports.model_copy(update={"spool_mb": 0.002})})
    reporter = Reporter(box, Slots(box.root))
    reporter.tell_status(trouble="", unwell="", figures={})
    assert reporter.send()
    for number in range(20):
        reporter.tell_status(trouble=f"{number}", unwell="", figures={})
    kept = reporter.spool.waiting
    assert 1 <= kept < 20
    assert reporter.send()
    (told,) = collector.reports.boxes()
    assert (told["trouble"], told["dropped"]) == ("19", 20 - kept)


def test_a_record_that_the_disk_has_damaged_holds_up_no_other(tmp_path: Path, collector: Collector) -> None:
    box = box_of(tmp_path, collector.url)
    reporter = Reporter(box, Slots(box.root))
    for trouble in ("first", "second", "third"):
        reporter.tell_status(trouble=trouble, unwell="", figures={})
    damaged = sorted((box.root / "spool").glob("*.json"))[1]
    damaged.write_bytes(bytes(damaged.stat().st_size))
    assert reporter.send()
    assert (reporter.spool.waiting, reporter.spool.lost) == (0, 1)
    (told,) = collector.reports.boxes()
    assert (told["trouble"], told["dropped"]) == ("third", 1)


def test_records_that_are_too_much_together_come_one_by_one(tmp_path: Path, collector: Collector) -> None:
    box = box_of(tmp_path, collector.url)
    reporter = Reporter(box, Slots(box.root))
    for number in range(3):
        reporter.tell("status", {"trouble": f"{number}" + "x" * 2_000_000})
    assert reporter.send()
    assert collector.reports.boxes()[0]["trouble"].startswith("2")
    assert reporter.spool.lost == 0


def test_a_collector_whose_disk_is_full_says_so_and_boxes_keep_their_records(
    tmp_path: Path, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    box = box_of(tmp_path, collector.url)
    reporter = Reporter(box, Slots(box.root))
    (most,) = collector.reports._base.execute("pragma page_count").fetchone()
    collector.reports._base.execute(f"pragma max_page_count = {most}")
    reporter.tell("status", {"trouble": "x" * 100_000})
    assert not reporter.send()
    assert reporter.spool.waiting == 1
    assert "reports.sqlite takes no records: database or disk is full" in caplog.text
    collector.reports._base.execute(f"pragma max_page_count = {most + 1000}")
    assert reporter.send()


def test_numbers_go_on_after_everything_was_sent(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        spool = Spool(tmp_path, limit_bytes=10_000)
        spool.add({"kind": "x"})
        ((found, payload),) = spool.oldest(10)
        assert (found, json.loads(payload)["number"]) == (number, number)
        spool.sent(found)


def test_a_cut_at_any_call_loses_no_record_that_was_kept_before(tmp_path: Path) -> None:
    def cut_everywhere(power: Power) -> None:
        for damage in DAMAGES:
            steps, is_done = 0, False
            while not is_done:
                steps += 1
                root = tmp_path / f"{DAMAGES.index(damage)}-{steps}"
                spool = Spool(root, limit_bytes=10_000)
                for _ in range(2):
                    spool.add({"kind": "x"})
                is_done = power.run(lambda spool=spool: (spool.sent(1), spool.add({"kind": "y"})), root, steps, damage)  # type: ignore[misc]  # a lambda with a default
                found = Spool(root, limit_bytes=10_000).oldest(10)
                assert 2 in [number for number, _ in found]
                assert all(json.loads(payload)["number"] == number for number, payload in found)

    in_a_process_of_its_own(cut_everywhere)


def test_a_box_speaks_for_itself_alone_and_only_the_operator_sees_all(tmp_path: Path, collector: Collector) -> None:
    body = json.dumps([{"box": "line-1", "life": "x", "number": 1, "kind": "status"}]).encode()
    for key in ("", "wrong", token_of(SECRET, "line-2")):
        assert ask(collector.url, "POST", RECORDS, key=key, body=body)[0] == 401
        assert ask(collector.url, "GET", BOXES, key=key)[0] == 401
    assert ask(collector.url, "POST", RECORDS, key=token_of(SECRET, "line-1"), body=body)[0] == 200
    status, told = ask(collector.url, "GET", BOXES, key=token_of(SECRET, OPERATOR))
    assert status == 200
    assert [box["box"] for box in told["boxes"]] == ["line-1"]  # type: ignore[attr-defined]  # JSON


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'[{"box": "line-1"}]', b"\xff", b"[" * 100_000])
def test_what_are_no_records_is_refused(body: bytes, collector: Collector) -> None:
    assert ask(collector.url, "POST", RECORDS, key=token_of(SECRET, "line-1"), body=body)[0] == 400


def test_a_number_that_no_file_can_hold_is_refused(collector: Collector) -> None:
    body = json.dumps([{"box": "a", "life": "x", "number": 2**70, "kind": "status"}]).encode()
    assert ask(collector.url, "POST", RECORDS, key=token_of(SECRET, "a"), body=body)[0] == 400


def test_a_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    secret = read_secret(tmp_path / "secret", make=True)
    assert read_secret(tmp_path / "secret", make=True) == secret
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    (tmp_path / "secret").write_text("short")
    with pytest.raises(ConfigError, match="holds no secret"):
        read_secret(tmp_path / "secret")


def test_settings_name_their_keys(tmp_path: Path) -> None:
    (tmp_path / "box.toml").write_text('fleet = "street"\nreleases = "h/x:1"\nkeys = ["k"]\npoll = 3\n')
    with pytest.raises(ConfigError, match="'poll'") as refused:
        read_box(tmp_path / "box.toml")
    assert "poll_s" in refused.value.hint

"""Payloads: kept by rule, redacted before they touch the disk, few, and not for long."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image

from ferryman.core.recording import PayloadsSection
from ferryman.monitor.store.payloads import payloads
from ferryman.monitor.store.redact import MAX_PIXELS, Redactor, Unredactable, folder_key
from ferryman.monitor.store.sampling import PayloadRules
from tests.monitor.store.conftest import KeepIn

KEY = b"k" * 32
ROW = {
    "age": 41,
    "Email": "a@b.c",
    "nested": [{"email": "x@y.z", "ok": 1}],
    "inputs": [{"name": "email", "data": ["q@r.s"]}],
}


def picture(width: int = 800, height: int = 400) -> bytes:
    """Give a JPEG of fine stripes, with a place in its metadata."""
    stripes = np.zeros((height, width, 3), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = stripes[:, 3::8] = 255
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    written = io.BytesIO()
    Image.fromarray(stripes).save(written, "JPEG", quality=95, exif=exif)
    return written.getvalue()


def redacted_picture(**told: Any) -> Image.Image:
    payload, suffix = Redactor(PayloadsSection(**told), KEY).redact("picture", picture())
    assert suffix == ".jpg"
    return Image.open(io.BytesIO(payload))


def test_by_default_no_payload_is_asked_for() -> None:
    rules = PayloadRules(PayloadsSection())
    assert not rules.keep_any
    assert rules.why("id", confidence=0.0, is_drifted=True, is_error=True) == ""


def test_each_rule_keeps_what_it_names() -> None:
    rules = PayloadRules(PayloadsSection(low_confidence=0.5, drifted=True, error=True))
    assert rules.why("id", confidence=0.4) == "low_confidence"
    assert rules.why("id", confidence=0.5) == ""
    assert rules.why("id", confidence=float("nan")) == ""
    assert rules.why("id", confidence=0.1, is_drifted=True) == "drifted"
    assert rules.why("id", is_drifted=True, is_error=True) == "error"


def test_a_rate_is_kept_and_draws_the_same_ids_each_time() -> None:
    rules = PayloadRules(PayloadsSection(rate=0.05))
    drawn = [f"id-{number}" for number in range(20_000) if rules.why(f"id-{number}") == "rate"]
    assert 900 < len(drawn) < 1100
    assert all(rules.why(name) == "rate" for name in drawn)


def test_fields_are_dropped_at_any_depth_whatever_their_case() -> None:
    payload, suffix = Redactor(PayloadsSection(drop=("email",)), KEY).redact("row", orjson.dumps(ROW))
    assert orjson.loads(payload) == {"age": 41, "nested": [{"ok": 1}], "inputs": []}
    assert suffix == ".json"


def test_hashed_fields_stay_equal_and_can_not_be_read_or_guessed_without_the_key() -> None:
    section = PayloadsSection(hash=("EMAIL",))
    told = orjson.loads(Redactor(section, KEY).redact("row", orjson.dumps(ROW))[0])
    again = orjson.loads(Redactor(section, KEY).redact("row", orjson.dumps({"email": "a@b.c"}))[0])
    other = orjson.loads(Redactor(section, b"o" * 32).redact("row", orjson.dumps({"email": "a@b.c"}))[0])
    assert told["Email"] == again["email"] != other["email"]
    assert not any(secret in str(told) for secret in ("a@b.c", "x@y.z", "q@r.s"))
    assert told["age"] == 41


def test_a_picture_is_made_smaller_and_loses_its_metadata() -> None:
    small = redacted_picture(picture_side=100)
    assert small.size == (100, 50)
    assert not dict(small.getexif())
    whole = redacted_picture(pictures="whole")
    assert whole.size == (800, 400)
    assert not dict(whole.getexif())


def test_a_blurred_picture_shows_no_detail() -> None:
    def contrast(shown: Image.Image) -> float:
        return float(np.asarray(shown.convert("L"), np.float64)[:, 40:-40].std())

    plain, blurred = redacted_picture(picture_side=800), redacted_picture(picture_side=800, pictures="blurred")
    assert contrast(plain) > 100
    assert contrast(blurred) < 3


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("picture", b"no picture"),
        ("picture", picture()[:300]),
        ("row", b"{"),
        ("row", b"[" * 5000),
        ("other", b"x"),
        ("row", b'{"a":' * 90 + b"1" + b"}" * 90),
    ],
)
def test_what_can_not_be_read_is_not_kept(keep: KeepIn, kind: str, payload: bytes) -> None:
    kept = keep()
    kept.keeper.add_payload("id", "street", "1", kind, payload, "rate")
    assert payloads(kept.folder) == []
    assert sum(kept.keeper.losses.values()) == 1


def test_a_picture_that_would_fill_the_memory_is_not_opened() -> None:
    side = int(MAX_PIXELS**0.5) + 10
    written = io.BytesIO()
    Image.new("1", (side, side)).save(written, "PNG")
    assert len(written.getvalue()) < 100_000
    with pytest.raises(Unredactable, match="too large"):
        Redactor(PayloadsSection(), KEY).redact("picture", written.getvalue())


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    assert folder_key(tmp_path) == folder_key(tmp_path)
    assert (tmp_path / ".key").stat().st_mode & 0o777 == 0o600


def test_a_payload_lies_beside_what_it_is_of(keep: KeepIn) -> None:
    kept = keep(payloads=PayloadsSection(drop=("email",)))
    kept.keeper.add_payload("id/../1", "st/reet", "1", "row", orjson.dumps(ROW), "low_confidence")
    [payload] = payloads(kept.folder)
    assert (payload.id, payload.model, payload.kind, payload.why) == ("id/../1", "st/reet", "row", "low_confidence")
    assert payload.at_s == kept.clocks.now_s
    assert b"a@b.c" not in payload.path.read_bytes()


def test_a_day_has_room_for_so_many(keep: KeepIn) -> None:
    kept = keep(payloads=PayloadsSection(max_per_day=3))
    for number in range(5):
        kept.clocks.pass_s(1)
        kept.keeper.add_payload(f"{number}", "street", "1", "text", b"hello", "rate")
    assert kept.keeper.losses == {"payload_day_full": 2}
    kept.again()
    kept.keeper.add_payload("6", "street", "1", "text", b"hello", "rate")
    assert [payload.id for payload in payloads(kept.folder)] == ["0", "1", "2"]
    assert kept.keeper.losses == {"payload_day_full": 1}
    kept.clocks.pass_s(86_400)
    kept.keeper.add_payload("7", "street", "1", "text", b"hello", "rate")
    assert len(payloads(kept.folder)) == 4


def test_payloads_go_sooner_than_records(keep: KeepIn) -> None:
    kept = keep(payloads=PayloadsSection(keep_days=2))
    for day in range(5):
        kept.keeper.add_payload(f"{day}", "street", "1", "text", b"x", "rate")
        kept.clocks.pass_s(86_400)
        kept.keeper.tick()
        kept.seal()
        kept.clocks.pass_s(3600)
        kept.keeper.tick()
    assert [payload.id for payload in payloads(kept.folder)] == ["3", "4"]


def test_payloads_have_a_bound_of_their_own(keep: KeepIn) -> None:
    kept = keep(payloads=PayloadsSection(max_mb=0.05))
    for number in range(30):
        kept.clocks.pass_s(1)
        kept.keeper.add_payload(f"{number}", "street", "1", "text", b"x" * 5000, "rate")
    kept.seal()
    left = [payload.id for payload in payloads(kept.folder)]
    assert 5 < len(left) < 10
    assert left[-1] == "29"

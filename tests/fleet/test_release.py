"""What a release says, who is due by it, and whom a box believes."""

import json
from pathlib import Path

import pytest

from ferryman.core.errors import Untrusted
from ferryman.fleet.judge import Limits, judge
from ferryman.fleet.release import Release, place_of, read_release, sign_release
from ferryman.supply.keys import PrivateKey, load_private, make_key

OLD, NEW = (f"registry.example.com/models/street@sha256:{digit * 64}" for digit in "12")
BOXES = [f"box-{number}" for number in range(2000)]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> PrivateKey:
    return load_private(make_key(tmp_path_factory.mktemp("keys") / "release")[0])


def release(**changed: object) -> Release:
    told = {"fleet": "street", "number": 2, "bundle": NEW, "before": OLD, "stages": ("canary", 10, 100), **changed}
    return Release.model_validate(told)


def due(one: Release) -> set[str]:
    return {box for box in BOXES if one.is_due(box, "default")}


def test_stages_go_from_a_group_to_a_share_to_all_and_nobody_who_was_due_ever_isnt() -> None:
    assert due(release(stage=0)) == set()
    assert release(stage=0).is_due("any", "canary")
    tenth, half = due(release(stage=1)), due(release(stages=("canary", 10, 50, 100), stage=2))
    assert 150 < len(tenth) < 250
    assert tenth < half
    assert due(release(stage=2)) == set(BOXES)


def test_another_bundle_begins_with_other_boxes() -> None:
    assert [place_of(box, NEW) for box in BOXES[:5]] == [place_of(box, NEW) for box in BOXES[:5]]
    assert [place_of(box, NEW) for box in BOXES[:5]] != [place_of(box, OLD) for box in BOXES[:5]]


def test_a_box_that_is_not_due_runs_what_was_before_and_a_halted_release_moves_nobody() -> None:
    assert release().choose("any", "default", "") == OLD
    assert release().choose("any", "canary", OLD) == NEW
    assert release(is_halted=True).choose("any", "canary", OLD) == OLD
    assert release(is_halted=True).choose("any", "default", NEW) == NEW


def test_what_was_signed_comes_back(key: PrivateKey) -> None:
    payload = json.dumps(sign_release(release(), key)).encode()
    assert read_release(payload, [key.public], "street", origin="here") == release()


def test_another_key_another_fleet_and_a_changed_byte_are_refused(key: PrivateKey, tmp_path: Path) -> None:
    other = load_private(make_key(tmp_path / "other")[0])
    payload = json.dumps(sign_release(release(), key)).encode()
    with pytest.raises(Untrusted, match="not signed by"):
        read_release(payload, [other.public], "street", origin="here")
    with pytest.raises(Untrusted, match="of the fleet 'street', not of 'harbour'"):
        read_release(payload, [key.public], "harbour", origin="here")
    document = json.loads(payload)
    document["payload"] = (
        document["payload"][:40] + ("B" if document["payload"][40] == "A" else "A") + document["payload"][41:]
    )
    with pytest.raises(Untrusted):
        read_release(json.dumps(document).encode(), [key.public], "street", origin="here")


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"null", b'{"payload": 1}', b"\xff" * 10, b"[" * 100_000])
def test_what_is_no_release_is_refused(payload: bytes, key: PrivateKey) -> None:
    with pytest.raises(Untrusted):
        read_release(payload, [key.public], "street", origin="here")


def test_a_bundle_without_a_digest_is_refused(key: PrivateKey) -> None:
    signed = sign_release(release(before="registry.example.com/models/street:1"), key)
    with pytest.raises(Untrusted, match="without its digest"):
        read_release(json.dumps(signed).encode(), [key.public], "street", origin="here")


def status(box: str, **changed: object) -> dict[str, object]:
    told = {"box": box, "group": "canary", "serving": NEW, "failed": {}, "unwell": "", "silent_s": 1.0}
    return {**told, **changed}


@pytest.mark.parametrize(
    ("boxes", "verdict"),
    [
        ([], "wait"),
        ([status("a"), status("b")], "go on"),
        ([status("a"), status("b", serving=OLD)], "wait"),
        ([status("a"), status("b", serving=OLD, silent_s=9999.0)], "go on"),
        ([status("a"), status("b", serving=OLD, failed={NEW: "wrong answers"})], "halt"),
        ([status("a"), status("b", unwell="does not answer")], "halt"),
        ([status("a", serving=OLD, silent_s=9999.0)], "wait"),
        ([status("a"), status("b", group="default", serving=OLD, failed={NEW: "not due"})], "go on"),
    ],
)
def test_a_stage_goes_on_waits_or_halts_by_what_its_boxes_report(boxes: list[dict[str, object]], verdict: str) -> None:
    assert judge(release(), boxes, Limits()).verdict == verdict


def test_a_share_of_failures_may_be_allowed_and_the_last_stage_is_complete() -> None:
    boxes = [status(f"box-{number}") for number in range(9)] + [status("bad", serving=OLD, failed={NEW: "no"})]
    standing = judge(release(stage=2), boxes, Limits(max_failed=0.1))
    assert (standing.verdict, standing.failures) == ("complete", {"bad": "no"})
    assert judge(release(stage=2, is_halted=True), boxes, Limits()).verdict == "halted"

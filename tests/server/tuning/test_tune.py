"""Tuning finds the choice that is best by construction, and keeps it in the bundle."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ferryman.bundle.pack import pack
from ferryman.bundle.read import load_bundle
from ferryman.client.load import Address
from ferryman.core.bundle import Choice, CurvePoint, Tuning
from ferryman.core.errors import BundleError, FerrymanError
from ferryman.server.tuning import search
from ferryman.server.tuning.asking import requests_of
from ferryman.server.tuning.candidates import list_candidates
from ferryman.server.tuning.keep import keep_tuning
from ferryman.server.tuning.search import TuneSettings, plan_rounds, tune
from ferryman.server.tuning.serving import serving
from tests.bundle.making import bundle_affine, bundle_colour, bundle_table
from tests.cli.running import ferryman
from tests.server.running import wait_until

STUB = (sys.executable, str(Path(__file__).with_name("stub.py")))
CHOICE = Choice(threads=1, instances=2, max_batch=8)


def made_up(choice: Choice = CHOICE) -> Tuning:
    return Tuning(
        choice=choice, cores=2, machine={}, limit_p99_ms=5, limit_from="asked for", rate_rps=100, curve=(), trials=(),
        seconds=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def affine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_affine(tmp_path_factory.mktemp("tune") / "affine").path


def test_the_choice_that_is_best_by_construction_is_found(affine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_CALL_S", "0.02")  # 50 calls a second and instance: batches are all that helps
    settings = TuneSettings(budget_s=10, p99_ms=500, cores=1)
    found = tune(affine, settings, serve=partial(serving, command=STUB))
    by_choice = {trial.choice: trial.rate_rps for trial in found.trials}
    assert found.choice.max_batch > 1
    assert found.rate_rps > 2 * by_choice[Choice(threads=1, instances=1, max_batch=1)], by_choice
    assert len(found.curve) == 7
    assert found.curve[0].answered == found.curve[0].sent > 0


def test_a_server_that_does_not_start_gives_its_last_words() -> None:
    with (
        pytest.raises(FerrymanError, match="this bundle is broken"),
        serving(Path("broken"), CHOICE, cores=(), command=STUB),
    ):
        pass


def test_a_limit_that_nothing_keeps_is_said(affine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_CALL_S", "0.05")
    with pytest.raises(FerrymanError, match="no way to serve it keeps p99 <= 1 ms"):
        tune(affine, TuneSettings(budget_s=1, p99_ms=1, cores=1), serve=partial(serving, command=STUB))


@pytest.mark.parametrize(("cores", "splits"), [(1, {(1, 1)}), (4, {(4, 1), (2, 2), (1, 4), (1, 1)})])
def test_candidates_split_the_cores(affine: Path, cores: int, splits: set[tuple[int, int]]) -> None:
    candidates = list_candidates(load_bundle(affine), cores)
    assert {(one.threads, one.instances) for one in candidates} == splits
    assert {one.max_batch for one in candidates} == {1, 8, 32}


def test_a_model_with_a_fixed_batch_is_not_tried_with_others(tmp_path: Path) -> None:
    candidates = list_candidates(bundle_colour(tmp_path / "colour"), 2)
    assert {one.max_batch for one in candidates} == {1}


@pytest.mark.parametrize("budget_s", [30.0, 120.0])
def test_the_rounds_fit_into_the_budget(budget_s: float) -> None:
    rounds = plan_rounds(9, budget_s)
    assert [count for count, _ in rounds][:1] == [9]
    assert sum(count * (seconds + 1.5) for count, seconds in rounds) <= budget_s * 0.7


def test_a_long_budget_halves_the_candidates_and_a_short_one_leaves_some_out() -> None:
    assert [count for count, _ in plan_rounds(9, 120)] == [9, 5, 3, 2]
    ((count, _),) = plan_rounds(9, 15)
    assert 0 < count < 9
    assert plan_rounds(9, 1) == [(1, 0.4)]


def test_a_search_ends_with_its_budget(affine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_CALL_S", "0.002")
    notes: list[str] = []

    def hear(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
        notes.append(note)

    begin_s = time.monotonic()
    found = tune(affine, TuneSettings(6, 5000, 3), serve=partial(slow_serving, command=STUB), progress=hear)
    took_s = time.monotonic() - begin_s
    assert took_s < 9, "what is in work at the end is finished; a starved machine gets a second more"
    untried = [trial for trial in found.trials if not trial.rounds]
    assert 0 < len(untried) < len(found.trials) == 9
    assert any(f"no time to try {len(untried)} of the 9 ways" in note for note in notes)


@contextmanager
def slow_serving(bundle: Path, choice: Choice, *, cores: Sequence[int], command: Sequence[str]) -> Iterator[Address]:
    """Be a server that takes half a second to come up."""
    wait_for = time.monotonic() + 0.5
    with serving(bundle, choice, cores=cores, command=command) as address:
        wait_until(lambda: time.monotonic() >= wait_for)
        yield address


def test_a_choice_that_does_not_last_is_no_result() -> None:
    point = CurvePoint(
        rate_rps=9, achieved_rps=9, sent=9, answered=9, refused=0, failed=0, lost=0, p50_ms=1, p99_ms=70,
        p99_low_ms=None, p99_high_ms=None,
    )  # fmt: skip
    with pytest.raises(FerrymanError, match=r"even 9\.0 requests/s had a p99 of 70") as caught:
        search._confirmed((point,), 50)
    assert "the bundle is as it was" in caught.value.hint


@pytest.mark.parametrize(
    ("budget", "words"), [("x", "'x' is no time"), ("20", "s, m, h or d"), ("2s", "10s is the least"), ("0s", "least")]
)
def test_a_budget_that_is_none_is_told_with_its_value_and_form(affine: Path, budget: str, words: str) -> None:
    told = ferryman("tune", str(affine), "--budget", budget)
    assert told.returncode == 2
    assert "--budget" in told.stderr and words in told.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_search_that_is_stopped_leaves_bundle_and_machine_as_they_were(tmp_path: Path, number: int) -> None:
    before = bundle_affine(tmp_path / "bundle" / "affine")
    lay = sorted(before.path.parent.iterdir())
    words = [sys.executable, "-m", "ferryman", "tune", str(before.path), "--budget", "60s"]
    with (tmp_path / "told").open("w") as told:
        process = subprocess.Popen(words, stderr=told, start_new_session=True)
    try:
        wait_until(lambda: "round 1" in (tmp_path / "told").read_text() and len(members(process.pid)) > 1)
        os.killpg(process.pid, number)  # as a terminal does: the server hears it, too
        assert process.wait(30) == 128 + number
        wait_until(lambda: members(process.pid) == [])
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert "stopped; the bundle is as it was" in (tmp_path / "told").read_text()
    after = load_bundle(before.path)
    assert (after.tuning, after.manifest) == (None, before.manifest)
    assert sorted(before.path.parent.iterdir()) == lay


def members(group: int) -> list[int]:
    """Give the processes of a group that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def test_the_golden_samples_become_requests(affine: Path, tmp_path: Path) -> None:
    tensors = requests_of(load_bundle(affine), host="x")
    rows = requests_of(bundle_table(tmp_path / "table"), host="x")
    pictures = requests_of(bundle_colour(tmp_path / "colour"), host="x")
    assert b"inference-header-content-length" in tensors[0].lower()
    assert b'{"rows": [{' in rows[0]
    assert b"octet-stream" in pictures[0]
    assert np.all([request.startswith(b"POST /v2/models/") for request in (*tensors, *rows, *pictures)])


def test_a_tuning_is_kept_and_the_bundle_stays_the_same(tmp_path: Path) -> None:
    before = bundle_affine(tmp_path / "affine")
    keep_tuning(before.path, made_up())
    after = load_bundle(before.path)
    assert after.tuning == made_up()
    assert after.manifest.digest == before.manifest.digest
    other = Choice(threads=2, instances=1, max_batch=1)
    assert keep_tuning(before.path, made_up(other))[0].tuning == made_up(other), "a later one takes its place"


def test_a_packed_bundle_is_tuned_in_place(tmp_path: Path) -> None:
    before = bundle_affine(tmp_path / "affine")
    packed = pack(before.path, tmp_path / "affine.ferry")
    after, _ = keep_tuning(packed, made_up())
    assert after.tuning == made_up()
    assert after.manifest.digest == before.manifest.digest
    assert sorted(file.name for file in tmp_path.iterdir() if "ferry" in file.name) == ["affine.ferry"]


def test_a_tuning_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    keep_tuning(bundle.path, made_up())
    file = bundle.path / "tuning.json"
    file.write_bytes(file.read_bytes().replace(b"100", b"900"))
    with pytest.raises(BundleError, match=r"tuning.json was changed"):
        load_bundle(bundle.path)

"""Tuning of a real bundle with real servers: what is found is kept, and served from then on."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Choice, Tuning
from ferryman.core.runtime import available_cores
from ferryman.server.tuning.keep import keep_tuning
from tests.bundle.making import bundle_table
from tests.cli.running import ferryman
from tests.server.running import running


@contextmanager
def on_one_core() -> Iterator[None]:
    """Let what is started meanwhile have one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def served_batch(bundle: Path) -> int:
    """Give how many rows may share a call in a server that is told nothing."""
    with running([bundle]) as server:
        size: int = server.ask("GET", "/v2/models/table/config")[1]["max_batch_size"]
        return size


def kept(bundle: Path, max_batch: int, cores: int) -> None:
    tuning = Tuning(
        choice=Choice(threads=1, instances=1, max_batch=max_batch), cores=cores, machine={}, limit_p99_ms=5,
        limit_from="asked for", rate_rps=100, curve=(), trials=(), seconds=1,
    )  # fmt: skip
    keep_tuning(bundle, tuning)


@pytest.mark.slow
def test_what_tuning_finds_is_kept_in_the_bundle_and_served(tmp_path: Path) -> None:
    before = bundle_table(tmp_path / "table")
    tuned = ferryman("tune", "table", "--budget", "10s", "--p99-ms", "500", "--cores", "1", "--json", folder=tmp_path)
    assert tuned.returncode == 0, tuned.stderr
    after = load_bundle(before.path)
    assert after.manifest.digest == before.manifest.digest
    assert after.tuning is not None
    assert after.tuning == Tuning.model_validate_json(tuned.stdout)
    assert json.loads((before.path / "tuning.json").read_text())["choice"] == after.tuning.choice.model_dump()
    assert [trial.error for trial in after.tuning.trials] == [""] * 3
    assert {trial.choice.max_batch for trial in after.tuning.trials} == {1, 8, 32}
    assert after.tuning.rate_rps > 0
    assert len(after.tuning.curve) == 7
    first = after.tuning.curve[0]
    assert first.answered == first.sent > 0
    assert first.p50_ms is not None
    assert sum(point.lost + point.failed for point in after.tuning.curve) == 0
    with on_one_core():
        expected = after.tuning.choice.max_batch
        assert served_batch(before.path) == (expected if expected > 1 else 0)


@pytest.mark.parametrize(("max_batch", "shown"), [(8, 8), (3, 3), (1, 0)])
def test_a_choice_made_for_as_many_cores_is_served(tmp_path: Path, max_batch: int, shown: int) -> None:
    bundle = bundle_table(tmp_path / "table").path
    kept(bundle, max_batch, available_cores())
    assert served_batch(bundle) == shown


def test_a_choice_made_for_other_cores_is_not_and_an_option_beats_any(tmp_path: Path) -> None:
    bundle = bundle_table(tmp_path / "table").path
    kept(bundle, 3, available_cores() + 1)
    assert served_batch(bundle) != 3
    kept(bundle, 3, available_cores())
    with running([bundle], max_batch=5) as server:
        assert server.ask("GET", "/v2/models/table/config")[1]["max_batch_size"] == 5

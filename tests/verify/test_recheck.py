"""A bundle is checked again where it is: golden samples, then the promises that this machine can measure."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.bundle.making import bundle_affine, bundle_colour, bundle_table

from ferryman.bundle.write import write_bundle
from ferryman.core.bundle import Bundle, Golden
from ferryman.core.contract import Clause, Contract
from ferryman.verify.recheck import Verified, verify_bundle

Promise = float | str


def promising(bundle: Bundle, **promises: Promise) -> Bundle:
    """Give the bundle with another contract."""
    deployment = bundle.deployment.model_copy(update={"contract": Contract.model_validate(promises)})
    return replace(bundle, deployment=deployment)


def clause_of(verified: Verified, name: str) -> Clause:
    return next(clause for clause in verified.clauses if clause.name == name)


@pytest.mark.parametrize("make", [bundle_affine, bundle_colour, bundle_table], ids=["tensor", "classify", "tabular"])
def test_a_sound_bundle_answers_its_golden_samples_and_holds(make: object, tmp_path: Path) -> None:
    assert callable(make)
    verified = verify_bundle(make(tmp_path / "bundle"), threads=1)
    assert verified.golden_ok
    assert verified.holds
    assert all(distance == 0 for distance in verified.golden.values()), verified.golden
    assert any("fresh process" in note for note in verified.notes)


def test_an_answer_that_is_not_the_stored_one_fails_and_says_by_how_much(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    first = bundle.golden[0]
    answer = {"outputs": {"sum": {"dtype": "float32", "shape": [1, 3], "data": [[3.0, 5.0, 70.0]]}}}
    wrong = replace(bundle, golden=(Golden(first.name, first.item, answer),))
    verified = verify_bundle(wrong, threads=1)
    assert (verified.golden_ok, verified.holds) == (False, False)
    assert any("golden sample 'item-0': max_rel_diff" in note and "is beyond" in note for note in verified.notes)


def test_size_memory_and_cold_start_are_measured_here_and_judged(tmp_path: Path) -> None:
    bundle = promising(bundle_affine(tmp_path / "bundle"), max_size_mb=1e-6, max_rss_mb=4000, max_cold_start_s=60)
    verified = verify_bundle(bundle, threads=1)
    assert (verified.golden_ok, verified.holds) == (True, False)
    assert clause_of(verified, "max_size_mb").holds is False
    assert clause_of(verified, "max_rss_mb").holds is True
    assert clause_of(verified, "max_cold_start_s").holds is True


def test_a_latency_without_a_rate_is_of_single_calls(tmp_path: Path) -> None:
    verified = verify_bundle(promising(bundle_affine(tmp_path / "bundle"), p99_ms=10_000), threads=1)
    clause = clause_of(verified, "p99_ms")
    assert clause.measured is not None
    assert 0 < clause.measured < 10_000
    assert verified.holds


@pytest.mark.slow
def test_a_latency_at_a_rate_counts_the_waiting(tmp_path: Path) -> None:
    verified = verify_bundle(promising(bundle_affine(tmp_path / "bundle"), p99_ms=1e-4, at_rps=50), threads=1)
    assert clause_of(verified, "p99_ms").holds is False
    assert not verified.holds


def test_what_depends_on_no_machine_is_taken_from_the_proof(tmp_path: Path) -> None:
    bundle = bundle_colour(tmp_path / "bundle")
    stored = Clause(name="max_drop", promised=0.01, measured=0.02, holds=False)
    candidate = bundle.proof.candidates[0].model_copy(update={"clauses": (stored,)})
    proof = bundle.proof.model_copy(update={"candidates": (candidate,)})
    verified = verify_bundle(replace(bundle, proof=proof), threads=1)
    assert clause_of(verified, "max_drop") == stored
    assert verified.golden_ok
    assert not verified.holds


def test_a_bundle_that_was_moved_and_written_again_is_checked_where_it_is(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    moved = write_bundle(
        tmp_path / "elsewhere",
        deployment=bundle.deployment,
        artifact=bundle.artifact,
        proof=bundle.proof,
        golden=bundle.golden,
        tolerance=bundle.tolerance,
        baseline=bundle.baseline,
        versions=bundle.versions,
    )
    assert verify_bundle(moved, threads=1).digest == bundle.manifest.digest


def test_what_the_build_did_not_accept_holds_nowhere(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    refused = bundle.proof.model_copy(update={"holds": False, "verdict": "nothing keeps the contract"})
    verified = verify_bundle(replace(bundle, proof=refused), threads=1)
    assert (verified.golden_ok, verified.holds) == (True, False)
    assert "the build did not accept it: nothing keeps the contract" in verified.notes


def test_a_promise_that_the_build_could_not_measure_is_noted_and_breaks_nothing(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    unmeasured = Clause(name="max_drop", promised=0.01, measured=None)
    candidate = bundle.proof.candidates[0].model_copy(update={"clauses": (unmeasured,)})
    proof = bundle.proof.model_copy(update={"candidates": (candidate,)})
    verified = verify_bundle(replace(bundle, proof=proof), threads=1)
    assert verified.holds
    assert any(note.startswith("max_drop was not measured") for note in verified.notes)


def test_only_the_sample_that_is_answered_wrong_is_named(tmp_path: Path) -> None:
    bundle = bundle_table(tmp_path / "bundle")
    first, second = bundle.golden
    swapped = replace(bundle, golden=(first, Golden(second.name, second.item, first.answer)))
    wrong = [note for note in verify_bundle(swapped, threads=1).notes if note.startswith("golden sample")]
    assert wrong
    assert all(note.startswith("golden sample 'item-1': ") for note in wrong)


def test_a_bundle_without_golden_samples_does_not_hold(tmp_path: Path) -> None:
    verified = verify_bundle(replace(bundle_affine(tmp_path / "bundle"), golden=()), threads=1)
    assert (verified.golden_ok, verified.holds) == (False, False)
    assert any("no golden samples" in note for note in verified.notes)

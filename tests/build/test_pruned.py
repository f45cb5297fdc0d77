"""A pruned model is judged as any candidate; where it breaks the contract, less is taken away."""

import pytest

from ferryman import api
from ferryman.core.proof import CandidateProof
from tests.build.conftest import Build

pytestmark = [pytest.mark.toolchain("torch"), pytest.mark.slow]
PRUNED = 'candidates = ["onnx-fp32", "onnx-pruned"]'
OPTIONS = "[build.options.prune]\nmultiple = 8\nbatch = 8\nthreads = 1\n"


def pruned_of(built: api.Built) -> CandidateProof:
    return next(candidate for candidate in built.proof.candidates if candidate.name == "onnx-pruned")


def test_a_model_that_learnt_too_little_is_refused_and_less_is_taken_away(build: Build) -> None:
    refused = pruned_of(build(build=PRUNED, options=f"{OPTIONS}steps = 1\nrate = 5.0\n"))
    assert refused.status == "refused"
    assert [attempt.label for attempt in refused.attempts] == [
        "as configured",
        "sparsity 0.375 instead of 0.5",
        "sparsity 0.25 instead of 0.5",
    ]


def test_a_model_that_learnt_enough_keeps_the_contract(build: Build) -> None:
    pruned = pruned_of(build(build=PRUNED, options=f"{OPTIONS}steps = 60\n"))
    assert pruned.status in ("accepted", "repaired")
    assert pruned.steps == ("prune",)
    assert pruned.precision == "pruned"

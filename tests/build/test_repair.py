"""A naive INT8 detector collapses: it is refused, the stage to blame is named, and the repair is found."""

from pathlib import Path

import numpy as np
import pytest

from ferryman import api
from ferryman.core.proof import CandidateProof
from ferryman.optimize.int8 import StaticInt8
from tests.build.conftest import Build
from tests.bundle.making import save

ONNX = 'candidates = ["onnx-fp32", "onnx-int8"]'


def int8_of(built: api.Built) -> CandidateProof:
    return next(candidate for candidate in built.proof.candidates if candidate.name == "onnx-int8")


def test_naive_int8_is_refused_and_the_join_of_pixels_and_scores_is_blamed(build: Build) -> None:
    refused = int8_of(build(build=f"{ONNX}\nrepair = false"))
    assert refused.status == "refused"
    assert refused.divergence is not None
    assert (refused.divergence.op, refused.divergence.node) == ("Concat", "join")
    assert refused.agreement["score_shift"] > 0.2
    assert "metric drop 0.017 > 0.01, score shift 0.23" in refused.reason
    assert [attempt.label for attempt in refused.attempts] == ["as configured"]


def test_the_repair_keeps_the_decode_tail_in_float_and_every_try_is_recorded(build: Build) -> None:
    repaired = int8_of(build(build=ONNX))
    assert repaired.status == "repaired"
    assert [(attempt.label, attempt.holds) for attempt in repaired.attempts] == [
        ("as configured", False),
        ("decode tail kept in float", True),
    ]
    assert repaired.attempts[1].options == {"exclude_tail": True}
    assert repaired.divergence is not None, "what was wrong before stays in the proof"
    assert repaired.agreement["score_shift"] < 0.01
    assert repaired.reason == ""


def test_a_repair_that_changes_nothing_of_the_model_is_no_try(build: Build, project: Path) -> None:
    user = "\n[build.options.int8]\nexclude_nodes = ['decode', 'list_boxes', 'list_classes', 'sigmoid', 'join']"
    tried = int8_of(build(build=f"{ONNX}{user}", contract="max_score_shift = 0")).attempts
    assert [attempt.label for attempt in tried][:2] == ["as configured", "head kept in float"]


def test_the_proof_names_the_nodes_that_stay_in_float_and_why(build: Build) -> None:
    repaired = int8_of(build(build=ONNX))
    (tail,) = repaired.kept_in_float
    assert tail.why.startswith("decode tail")
    assert tail.nodes == ("decode", "list_boxes", "list_classes", "sigmoid", "join")
    refused = int8_of(build(build=f"{ONNX}\nrepair = false"))
    assert refused.kept_in_float == ()


def test_the_calibration_of_confidences_stands_beside_the_metric(build: Build) -> None:
    repaired = int8_of(build(build=ONNX, contract="max_calibration_shift = 0.02"))
    assert repaired.calibration is not None
    assert abs(repaired.calibration.shift) < 0.02
    clause = next(clause for clause in repaired.clauses if clause.name == "max_calibration_shift")
    assert clause.holds


def test_collapsed_confidences_are_refused_even_where_the_metric_holds(build: Build) -> None:
    refused = int8_of(build(build=f"{ONNX}\nrepair = false", contract="max_drop = 1.0"))
    assert refused.status == "refused"
    assert refused.reason == "score shift 0.232 > 0.05"


def test_a_step_configured_well_needs_no_repair(build: Build) -> None:
    accepted = int8_of(build(build=ONNX, options="[build.options.int8]\nexclude_head = true\n"))
    assert (accepted.status, len(accepted.attempts), accepted.divergence) == ("accepted", 1, None)


def test_a_time_for_repairs_that_is_up_is_said(build: Build) -> None:
    refused = int8_of(build(build=f"{ONNX}\nbudget_s = 1e-6"))
    assert refused.status == "refused"
    assert [attempt.label for attempt in refused.attempts] == ["as configured", "decode tail kept in float"]
    assert "build.budget_s" in refused.attempts[1].why


def test_what_nothing_repairs_climbs_the_whole_ladder_without_trying_anything_twice(build: Build) -> None:
    refused = int8_of(build(build=ONNX, contract="max_score_shift = 1e-9"))
    labels = [attempt.label for attempt in refused.attempts]
    assert labels[:5] == [
        "as configured",
        "decode tail kept in float",
        "head kept in float",
        "head kept in float, percentile calibrator",
        "head kept in float, entropy calibrator",
    ], "mse may find the very ranges of another, and is then no try of its own"
    assert any(label.startswith("only ") and label.endswith(" in INT8") for label in labels[5:7]), labels
    assert any(label.endswith("most sensitive layer in float") for label in labels)
    assert len(labels) == len(set(labels))
    assert refused.status == "refused"
    assert "score shift" in refused.reason


@pytest.mark.slow
@pytest.mark.slow
def test_a_step_s_own_remedies_are_tried_after_the_head(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StaticInt8, "remedies", (("one scale a tensor", {"per_channel": False}),), raising=False)
    refused = int8_of(build(build=ONNX, contract="max_drop = 0.0\nmax_score_shift = 0.0"))
    labels = [attempt.label for attempt in refused.attempts]
    assert labels[:4] == ["as configured", "decode tail kept in float", "head kept in float", "one scale a tensor"]
    assert refused.attempts[3].options == {"per_channel": False}


def test_openvino_is_offered_no_calibrator_that_it_does_not_have(build: Build) -> None:
    built = build(build='candidates = ["openvino-int8"]', contract="max_score_shift = 1e-9")
    attempts = built.proof.candidates[0].attempts
    assert len(attempts) > 3
    assert [attempt.error for attempt in attempts if attempt.error] == []


def make_projection(folder: Path) -> None:
    """Write a tensor project: values [batch, 3] times a matrix; numbers without confidence or labels."""
    from onnx import TensorProto, helper

    folder.mkdir()
    generator = np.random.default_rng(0)
    save(
        folder / "projection.onnx",
        [helper.make_node("MatMul", ["values", "weights"], ["projected"], name="project")],
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("projected", TensorProto.FLOAT, ["batch", 4])],
        weights=generator.normal(size=(3, 4)).astype(np.float32),
    )
    np.savez(folder / "values.npz", values=generator.normal(size=(40, 3)).astype(np.float32))
    (folder / "ferryman.toml").write_text(
        '[model]\nname = "projection"\nsource = "projection.onnx"\n[task]\nkind = "tensor"\n'
        '[data]\ncalibration = "values.npz"\n[build]\ncandidates = ["onnx-fp32", "onnx-int8"]\n',
        encoding="utf-8",
    )


def test_int8_whose_cost_nothing_measures_is_refused(tmp_path: Path, shared_cache: Path) -> None:
    make_projection(tmp_path / "projection")
    built = api.build(tmp_path / "projection")
    refused = int8_of(built)
    assert refused.status == "refused"
    assert refused.reason == "nothing measures what the lower precision costs: give data.evaluation with labels"
    assert built.proof.winner == "onnx-fp32"
    assert built.holds

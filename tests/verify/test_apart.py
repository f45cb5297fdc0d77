from pathlib import Path

import pytest
from tests.verify.proofs import NAN, bundle, candidate, detector_proof, unmeasured_proof

from ferryman.core.proof import CandidateProof, Parity, Proof
from ferryman.verify._apart import render_apart
from ferryman.verify.report_html import render_html


def proof_of(*candidates: CandidateProof) -> Proof:
    return detector_proof().model_copy(update={"candidates": candidates})


def with_errors(**errors: float) -> CandidateProof:
    parity = Parity(max_abs=errors, max_rel=errors, samples=8)
    return candidate("onnx-fp16").model_copy(update={"parity": parity})


def test_the_page_tells_tensor_errors_and_what_becomes_of_the_answers(tmp_path: Path) -> None:
    page = render_html(bundle(tmp_path, detector_proof()))
    for told in ("How far apart", "tensor error", "0.0021", "boxes without a partner", "1.0 %", "mean score change"):
        assert told in page


@pytest.mark.parametrize(("error", "width"), [(1e-8, 0), (1e-4, 50), (3.0, 100), (0.0, 0)])
def test_the_bar_counts_decades(error: float, width: int) -> None:
    assert f"width:{width}%" in render_apart(proof_of(with_errors(output=error)))


def test_of_several_outputs_the_worst_is_named() -> None:
    page = render_apart(proof_of(with_errors(boxes=1e-3, scores=2e-2)))
    assert "<small>scores</small>" in page
    assert "boxes</small>" not in page


def test_an_error_that_is_not_a_number_is_the_worst_of_all() -> None:
    page = render_apart(proof_of(with_errors(boxes=NAN, scores=0.5)))
    assert "not a number" in page
    assert "width:100%" in page


def test_names_of_outputs_can_t_write_html() -> None:
    assert "<script>" not in render_apart(proof_of(with_errors(**{"<script>": 1.0, "b": 0.0})))


def test_a_proof_without_measurements_has_no_such_table() -> None:
    unmeasured = unmeasured_proof()
    bare = tuple(one.model_copy(update={"parity": None}) for one in unmeasured.candidates)
    assert render_apart(unmeasured.model_copy(update={"candidates": bare})) == ""

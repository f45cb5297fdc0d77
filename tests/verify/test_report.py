import re
from pathlib import Path

import pytest
from tests.verify.proofs import bundle, detector_proof, unmeasured_proof

from ferryman.core.proof import Proof
from ferryman.verify.figures import NOT_MEASURED, figure, plain, significant, size
from ferryman.verify.report import render_bundle, render_table

HOSTILE = "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>\nnext\u202eline"


def row(table: str, name: str) -> list[str]:
    return next(line for line in table.splitlines() if name in line).split()


def test_the_winner_comes_first_and_is_marked() -> None:
    lines = render_table(detector_proof(), width=160, color=False).splitlines()
    heading = next(index for index, line in enumerate(lines) if line.startswith("candidate"))
    assert lines[heading + 1].startswith("★ openvino-int8  ↻ repaired")


def test_a_line_holds_every_figure_of_a_candidate() -> None:
    cells = row(render_table(detector_proof(), width=160, color=False), "onnx-fp16")
    assert cells == [
        "onnx-fp16", "✓", "accepted", "0.339", "+0.000", "-0.004", "to", "+0.005", "0.000", "0.0021", "19.40", "1.14",
        "46.6", "1.86", "121", "0.41",
    ]  # fmt: skip


def test_a_figure_that_breaks_the_contract_is_marked_without_colour_too() -> None:
    cells = row(render_table(detector_proof(), width=160, color=False), "onnx-int8  ")
    assert "!+0.201" in cells
    assert "!67.9" in cells


def test_a_refusal_says_which_promise_broke_and_where_the_error_starts() -> None:
    told = " ".join(render_table(detector_proof(), width=160, color=False).split())
    assert "onnx-int8 refused: metric drop 0.201 is over the promised 0.01; score shift 0.13 is over" in told
    assert "Conv '/backbone/stem/conv' is the first stage that diverges: 8.1 dB from inputs of 38.2 dB" in told


def test_a_refusal_says_where_a_part_of_the_samples_was_enough() -> None:
    proof = detector_proof()
    assert "enough" not in render_table(proof, width=160, color=False)
    given_up = [
        candidate.model_copy(update={"accuracy": candidate.accuracy.model_copy(update={"samples": 22})})
        if candidate.name == "onnx-int8" and candidate.accuracy
        else candidate
        for candidate in proof.candidates
    ]
    shown = render_table(proof.model_copy(update={"candidates": tuple(given_up)}), width=160, color=False)
    assert "22 of 128 samples were enough to see that" in " ".join(shown.split())


def test_repairs_are_told_in_order_with_their_figures() -> None:
    table = render_table(detector_proof(), width=160, color=False)
    tries = [line.strip() for line in table.splitlines() if re.match(r"  \d [✓✗]", line)]
    assert [line[:12] for line in tries] == ["1 ✗ all oper", "2 ✗ head in ", "3 ✓ only poi"]
    assert "map 0.338  drop 0.001  (30 s)" in tries[2]


def test_the_noise_of_the_timing_and_the_verdict_close_the_table() -> None:
    lines = render_table(detector_proof(), width=160, color=False).splitlines()
    assert any("ratios within ±3.1 % mean nothing" in line for line in lines)
    assert lines[-1].startswith("✓ openvino-int8 holds every promise")


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    table = render_table(detector_proof(), width=width, color=False)
    assert max(map(len, table.splitlines())) <= width


def test_a_narrow_terminal_keeps_the_deciding_columns_and_names_the_others() -> None:
    told = " ".join(render_table(detector_proof(), width=80, color=False).split())
    assert "candidate verdict map drop shift p50 ms vs source MB" in told
    assert "a wider terminal also shows: 95 % of drop, p99 ms@10/s, RSS MB, start s, error" in told


def test_colour_changes_no_text() -> None:
    colored = render_table(detector_proof(), width=120, color=True)
    assert "\x1b[" in colored
    assert re.sub(r"\x1b\[[\d;]*m", "", colored) == render_table(detector_proof(), width=120, color=False)


def test_what_was_not_measured_or_is_no_number_is_a_dash() -> None:
    table = render_table(unmeasured_proof(), width=160, color=False)
    assert "nan" not in table.lower()
    assert "None" not in table
    assert set(row(table, "★ onnx-fp32")[4:]) == {NOT_MEASURED}
    assert "metric drop is not a number (promised: at most 0.01)" in table


def test_foreign_text_can_not_write_to_the_terminal() -> None:
    proof = detector_proof(model="m").model_copy(update={"verdict": HOSTILE, "notes": (HOSTILE,), "metric": HOSTILE})
    table = render_table(proof, width=120, color=False)
    assert not set(table) & {"\x1b", "\x07", "\u202e"}


def test_a_proof_without_candidates_is_still_a_table() -> None:
    proof = Proof.model_validate({**detector_proof().model_dump(), "candidates": (), "winner": "", "holds": False})
    assert render_table(proof, width=80, color=False).splitlines()[-2].startswith("✗ ")


def test_a_bundle_shows_what_it_is_and_what_was_promised(tmp_path: Path) -> None:
    told = render_bundle(bundle(tmp_path, detector_proof()))
    for part in (
        "street  openvino int8, 1.31 MB",
        "made by  openvino → openvino-int8",
        "in   images  float32[1, 3, 416, 416]",
        "out  output  float32[batch, 3549, 85]",
        "model/model.xml",
        "onnxruntime 1.31.1",
        "kind = detect",
    ):
        assert part in told
    assert re.search(r"p99 latency +≤ 60 ms +34\.1 ms +✓ holds", told)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (figure(None), NOT_MEASURED),
        (figure(float("inf")), NOT_MEASURED),
        (figure(-0.0001, signed=True), "+0.000"),
        (figure(0.5, 1, unit="ms"), "0.5 ms"),
        (significant(123456.0), "123456"),
        (significant(0.00012345), "0.000123"),
        (size(999), "999 B"),
        (size(1_310_000), "1.31 MB"),
        (plain("a\r\nb\x00"), "a b\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_figures_are_written_the_same_way_everywhere(written: str, wanted: str) -> None:
    assert written == wanted

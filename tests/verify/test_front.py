"""How the front, the targets and what was not tried are told: on a terminal, on the page, in the plot."""

import re
from pathlib import Path

import pytest
from tests.verify.proofs import bundle, detector_proof

from ferryman.core.proof import CandidateProof, Proof, TargetChoice
from ferryman.verify._svg import Point, scatter
from ferryman.verify.figures import NOT_MEASURED
from ferryman.verify.report import render_bundle, render_table
from ferryman.verify.report_html import render_html

HOSTILE = "<script>alert(1)</script>\x1b[2J"


def marked_proof() -> Proof:
    """Be the detector's proof with a front, two targets and a candidate that came too late."""
    proof = detector_proof()
    places = {
        "openvino-int8": (),
        "onnx-fp16": (),
        "onnx-fp32": ("openvino-int8", "onnx-fp16"),
        "openvino-fp32": ("onnx-fp16",),
    }
    late = CandidateProof(
        name="tfjs-fp32", format="tfjs", precision="fp32", status="not tried",
        reason="out of time (build.time_budget_s is 60)",
    )  # fmt: skip
    candidates = (
        *(one.model_copy(update={"dominated_by": places.get(one.name)}) for one in proof.candidates),
        late,
    )
    targets = {
        "server": TargetChoice(winner="openvino-int8", why="the fastest of the 2 that keep the contract"),
        "browser": TargetChoice(why=f"NOTHING that runs there keeps the contract {HOSTILE}"),
    }
    return proof.model_copy(update={"candidates": candidates, "targets": targets})


def test_the_front_says_what_each_is_best_at_and_by_whom_the_others_are_dominated() -> None:
    lines = render_table(marked_proof(), width=160, color=False).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("front:"))
    assert [re.sub(r"\s+", " ", line) for line in lines[start + 1 : start + 5]] == [
        "● onnx-fp16 most accurate, leanest in memory",
        "● openvino-int8 fastest, smallest, leanest in memory",
        " onnx-fp32 ✗ refused, dominated by openvino-int8, onnx-fp16",
        " openvino-fp32 ✗ refused, dominated by onnx-fp16",
    ]


def test_each_target_is_told_with_its_winner_and_why() -> None:
    told = render_table(marked_proof(), width=160, color=False)
    assert "for server: openvino-int8: the fastest of the 2 that keep the contract" in told
    assert "for browser: ✗ none: NOTHING that runs there" in told
    assert "\x1b" not in told


def test_what_was_not_tried_is_told_with_the_reason() -> None:
    told = render_table(marked_proof(), width=160, color=False)
    assert f"{NOT_MEASURED} tfjs-fp32 not tried: out of time (build.time_budget_s is 60)" in told


@pytest.mark.parametrize("width", [60, 100, 160])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, render_table(marked_proof(), width=width, color=False).splitlines())) <= width


def test_a_bundle_tells_its_targets(tmp_path: Path) -> None:
    assert "for server: openvino-int8" in render_bundle(bundle(tmp_path, marked_proof()))


def test_the_page_tells_targets_and_front_and_no_text_escapes(tmp_path: Path) -> None:
    page = render_html(bundle(tmp_path, marked_proof()))
    for part in ("<h2>Targets</h2>", "<h2>The front</h2>", "dominated by openvino-int8, onnx-fp16", "pill not-tried"):
        assert part in page
    assert "<script>" not in page
    assert '<path class="front"' in page


def test_a_proof_without_a_front_has_no_such_section(tmp_path: Path) -> None:
    page = render_html(bundle(tmp_path, detector_proof()))
    assert "The front" not in page
    assert "Targets" not in page
    assert "front:" not in render_table(detector_proof(), width=160, color=False)


def test_the_plot_draws_the_front_in_steps_and_dots_by_size() -> None:
    def point(name: str, latency_ms: float, change: float, size_mb: float, *, is_on_front: bool) -> Point:
        return Point(name, "accepted", latency_ms, change, change, change, size_mb, is_on_front)

    points = [
        point("small", 5, -0.004, 1, is_on_front=True),
        point("exact", 10, 0.0, 4, is_on_front=True),
        point("slow", 20, -0.001, 4, is_on_front=True),  # on the front for something that this plot doesn't show
        point("beaten", 12, -0.003, 4, is_on_front=False),
    ]
    drawn = scatter(points, max_ms=None, max_drop=0.01, labels=("ms", "change"))
    (path,) = re.findall(r'<path class="front" d="([^"]+)"', drawn)
    assert len(re.findall("H", path)) == 1, "from 'small' to 'exact', and no further"
    assert re.findall(r'<circle [^>]*r="([\d.]+)"', drawn) == ["9.0", "9.0", "9.0", "4.5"], "small ones on top"
    assert "exact: 10 ms, change 0, 4 MB" in drawn

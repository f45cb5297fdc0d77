import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.verify.proofs import bundle, candidate, detector_proof, unmeasured_proof

from ferryman.core.bundle import Golden
from ferryman.core.proof import CandidateProof, Proof
from ferryman.core.task import Item
from ferryman.verify._svg import Point, scatter, ticks
from ferryman.verify.report_html import render_html

HOSTILE = "</style><script>alert('1')</script><img src=x onerror=alert(1)>\" onload=\"x"
BOX_ANSWER = {"boxes": [[4.0, 5.0, 40.0, 50.0]], "scores": [0.9], "labels": [HOSTILE], "classes": [0]}


class Page(HTMLParser):
    """Collect tags and attributes, and check that what is opened is closed."""

    VOID = ("meta", "br", "rect", "circle", "line", "path", "image", "img", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID and tag not in ("tr", "td", "th", "li", "i"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


def page(tmp_path: Path, proof: Proof, *golden: Golden) -> str:
    return render_html(bundle(tmp_path, proof, golden=golden))


def picture() -> np.ndarray[Any, np.dtype[np.uint8]]:  # any shape
    return np.full((60, 80, 3), 90, np.uint8)


def test_the_page_stands_alone_and_needs_no_script(tmp_path: Path) -> None:
    parsed = Page(page(tmp_path, detector_proof(), Golden("a", picture(), BOX_ANSWER)))
    assert parsed.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.tags)
    for name, value in parsed.attributes:
        assert name not in ("src", "onload", "onerror")
        assert name != "href" or value.startswith("data:image/jpeg;base64,")


def test_the_page_has_each_part_of_the_proof(tmp_path: Path) -> None:
    text = page(tmp_path, detector_proof(), Golden("first.jpg", picture(), BOX_ANSWER))
    for part in (
        "openvino-int8 holds every promise",
        "max_score_shift",
        "✗ refused",
        "only pointwise convolutions",
        "is the first stage that diverges",
        "Accuracy and latency",
        "Confidences of openvino-int8",
        "p50 · p95 · p99 at 10 requests/s, ms",
        "first.jpg",
        "needs tensorrt: pip install tensorrt",
        "float32[batch, 3549, 85]",
        "avx512_vnni",
        "prefers-color-scheme:dark",
    ):
        assert part in text


def test_hostile_text_stays_text_wherever_it_comes_from(tmp_path: Path) -> None:
    hostile = candidate("onnx-int8", status=HOSTILE, reason=HOSTILE).model_copy(
        update={"name": HOSTILE, "steps": (HOSTILE,), "agreement": {HOSTILE: 1.0}}
    )
    proof = detector_proof().model_copy(
        update={"candidates": (hostile, *detector_proof().candidates), "winner": HOSTILE, "verdict": HOSTILE,
                "metric": HOSTILE, "notes": (HOSTILE,), "machine": {HOSTILE: HOSTILE}, "model": HOSTILE}
    )  # fmt: skip
    parsed = Page(page(tmp_path, proof, Golden(HOSTILE, picture(), BOX_ANSWER)))
    assert parsed.open == []
    assert not {"script", "img"} & set(parsed.tags)
    assert not any(name.startswith("on") for name, _ in parsed.attributes)


def test_boxes_are_drawn_in_the_pictures_own_pixels(tmp_path: Path) -> None:
    text = page(tmp_path, detector_proof(), Golden("a", picture(), {**BOX_ANSWER, "labels": ["person"]}))
    assert '<svg viewBox="0 0 80 60"' in text
    assert 'class="edge" x="4.0" y="5.0" width="36.0" height="45.0"' in text
    assert "person 0.90" in text


@pytest.mark.parametrize("box", [[1.0, 2.0], ["a", 1, 2, 3], [float("nan")] * 4, [1e300] * 4, None])
def test_a_box_that_is_none_is_left_out(tmp_path: Path, box: object) -> None:
    answer = {"boxes": [box], "scores": [0.9], "labels": ["person"], "classes": [0]}
    text = page(tmp_path, detector_proof(), Golden("a", picture(), answer))
    assert "0 boxes of score 0.25 or more" in text


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        ({"price": 1.5, "city": "<Bern>"}, "&quot;price&quot;: 1.5, &quot;city&quot;: &quot;&lt;Bern&gt;&quot;"),
        ({"images": np.zeros((1, 3), np.float32)}, "float32[1, 3]"),
        (b"no picture at all", "bytes"),
    ],
)
def test_a_sample_that_is_no_picture_is_shown_as_text(tmp_path: Path, item: Item, shown: str) -> None:
    assert shown in page(tmp_path, detector_proof(), Golden("row", item, {"label": "UP"}))


def test_nothing_measured_leaves_plots_out_and_shows_dashes(tmp_path: Path) -> None:
    text = page(tmp_path, unmeasured_proof())
    shown = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b", shown)
    assert "Accuracy and latency" not in shown


def test_a_candidate_that_lost_everything_is_pinned_to_the_edge_and_named() -> None:
    points = [Point("good", "winner", 10, 0.0, -0.004, 0.004), Point("bad", "refused", 12, -0.4, -0.41, -0.39)]
    drawn = scatter(points, max_ms=20, max_drop=0.01, labels=("p50 ms", "change"))
    assert "bad -0.4</text>" in drawn
    assert 'class="arrow"' in drawn


def test_labels_of_crowded_points_do_not_cover_each_other() -> None:
    points = [Point(f"candidate-{index}", "accepted", 10 + 0.1 * index, 0.0, -0.01, 0.01) for index in range(6)]
    drawn = scatter(points, max_ms=None, max_drop=0.01, labels=("p50 ms", "change"))
    places = [
        (float(x), float(y))
        for x, y in re.findall(r'class="name" x="([\d.]+)" y="([\d.]+)" text-anchor="middle">candidate', drawn)
    ]
    assert len(places) == 6
    for index, (left, top) in enumerate(places):
        assert all(abs(left - x) > 60 or abs(top - y) >= 12 for x, y in places[index + 1 :])


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.21, 0.03), (0, 1e6), (0, 1e-6), (5, 5)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert len(marks) <= 8
    assert all(low - 1e-9 <= mark <= high + 1e-9 for mark in marks)


def test_an_empty_proof_is_still_a_page(tmp_path: Path) -> None:
    empty = detector_proof().model_copy(update={"candidates": (), "winner": "", "holds": False, "verdict": "nothing"})
    assert Page(page(tmp_path, empty)).open == []


def test_zero_figures_are_drawn(tmp_path: Path) -> None:
    free = candidate("onnx-fp32", p50_ms=0.0, size_mb=0.0, drop=0.0)
    proof = detector_proof().model_copy(
        update={"candidates": (free, CandidateProof.model_validate(free)), "winner": "x"}
    )
    assert "onnx-fp32" in page(tmp_path, proof)

"""Pictures in a report: as they were kept, with the boxes of their answers in the right places."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ferryman import api
from ferryman.core.recording import PayloadsSection, RecordsSection
from ferryman.monitor.report.gather import Asked, gather
from ferryman.monitor.store.keeper import RecordKeeper
from tests.monitor.report.making import DAY_S, NOW_S, record

pytest.importorskip("duckdb")

ANSWER = {
    "boxes": [[80, 40, 400, 200], [0, 0, 8, 8]],
    "scores": [0.9, 0.1],
    "classes": [2, 0],
    "labels": ["<b>car</b>", "x"],
}


def picture(width: int, height: int) -> bytes:
    written = io.BytesIO()
    Image.fromarray(np.full((height, width, 3), 128, np.uint8)).save(written, "JPEG", quality=90)
    return written.getvalue()


def kept(folder: Path, width: int, height: int, **section: Any) -> Asked:
    rules = RecordsSection(min_free_mb=0, payloads=PayloadsSection(**section))
    keeper = RecordKeeper(folder / "records", rules, clock=lambda: NOW_S - 60)
    columns = {"picture.aspect": [float(np.log2(width / height))], "picture.megapixels": [width * height / 1e6]}
    keeper.add([record(1, NOW_S - 60, id="one", columns=columns)])
    keeper.add_payload("one", "street", "2", "picture", picture(width, height), "low_confidence")
    keeper.add_payload("one", "street", "2", "answer", json.dumps(ANSWER).encode(), "low_confidence")
    keeper.close()
    return Asked(NOW_S - DAY_S, NOW_S)


def test_boxes_lie_in_the_pixels_of_the_picture_that_was_kept(tmp_path: Path) -> None:
    made = gather(tmp_path, kept(tmp_path, 800, 400, picture_side=200))
    [sample] = made.samples
    assert (sample.width, sample.height, sample.why) == (200, 100, "low_confidence")
    [box] = sample.boxes
    assert box == pytest.approx((20, 10, 100, 50), rel=0.01)
    assert sample.labels == ["<b>car</b> 0.90"]
    page = api.report_html(made)
    assert 'x="20.0" y="10.0" width="80.0" height="40.0"' in page
    assert "&lt;b&gt;car&lt;/b&gt; 0.90" in page
    assert "<b>car" not in page
    assert base64.b64encode(sample.jpeg).decode() in page


def test_a_picture_that_was_blurred_is_shown_blurred(tmp_path: Path) -> None:
    made = gather(tmp_path, kept(tmp_path, 300, 300, pictures="blurred"))
    [sample] = made.samples
    on_disk = next((tmp_path / "records" / "payloads").rglob("*.jpg")).read_bytes()
    assert sample.jpeg == on_disk


def test_a_large_picture_is_made_smaller_for_the_page(tmp_path: Path) -> None:
    [sample] = gather(tmp_path, kept(tmp_path, 2000, 1000, pictures="whole")).samples
    assert (sample.width, sample.height) == (480, 240)
    assert sample.boxes[0] == pytest.approx((19.2, 9.6, 96, 48), rel=0.02)


def test_boxes_are_only_told_where_the_size_that_was_sent_is_not_known(tmp_path: Path) -> None:
    asked = kept(tmp_path, 800, 400, picture_side=200)
    keeper = RecordKeeper(tmp_path / "records", RecordsSection(min_free_mb=0), clock=lambda: NOW_S - 30)
    keeper.add([record(2, NOW_S - 30, id="one")])  # the id came twice: neither record's size is believed
    keeper.close()
    [sample] = gather(tmp_path, asked).samples
    assert sample.boxes == []
    assert sample.told == "1 box of score 0.25 or more: <b>car</b> 0.90"


@pytest.mark.parametrize("content", [b"", b"no picture", picture(64, 64)[:200]])
def test_what_is_damaged_is_left_out(tmp_path: Path, content: bytes) -> None:
    asked = kept(tmp_path, 64, 64)
    next((tmp_path / "records" / "payloads").rglob("*.jpg")).write_bytes(content)
    made = gather(tmp_path, asked)
    assert list(made.samples) == []
    assert made.payloads == 2

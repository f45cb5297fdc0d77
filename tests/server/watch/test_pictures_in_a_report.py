"""From served pictures to a page: a detector's payloads, darkened ones, and what `ferryman report` draws of them."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.running import ferryman
from tests.package.demo import build_demo
from tests.server.running import Running, running, wait_until
from tests.server.watch.test_watch import ask, metric

pytest.importorskip("duckdb")

_PAYLOADS = """
[monitor]
cost = 1.0
[monitor.records.payloads]
rate = 1.0
pictures = "whole"
"""


def darker(picture: bytes) -> bytes:
    written = io.BytesIO()
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), np.float32) * 0.45
    Image.fromarray(pixels.astype(np.uint8)).save(written, "JPEG", quality=92)
    return written.getvalue()


def detect(server: Running, picture: bytes, name: str) -> None:
    headers = {"Content-Type": "image/jpeg", "X-Request-Id": name}
    assert server.ask("POST", "/v2/models/factory/infer", picture, headers)[0] == 200


@pytest.mark.slow
def test_a_report_draws_the_served_boxes_beside_the_drift(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    bundle = build_demo(tmp_path / "project", "onnx-fp32", golden=4, pictures=60, more=_PAYLOADS)
    usual = [path.read_bytes() for path in sorted(tmp_path.glob("project/**/evaluation/images/*.jpg"))]
    with running([bundle.path], admin_port=0, monitor=kept) as server:
        wait_until(lambda: ask(server, "/v1/monitor")[0] == 200)
        for number in range(40):
            detect(server, usual[number % len(usual)], f"usual-{number}")
        for number in range(80):
            detect(server, darker(usual[number % len(usual)]), f"dark-{number}")
        wait_until(lambda: metric(server, "ferryman_payloads_total") == 240)
        wait_until(lambda: metric(server, "ferryman_records_total") >= 120)
        server.stop()
    page = tmp_path / "report.html"
    assert ferryman("report", str(kept), "--since", "1h", "-o", str(page)).returncode == 0
    html = page.read_text(encoding="utf-8")
    pictures = re.findall(r'href="data:image/jpeg;base64,([^"]+)"', html)
    assert len(pictures) > 12
    assert all(Image.open(io.BytesIO(base64.b64decode(one))).size == (320, 320) for one in pictures)
    told = json.loads(ferryman("report", str(kept), "--since", "1h", "--json").stdout)
    served = {
        about["id"]: json.loads(path.with_suffix(".json").read_bytes())["answers"][0]
        for path in (kept / "records" / "payloads").rglob("*.about")
        if (about := json.loads(path.read_bytes()))["kind"] == "answer"
    }
    assert any(sample["boxes"] for sample in told["samples"])
    for sample in told["samples"]:
        answer = served[sample["id"]]
        boxes = [box for box, score in zip(answer["boxes"], answer["scores"], strict=True) if score >= 0.25]
        assert np.allclose(sample["boxes"], boxes, atol=0.5)
        for x1, y1, *_ in sample["boxes"]:
            assert f'class="edge" x="{x1:.1f}" y="{y1:.1f}"' in html
    [version] = told["versions"]
    [brightness] = [one for one in version["signals"] if one["name"] == "picture.brightness"]
    assert brightness["has_moved"]
    shown = [one for one in version["signals"] if one["examples_before"] and one["examples_after"]]
    assert shown
    assert all(one["id"].startswith("dark-") for signal in shown for one in signal["examples_after"])

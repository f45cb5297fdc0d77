"""Payloads of a real server: kept by each rule, redacted before they are written, and counted where they are not."""

import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image

from ferryman.bundle.write import write_bundle
from ferryman.monitor.store.payloads import Payload, payloads
from tests.bundle.making import bundle_colour
from tests.server.running import Running, running, wait_until
from tests.server.watch.making import bundle_watched, make_rows
from tests.server.watch.test_watch import ask, find_watch, metric, send


@contextmanager
def keeping(folder: Path, kept: Path, **rules: Any) -> Iterator[Running]:
    bundle = bundle_watched(folder / "bundle", monitor={"cost": 1.0, "records": {"payloads": rules}})
    with running([bundle.path], admin_port=0, monitor=kept) as server:
        wait_until(lambda: ask(server, "/v1/monitor")[0] == 200)
        yield server


def held(kept: Path) -> list[Payload]:
    return payloads(kept / "records")


def large(characters: int) -> dict[str, Any]:
    """Give a request that is refused, and kept."""
    return {"rows": [{"width": 1.0, "height": 2.0, "weight": 0.5, "note": "x" * characters}]}


def lost(server: Running, reason: str) -> float:
    lines = server.ask("GET", "/metrics")[1].decode().splitlines()
    named = [line for line in lines if line.startswith("ferryman_records_lost_total") and f'"{reason}"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in named)


def test_a_rate_keeps_rows_and_answers_redacted(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with keeping(tmp_path, kept, rate=1.0, hash=["width"], drop=["height"]) as server:
        send(server, [{"width": 1.25, "height": 77.5, "weight": 0.5}] * 3, each=1)
        wait_until(lambda: metric(server, "ferryman_payloads_total") == 6)
        server.stop()
    found = held(kept)
    assert {(one.kind, one.why, one.model) for one in found} == {("row", "rate", "table"), ("answer", "rate", "table")}
    assert len({one.id for one in found}) == 3 and all(one.id for one in found)
    [row, *_] = [json.loads(one.path.read_bytes())["rows"][0] for one in found if one.kind == "row"]
    assert row["weight"] == 0.5 and "height" not in row and len(row["width"]) == 32
    [answer, *_] = [json.loads(one.path.read_bytes())["answers"][0] for one in found if one.kind == "answer"]
    assert answer["label"] in ("light", "heavy")
    assert not any(b"77.5" in path.read_bytes() for path in (kept / "records" / "payloads").rglob("*.*"))


def test_tensors_of_each_transport_are_kept_redacted(tmp_path: Path) -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    client = pytest.importorskip("websockets.sync.client")
    kept = tmp_path / "kept"
    with keeping(tmp_path, kept, rate=1.0) as server:
        described = server.ask("GET", "/v2/models/table")[1]["inputs"]
        values = np.asarray([[1.25, 2.5, 0.5]], np.float32)
        [tensor] = [{"name": one["name"], "datatype": "FP32", "shape": [1, 3]} for one in described]
        request = {"id": "http", "inputs": [{**tensor, "data": values.tolist()}]}
        assert server.infer("table", request)[0] == 200
        with client.connect(f"ws://{server.address}/v2/models/table/stream", proxy=None) as stream:
            stream.send(json.dumps({**request, "id": "websocket"}))
            assert "outputs" in json.loads(stream.recv(timeout=10))
        asked = triton.InferInput(tensor["name"], [1, 3], "FP32")
        asked.set_data_from_numpy(values)
        with triton.InferenceServerClient(server.address) as grpc:
            grpc.infer("table", [asked], request_id="grpc")
        wait_until(lambda: metric(server, "ferryman_payloads_total") == 6)
        server.stop()
    for kind, about in (("tensors", "inputs"), ("answer", "outputs")):
        found = {one.id: json.loads(one.path.read_bytes()) for one in held(kept) if one.kind == kind}
        assert set(found) == {"http", "websocket", "grpc"}
        assert found["http"] == found["websocket"] == found["grpc"]
        [first, *_] = found["http"][about]
        assert set(first) == {"name", "datatype", "shape", "data"}
    assert json.loads(next(one.path for one in held(kept) if one.kind == "tensors").read_bytes())["inputs"] == [
        {**tensor, "data": [1.25, 2.5, 0.5]}
    ]


def test_unsure_answers_are_kept_and_sure_ones_are_not(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with keeping(tmp_path, kept, low_confidence=0.7) as server:
        send(server, make_rows(60, seed=2), each=1)
        wait_until(lambda: metric(server, "ferryman_records_total") >= 60)
        server.stop()
    answers = [json.loads(one.path.read_bytes())["answers"][0] for one in held(kept) if one.kind == "answer"]
    sure = [max(answer["probabilities"].values()) for answer in answers]
    assert 0 < len(sure) < 60 and max(sure) < 0.7
    assert {one.why for one in held(kept)} == {"low_confidence"}


def test_payloads_are_kept_while_inputs_drift(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with keeping(tmp_path, kept, drifted=True) as server:
        send(server, make_rows(50, seed=2), each=1)
        send(server, make_rows(900, seed=3, shift=2.5))
        wait_until(lambda: metric(server, "ferryman_drifted") == 1)
        assert metric(server, "ferryman_payloads_total") == 0
        send(server, make_rows(3, seed=4, shift=2.5), each=1)
        wait_until(lambda: metric(server, "ferryman_payloads_total") == 6)
        server.stop()
    assert {one.why for one in held(kept)} == {"drifted"}


def test_a_failed_request_is_kept_without_an_answer(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with keeping(tmp_path, kept, error=True) as server:
        send(server, make_rows(5, seed=2), each=1)
        assert server.infer("table", {"rows": [{"width": 1, "height": "tall", "weight": 1}]})[0] == 400
        wait_until(lambda: metric(server, "ferryman_payloads_total") == 1)
        server.stop()
    [one] = held(kept)
    assert (one.kind, one.why) == ("row", "error")
    assert json.loads(one.path.read_bytes())["rows"][0]["height"] == "tall"


def test_pictures_are_kept_small_and_without_their_metadata(tmp_path: Path) -> None:
    plain, kept = bundle_colour(tmp_path / "plain"), tmp_path / "kept"
    records = plain.deployment.monitor.records
    chosen = records.payloads.model_copy(update={"rate": 1.0, "picture_side": 64})
    monitor = plain.deployment.monitor.model_copy(update={"records": records.model_copy(update={"payloads": chosen})})
    bundle = write_bundle(
        tmp_path / "bundle",
        deployment=plain.deployment.model_copy(update={"monitor": monitor}),
        artifact=plain.artifact,
        proof=plain.proof,
        golden=plain.golden,
        tolerance=plain.tolerance,
        baseline={"scores": [0.5]},
        versions={},
    )
    exif, sent = Image.Exif(), io.BytesIO()
    exif[0x010E] = "taken at home"
    Image.new("RGB", (400, 200), (200, 30, 30)).save(sent, "JPEG", exif=exif)
    with running([bundle.path], admin_port=0, monitor=kept) as server:
        wait_until(lambda: ask(server, "/v1/monitor")[0] == 200)
        path = "/v2/models/" + bundle.manifest.name + "/infer"
        assert server.ask("POST", path, sent.getvalue(), {"Content-Type": "image/jpeg"})[0] == 200
        wait_until(lambda: metric(server, "ferryman_payloads_total") == 2)
        server.stop()
    [picture] = [one for one in held(kept) if one.kind == "picture"]
    content = picture.path.read_bytes()
    assert Image.open(io.BytesIO(content)).size == (64, 32) and b"taken at home" not in content
    [answer] = [one for one in held(kept) if one.kind == "answer"]
    assert (answer.id, answer.version) == (picture.id, picture.version)
    assert orjson.loads(answer.path.read_bytes())["answers"]


def test_the_bounds_of_a_day_hold_and_what_is_over_is_counted(tmp_path: Path) -> None:
    with keeping(tmp_path, tmp_path / "kept", rate=1.0, max_per_day=10) as server:
        send(server, make_rows(40, seed=2), each=1)
        wait_until(lambda: lost(server, "payload_day_full") == 70)
        assert metric(server, "ferryman_payloads_total") == 10
        server.stop()
    assert len(held(tmp_path / "kept")) == 10


def goes_on(server: Running) -> bool:
    """Ask once, and tell whether the watch has restarted and keeps payloads."""
    assert server.infer("table", {"rows": make_rows(1, seed=1)})[0] == 200
    return metric(server, "ferryman_watch_restarts_total") == 1 and metric(server, "ferryman_payloads_total") > 0


def test_a_watch_that_is_stopped_costs_payloads_and_no_answers(tmp_path: Path) -> None:
    with keeping(tmp_path, tmp_path / "kept", rate=1.0, max_mb=20) as server:
        watch = find_watch(server)
        os.kill(watch, signal.SIGSTOP)
        try:
            for _ in range(80):  # 80 MB, of which 64 may wait
                assert server.infer("table", large(1_000_000))[0] == 400
            assert server.infer("table", {"rows": make_rows(1, seed=1)})[0] == 200
            assert lost(server, "payload_queue_full") > 10
        finally:
            os.kill(watch, signal.SIGCONT)
        wait_until(lambda: metric(server, "ferryman_payloads_total") > 50)
        os.kill(find_watch(server), signal.SIGKILL)
        wait_until(lambda: goes_on(server))


def test_a_full_disk_costs_payloads_and_no_answers(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", kept], check=False, timeout=30)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        bundle = bundle_watched(
            tmp_path / "bundle", monitor={"cost": 1.0, "records": {"min_free_mb": 0, "payloads": {"rate": 1.0}}}
        )
        with running([bundle.path], admin_port=0, monitor=kept) as server:
            wait_until(lambda: ask(server, "/v1/monitor")[0] == 200)
            for _ in range(10):
                assert server.infer("table", large(200_000))[0] == 400
                assert server.infer("table", {"rows": make_rows(1, seed=1)})[0] == 200
            wait_until(lambda: lost(server, "payload_disk_full") > 0)
            assert all(one.path.stat().st_size > 0 for one in held(kept))
            server.stop()
    finally:
        subprocess.run(["umount", kept], check=True, timeout=30)

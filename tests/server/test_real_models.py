"""Real models on real pictures: what the server answers is what the library answers."""

from pathlib import Path

from ferryman.bundle.pack import pack
from ferryman.bundle.read import load_bundle
from ferryman.client.http import Client
from ferryman.core.task import Item
from tests.bundle.making import bundle_model
from tests.server.running import running
from tests.server.test_http_v2 import library_answers


def test_a_detector_served_from_a_packed_bundle_answers_as_the_library_does(shared_data: Path, tmp_path: Path) -> None:
    pictures: list[Item] = [*sorted((shared_data / "coco128_val").rglob("*.jpg"))[:6]]
    task = {
        "kind": "detect",
        "decoder": "yolox",
        "labels": (shared_data / "models" / "coco80.names").read_text().split("\n")[:80],
        "input": {"size": [416, 416], "fit": "letterbox", "anchor": "top-left", "pad": 114, "channels": "BGR"},
        "nms": {"iou": 0.65, "score": 0.3},
    }
    model = shared_data / "models" / "yolox_nano.onnx"
    bundle = bundle_model(tmp_path / "street", model, task, pictures[:2], name="street")
    packed = pack(bundle.path, tmp_path / "street.ferry")
    wanted = library_answers(bundle.path, pictures)
    assert sum(len(answer["boxes"]) for answer in wanted) > 6
    unpacked = load_bundle(packed, unpack_into=tmp_path / "cache")
    with running([unpacked.path], threads=1) as server, Client(server.url) as client:
        assert [client.infer_item("street", picture) for picture in pictures] == wanted

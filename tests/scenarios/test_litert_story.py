"""A quantized LiteRT file from the web: guessed, built, verified, asked and served, without a converter in sight."""

import json
from pathlib import Path

import pytest

from ferryman.client.http import Client
from tests.cli.running import ferryman
from tests.scenarios.serving import served

pytest.importorskip("ai_edge_litert", reason="NOT TESTED: the extra litert is not installed")


@pytest.mark.slow
def test_a_published_quantized_mobilenet_goes_all_the_way(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").symlink_to(shared_data / "imagenet200")
    labels = (shared_data / "models" / "imagenet_labels_1001.txt").read_text(encoding="utf-8")
    (tmp_path / "labels.txt").write_text(labels, encoding="utf-8")
    source = shared_data / "models" / "mobilenet_v2_1.0_224_quant.tflite"
    data = ["--evaluation", "pictures/*.jpg", "--labels", "pictures/labels.csv", "--target", "name"]
    started = ferryman("init", str(source), "--name", "mobilenet", *data, folder=tmp_path)
    assert "pixels go in as they are" in started.stderr
    with (tmp_path / "ferryman.toml").open("a", encoding="utf-8") as stream:
        stream.write('\n[build]\ncandidates = ["litert-int8"]\n')
    told = json.loads(ferryman("build", "--json", "--quiet", folder=tmp_path).stdout)
    assert told["holds"]
    figures = told["proof"]["source_figures"]
    assert figures["top1"] > 0.85, "a shifted class number or scaled pixels would show here"
    assert figures["top5"] > 0.95
    assert ferryman("verify", "dist/mobilenet", "--quiet", folder=tmp_path).returncode == 0
    picture = "pictures/n02391049_zebra.jpg"
    asked = json.loads(ferryman("infer", "dist/mobilenet", picture, "--json", folder=tmp_path).stdout)
    here = asked[0] if isinstance(asked, list) else asked
    with served(tmp_path, "dist/mobilenet") as url, Client(url) as client:
        there = client.infer_item("mobilenet", tmp_path / picture)
    assert there["labels"][0] == "zebra"
    assert "zebra" in json.dumps(here)

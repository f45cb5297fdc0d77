"""ferryman.toml: what is accepted, and what the errors say."""

import json
from pathlib import Path

import pytest

from ferryman.core.deployment import deployment_schema, load_project, parse_deployment
from ferryman.core.errors import ConfigError

GOOD = """
[model]
name = "street"
source = "yolox_nano.onnx"

[task]
kind = "detect"
decoder = "yolox"
labels = ["person", "car"]
input = { size = [416, 416], fit = "letterbox", anchor = "top-left", pad = 114, channels = "BGR", scale = 1.0 }
nms = { iou = 0.65, score = 0.01 }

[contract]
max_drop = 0.005
drift = { false_alarms = "1 per 30 days" }

[targets.line-3]
kind = "edge"
"""


def _load(folder: Path, text: str) -> str:
    (folder / "ferryman.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_project(folder)
    return f"{caught.value}"


def test_a_file_is_read_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "ferryman.toml").write_text(GOOD)
    project = load_project(tmp_path)
    assert project.folder == tmp_path.resolve()
    assert project.deployment.model.name == "street"
    assert project.deployment.contract.max_drop == 0.005
    assert project.deployment.targets["line-3"]["kind"] == "edge"


def test_a_deployment_survives_json_with_its_task(tmp_path: Path) -> None:
    (tmp_path / "ferryman.toml").write_text(GOOD)
    deployment = load_project(tmp_path).deployment
    again = parse_deployment(json.loads(deployment.model_dump_json()), origin="deployment.json")
    assert again == deployment


HOSTILE = [
    ("", ["'model' is missing", "'task' is missing"]),
    ("[model", ["not valid TOML"]),
    (GOOD.replace("max_drop", "max_dorp"), ["unknown key 'contract.max_dorp'", "did you mean 'max_drop'?"]),
    (GOOD.replace("[contract]", "[contrct]"), ["unknown key 'contrct'", "did you mean 'contract'?"]),
    (GOOD.replace('decoder = "yolox"', 'decodr = "yolox"'), ["unknown key 'task.decodr'", "'decoder'"]),
    (GOOD.replace("fit =", "fti ="), ["unknown key 'task.input.fti'", "did you mean 'fit'?"]),
    (GOOD.replace("0.005", '"much"'), ["'contract.max_drop' = 'much'"]),
    (GOOD.replace("0.005", "-1"), ["'contract.max_drop' = -1"]),
    (GOOD.replace("0.005", "nan"), ["'contract.max_drop' = nan"]),
    (GOOD.replace('kind = "detect"', 'kind = "detct"'), ["'detct'", "did you mean 'detect'?"]),
    (GOOD.replace('kind = "detect"', "kind = 3"), ["needs kind"]),
    (GOOD.replace('"street"', '"../street"'), ["'model.name' = '../street'"]),
    (GOOD.replace('"street"', '""'), ["'model.name' = ''"]),
    (GOOD.replace("1 per 30 days", "never"), ["'contract.drift.false_alarms' = 'never'"]),
    (GOOD.replace("[416, 416]", "[416]"), ["'task.input.size"]),
    (GOOD.replace("[416, 416]", "[0, -5]"), ["'task.input.size"]),
    (GOOD + "\n[build]\nthreads = -1\n", ["'build.threads' = -1"]),
]


@pytest.mark.parametrize(("text", "expected"), HOSTILE)
def test_a_mistake_is_named_with_its_file_key_and_value(tmp_path: Path, text: str, expected: list[str]) -> None:
    message = _load(tmp_path, text)
    assert str(tmp_path / "ferryman.toml") in message
    for part in expected:
        assert part in message


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    message = _load(tmp_path, GOOD.replace("max_drop", "max_dorp").replace("fit =", "fti ="))
    assert "max_dorp" in message
    assert "fti" in message


def test_a_missing_file_says_which_command_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path)
    assert "ferryman init" in caught.value.hint


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ferryman.toml").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ConfigError, match="can't be read"):
        load_project(tmp_path)


def test_the_schema_has_every_task_and_a_sentence_for_every_key() -> None:
    schema = deployment_schema()
    kinds = {task["properties"]["kind"]["const"] for task in schema["properties"]["task"]["oneOf"]}
    assert kinds == {"tensor", "tabular", "classify", "detect", "text-classify", "embed"}
    for definition in ("ModelSection", "Contract", "BuildSection", "DataSection"):
        for key, described in schema["$defs"][definition]["properties"].items():
            assert described.get("description"), f"{definition}.{key} has no description"

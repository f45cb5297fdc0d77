import json
from pathlib import Path

import pytest

from tests.bundle.making import bundle_colour
from tests.cli.running import ferryman


def test_schema_is_a_json_schema_of_the_file() -> None:
    answer = ferryman("schema", "--json")
    assert answer.returncode == 0
    assert "contract" in json.loads(answer.stdout)["properties"]


def test_config_names_the_cache_and_its_value(tmp_path: Path) -> None:
    answer = ferryman("config", "--json", FERRYMAN_CACHE=str(tmp_path))
    assert json.loads(answer.stdout)["FERRYMAN_CACHE"] == str(tmp_path)


def test_plugins_lists_each_with_kind_and_availability() -> None:
    listed = json.loads(ferryman("plugins", "--json").stdout)["plugins"]
    onnx = next(one for one in listed if (one["kind"], one["name"]) == ("runtimes", "onnx"))
    assert onnx["available"] is True
    assert onnx["package"] == "ferryman"
    table = ferryman("plugins").stdout
    assert table.splitlines()[0].split()[:3] == ["kind", "name", "available"]


def test_doctor_finds_a_sound_core_and_says_where_the_cache_is(tmp_path: Path) -> None:
    found = json.loads(ferryman("doctor", "--json", FERRYMAN_CACHE=str(tmp_path / "kept")).stdout)
    assert found["sound"] is True
    assert found["core"]["numpy"][0].isdigit()
    assert found["machine"]["cache"].startswith(str(tmp_path / "kept"))


def test_plan_without_a_project_says_how_to_make_one(tmp_path: Path) -> None:
    answer = ferryman("plan", folder=tmp_path)
    assert answer.returncode == 2
    assert "ferryman init" in answer.stderr


def test_infer_names_an_input_that_is_not_there(tmp_path: Path) -> None:
    bundle = bundle_colour(tmp_path / "colour")
    answer = ferryman("infer", str(bundle.path), "gone.jpg", folder=tmp_path)
    assert answer.returncode == 2
    assert "gone.jpg doesn't exist" in answer.stderr


@pytest.mark.toolchain("torch", "coreml")
def test_removing_a_toolchain_names_those_that_stand_on_it() -> None:
    [told] = json.loads(ferryman("toolchain", "remove", "torch", "--dry-run", "--json").stdout)["removed"]
    assert "coreml" in told["needed_by"]
    assert "coreml" in ferryman("toolchain", "remove", "torch", "--dry-run").stdout
    [told] = json.loads(ferryman("toolchain", "remove", "coreml", "--dry-run", "--json").stdout)["removed"]
    assert told["needed_by"] == []

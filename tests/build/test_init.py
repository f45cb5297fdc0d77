"""The first ferryman.toml: guessed, explained, valid, and never written over the user's own."""

import os
import pickle
import tomllib
from pathlib import Path

import numpy as np
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.linear_model import LogisticRegression

from ferryman import api
from ferryman.core.deployment import load_project
from ferryman.core.errors import ConfigError, SourceError
from ferryman.core.signature import TensorSpec
from tests.build.making import make_detector
from tests.bundle.making import make_affine, make_colour_model, save


def test_a_detectors_decoder_size_and_classes_are_guessed_with_reasons(tmp_path: Path) -> None:
    make_detector(tmp_path / "squares.onnx")
    (tmp_path / "classes.txt").write_text("red\ngreen\n", encoding="utf-8")
    guess = api.init("squares.onnx", folder=tmp_path)
    task = tomllib.loads(guess.text)["task"]
    assert (task["kind"], task["labels"], task["input"]["size"]) == ("detect", "classes.txt", [160, 160])
    assert any("[1, 6, 100]" in reason for reason in guess.reasons)
    assert any("colour order" in question for question in guess.questions)
    assert load_project(tmp_path).deployment.task.kind == "detect"


def test_each_reason_stands_as_a_comment_in_the_file(tmp_path: Path) -> None:
    make_colour_model(tmp_path)
    guess = api.init("colour.onnx", folder=tmp_path)
    assert all(f"# {reason}\n" in guess.path.read_text(encoding="utf-8") for reason in guess.reasons)


def test_data_that_the_user_knows_of_goes_into_the_file(tmp_path: Path) -> None:
    make_detector(tmp_path / "squares.onnx")
    api.init("squares.onnx", folder=tmp_path, calibration="c/*.png", evaluation="e/*.png", labels="e/*.txt")
    data = load_project(tmp_path).deployment.data
    assert data.calibration == "c/*.png"
    assert data.evaluation is not None
    assert (data.evaluation.items, data.evaluation.labels) == ("e/*.png", "e/*.txt")


def test_a_file_that_is_there_is_never_written_over_without_force(tmp_path: Path) -> None:
    make_affine(tmp_path)
    (tmp_path / "ferryman.toml").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="already there") as caught:
        api.init("affine.onnx", folder=tmp_path)
    assert "--force" in caught.value.hint
    assert (tmp_path / "ferryman.toml").read_text(encoding="utf-8") == "mine"
    api.init("affine.onnx", folder=tmp_path, force=True)
    assert load_project(tmp_path).deployment.model.name == "affine"


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    make_affine(tmp_path)
    guess = api.init("affine.onnx", folder=tmp_path, dry_run=True)
    assert tomllib.loads(guess.text)["task"] == {"kind": "tensor"}
    assert [path.name for path in tmp_path.iterdir()] == ["affine.onnx"]


@pytest.mark.parametrize("name", ['we"ird.onnx', "back\\slash.onnx", "tab\there.onnx", "ünï çödé.onnx", "-.onnx"])
def test_a_file_of_any_name_gives_valid_toml_and_a_valid_model_name(tmp_path: Path, name: str) -> None:
    make_affine(tmp_path).rename(tmp_path / name)
    api.init(name, folder=tmp_path)
    assert load_project(tmp_path).deployment.model.source == name


def test_a_name_that_can_not_be_served_is_refused(tmp_path: Path) -> None:
    make_affine(tmp_path)
    with pytest.raises(ConfigError, match="can't be served as 'a/b'"):
        api.init("affine.onnx", folder=tmp_path, name="a/b")
    assert not (tmp_path / "ferryman.toml").exists()


def test_a_model_that_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    make_affine(tmp_path)
    with pytest.raises(SourceError, match=r"afine\.onnx") as caught:
        api.init("afine.onnx", folder=tmp_path)
    assert "affine.onnx" in caught.value.hint
    assert not (tmp_path / "ferryman.toml").exists()


@pytest.mark.parametrize("source", ["affine.onnx", "../affine.onnx"])
def test_a_model_is_found_from_here_or_from_a_folder_that_is_made(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_affine(tmp_path)
    monkeypatch.chdir(tmp_path)
    folder = Path("projects")
    assert api.init(source, folder=folder, dry_run=True).artifact.format == "onnx"
    assert not folder.exists()
    api.init(source, folder=folder)
    assert load_project(folder).deployment.model.source == "../affine.onnx"


def test_nothing_is_left_in_a_folder_that_could_not_be_guessed(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"garbage")
    with pytest.raises(SourceError):
        api.init("model.onnx", folder=tmp_path / "project")
    assert not (tmp_path / "project").exists()


HOSTILE = 'sum\n[contract]\nmax_drop = 1.0\n"\x00\x1b[2J\r#\u2028'


def test_a_hostile_name_of_an_output_adds_no_key_to_the_file(tmp_path: Path) -> None:
    make_affine(tmp_path)
    plain = tomllib.loads(api.init("affine.onnx", folder=tmp_path, dry_run=True).text)
    node = helper.make_node("Identity", ["values"], [HOSTILE])
    port, output = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in ("values", HOSTILE)
    )
    save(tmp_path / "affine.onnx", [node], [port], [output])
    guess = api.init("affine.onnx", folder=tmp_path)
    assert any("max_drop = 1.0" in reason for reason in guess.reasons), "the name is told, in a comment"
    assert tomllib.loads(guess.path.read_text(encoding="utf-8")) == plain
    assert load_project(tmp_path).deployment.contract.max_drop == 0.01


def test_a_file_name_that_no_toml_can_hold_is_a_clear_error(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.onnx")
    make_affine(tmp_path).rename(tmp_path / name)
    with pytest.raises(ConfigError, match=r"caf\\udce9\.onnx' can't be written into a ferryman\.toml"):
        api.init(name, folder=tmp_path)
    make_affine(tmp_path)
    with pytest.raises(ConfigError, match=r"no valid ferryman\.toml can be written"):
        api.init("affine.onnx", folder=tmp_path, calibration=name)
    assert not (tmp_path / "ferryman.toml").exists()


@pytest.fixture
def table_home(tmp_path: Path) -> Path:
    """Save a model of rows that knows no names, and a table of its two columns and a truth."""
    rows = np.random.default_rng(0).random((20, 2))
    kinds = (rows[:, 0] > 0.5).astype(int)
    skops.io.dump(LogisticRegression().fit(rows, kinds), tmp_path / "rows.skops")
    lines = [f"{one},{kind},{two}" for (one, two), kind in zip(rows.tolist(), kinds.tolist(), strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["width,heavy,height", *lines]) + "\n", encoding="utf-8")
    return tmp_path


def test_the_columns_and_the_target_of_a_table_are_written(table_home: Path) -> None:
    guess = api.init("rows.skops", folder=table_home, evaluation="rows.csv", target="heavy")
    deployment = load_project(table_home).deployment
    assert deployment.task.model_dump()["columns"] == ("width", "height")
    assert deployment.data.evaluation is not None and deployment.data.evaluation.target == "heavy"
    assert any("order of training" in question for question in guess.questions)
    assert guess.next_step == f"ferryman build {table_home}"


def test_a_target_that_the_table_lacks_is_refused(table_home: Path) -> None:
    with pytest.raises(ConfigError, match="no column 'weight'") as caught:
        api.init("rows.skops", folder=table_home, evaluation="rows.csv", target="weight")
    assert "width, heavy, height" in caught.value.hint
    with pytest.raises(ConfigError, match="no table with column 'heavy'"):
        api.init("rows.skops", folder=table_home, target="heavy")
    assert not (table_home / "ferryman.toml").exists()


def test_without_data_the_next_step_is_to_add_some_of_the_tasks_own_kind(table_home: Path) -> None:
    guess = api.init("rows.skops", folder=table_home)
    assert guess.next_step.startswith("add [data]")
    assert '# calibration = "rows.csv"' in guess.text and ".jpg" not in guess.text
    make_affine(table_home)
    assert '"inputs.npz"' in api.init("affine.onnx", folder=table_home, dry_run=True).text


def test_weights_take_their_factory_and_inputs_from_options(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    lines = ["import torch", "def make():", "    return torch.nn.Linear(4, 2)"]
    (tmp_path / "init_net.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    torch.save(torch.nn.Linear(4, 2).state_dict(), tmp_path / "net.pt")
    with pytest.raises(ConfigError, match="factory is missing") as caught:
        api.init("net.pt", folder=tmp_path)
    assert "--factory" in caught.value.hint
    with pytest.raises(ConfigError, match="inputs is missing") as caught:
        api.init("net.pt", folder=tmp_path, factory="init_net:make")
    assert "--input" in caught.value.hint
    api.init("net.pt", folder=tmp_path, factory="init_net:make", inputs=["in:0:float32:batchx4"])
    model = load_project(tmp_path).deployment.model
    assert model.factory == "init_net:make"
    assert model.inputs == (TensorSpec(name="in:0", dtype="float32", shape=("batch", 4)),)


@pytest.mark.parametrize("text", ["", "images", "images:float32", ":float32:1x3", "a:float32:1xx3", "a:float32:1x-3"])
def test_an_input_that_is_not_said_in_full_is_refused(tmp_path: Path, text: str) -> None:
    make_affine(tmp_path)
    with pytest.raises(ConfigError, match="does not say what an input is"):
        api.init("affine.onnx", folder=tmp_path, inputs=[text])


def test_a_pickle_is_opened_only_with_trust_and_the_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(LogisticRegression().fit([[0.0], [1.0]], [0, 1])))
    with pytest.raises(SourceError, match="is a pickle") as caught:
        api.init("model.pkl", folder=tmp_path)
    assert "give --trust" in caught.value.hint and "[model]" not in caught.value.hint
    api.init("model.pkl", folder=tmp_path, trust=True)
    assert load_project(tmp_path).deployment.model.trust is True

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError, StepError
from ferryman.core.plugins import find, runtime_for
from ferryman.core.signature import Signature, Tensors
from ferryman.core.step import StepContext
from ferryman.runtimes.keras import KerasRuntime
from ferryman.sources._keras_config import check_code, read_config
from ferryman.sources.detect import open_source
from ferryman.sources.keras import KerasSource
from ferryman.tasks.guess import guess_task

KERAS = pytest.mark.toolchain("tensorflow")


def opened(path: Path, workspace: Path, *, trust: bool = False) -> Artifact:
    return open_source(path, ModelSection(name="model", source=str(path), trust=trust), workspace)


def answer(artifact: Artifact, inputs: Tensors) -> dict[str, Any]:  # arrays
    session = runtime_for(artifact.format).require()().load(artifact, threads=1)
    try:
        return dict(session.infer(inputs))
    finally:
        session.close()


def imported(artifact: Artifact, folder: Path, *steps: str) -> Artifact:
    for name in steps:
        artifact = find("steps", name).require()().run(artifact, StepContext(folder / name))
    return artifact


def write_keras(path: Path, *layers: dict[str, Any]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        config = {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": layers}}
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n")
    return path


def layer(kind: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": {"name": kind.lower(), **config}, "registered_name": None}


def test_it_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    assert KerasSource().recognises(write_keras(tmp_path / "model.zip"))
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert not KerasSource().recognises(tmp_path / "other.keras")
    with pytest.raises(SourceError, match="looks like a zip archive with config"):
        KerasSource().open(tmp_path / "other.keras", ModelSection(name="m", source="m"), tmp_path)


def test_a_lambda_anywhere_is_code_and_needs_trust(tmp_path: Path) -> None:
    inner = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer("Lambda", name="scale")]}}
    path = write_keras(tmp_path / "model.keras", layer("TimeDistributed", layer=inner))
    with pytest.raises(SourceError, match="layer 'scale' is a Lambda") as caught:
        opened(path, tmp_path)
    assert "trust = true" in caught.value.hint
    assert "model.export" in caught.value.hint


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"module": None, "class_name": "Swish", "config": {}, "registered_name": "mine>Swish"}, "mine>Swish"),
        (layer("popen", module="os"), "os.popen"),
        (layer("Dense", module="kerasx.layers"), "kerasx.layers.Dense"),
        ({"module": "builtins", "class_name": "function", "config": "gelu2"}, "function gelu2"),
    ],
)
def test_what_is_not_of_keras_is_named_and_never_loaded(part: dict[str, Any], words: str) -> None:
    config = {"class_name": "Sequential", "module": "keras", "config": {"layers": [layer("Dense", activation=part)]}}
    with pytest.raises(SourceError, match=words):
        check_code(config, Path("model.keras"), trust=True)


def test_the_runtime_too_refuses_code_that_is_not_trusted(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "model.keras", layer("Lambda", name="scale"))
    with pytest.raises(SourceError, match="layer 'scale' is a Lambda"):
        KerasRuntime().load(Artifact(path, "keras", Signature(inputs=(), outputs=()), ""), threads=1)


def test_how_a_model_inside_was_trained_is_read_for_code_and_how_the_outermost_was_is_not() -> None:
    trained = {"compile_config": {"loss": layer("Lambda", name="loss")}}
    inner = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer("Dense")]}}
    outer = {"module": "keras", "class_name": "Sequential", "config": {"layers": [inner]}}
    check_code({**outer, **trained}, Path("model.keras"), trust=False)
    outer["config"] = {"layers": [{**inner, **trained}]}
    with pytest.raises(SourceError, match="'loss' is a Lambda"):
        check_code(outer, Path("model.keras"), trust=False)


def test_a_description_larger_than_any_models_is_not_parsed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * (17 << 20))
    with pytest.raises(SourceError, match="larger than any model's"):
        read_config(tmp_path / "model.keras")


def test_a_damaged_description_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, text in (("metadata.json", "{}"), ("config.json", "[" * 10_000), ("model.weights.h5", "")):
            archive.writestr(name, text)
    with pytest.raises(SourceError, match="is damaged"):
        opened(tmp_path / "model.keras", tmp_path)


@KERAS
def test_weights_that_are_damaged_are_refused_with_kerass_own_words(tmp_path: Path) -> None:
    path = write_keras(tmp_path / "model.keras", layer("Dense", units=3))
    with pytest.raises(SourceError, match="Keras can't load this model") as caught:
        opened(path, tmp_path)
    assert caught.value.hint


@KERAS
def test_layers_with_code_are_refused_and_a_lambda_runs_where_the_user_trusts_it(
    tensorflow_models: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="'mine' is of a kind of your own"):
        opened(tensorflow_models / "own.keras", tmp_path, trust=True)
    path = tensorflow_models / "lambda.keras"
    with pytest.raises(SourceError, match="layer 'doubled' is a Lambda"):
        opened(path, tmp_path)
    trusted = opened(path, tmp_path, trust=True)
    (name,) = (spec.name for spec in trusted.signature.inputs)
    assert answer(trusted, {name: np.ones((2, 4), np.float32)})["doubled"].max() == 2


@KERAS
def test_a_trained_classifier_answers_alike_as_keras_onnx_and_litert(
    keras_digits: dict[str, Any], tmp_path: Path
) -> None:
    source = opened(keras_digits["folder"] / "digits.keras", tmp_path)
    saved = imported(source, tmp_path, "keras-to-savedmodel")
    pictures, truth = {"images": keras_digits["test"]}, keras_digits["truth"]
    wanted = answer(source, pictures)["digit"]
    assert keras_digits["accuracy"] > 0.9
    assert np.mean(wanted.argmax(axis=1) == truth) == pytest.approx(keras_digits["accuracy"], abs=1e-3)
    for made in (saved, *(imported(saved, tmp_path, f"savedmodel-to-{name}") for name in ("onnx", "litert"))):
        given = answer(made, pictures)["digit"]
        assert np.abs(given - wanted).max() < 1e-5, made.format
        assert np.mean(given.argmax(axis=1) == truth) == np.mean(wanted.argmax(axis=1) == truth)


@KERAS
def test_the_task_knows_that_the_model_scales_pixels_itself(keras_digits: dict[str, Any], tmp_path: Path) -> None:
    source = opened(keras_digits["folder"] / "digits.keras", tmp_path)
    guess = guess_task(source, folder=tmp_path)
    assert guess.spec_toml["kind"] == "classify"
    assert guess.spec_toml["activation"] == "none"
    assert guess.spec_toml["input"]["layout"] == "NHWC"
    assert guess.spec_toml["input"]["scale"] == 1.0


@KERAS
def test_inputs_and_outputs_keep_their_names_in_dictionaries(tensorflow_models: Path, tmp_path: Path) -> None:
    source = opened(tensorflow_models / "two.keras", tmp_path)
    assert {spec.name for spec in source.signature.inputs} == {"a", "b"}
    assert [spec.name for spec in source.signature.outputs] == ["first_score", "total"]
    generator = np.random.default_rng(0)
    inputs = {name: generator.random((3, 4), np.float32) for name in ("a", "b")}
    wanted = answer(source, inputs)
    given = answer(imported(source, tmp_path, "keras-to-savedmodel", "savedmodel-to-onnx"), inputs)
    for name, values in wanted.items():
        np.testing.assert_allclose(given[name], values, atol=1e-5)


@KERAS
def test_a_recurrent_model_is_saved_with_equal_bytes_goes_to_onnx_and_litert_names_the_operator_it_lacks(
    tensorflow_models: Path, tmp_path: Path
) -> None:
    source = opened(tensorflow_models / "gru.keras", tmp_path)
    saved = imported(source, tmp_path / "one", "keras-to-savedmodel")
    again = imported(source, tmp_path / "two", "keras-to-savedmodel")
    assert saved.digest == again.digest
    made = imported(saved, tmp_path / "one", "savedmodel-to-onnx")
    inputs = {"seq": np.random.default_rng(0).random((2, 7, 12), np.float32)}
    wanted = answer(source, inputs)
    for name, values in answer(made, inputs).items():
        np.testing.assert_allclose(values, wanted[name], atol=1e-5)
    with pytest.raises(StepError, match="TensorListReserve") as caught:
        imported(saved, tmp_path / "lite", "savedmodel-to-litert")
    assert caught.value.hint
    assert not list((tmp_path / "lite" / "savedmodel-to-litert").iterdir())

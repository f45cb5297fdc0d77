import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.sources.test_keras_source import answer, imported, opened

from ferryman.build.plan import make_plan
from ferryman.core.artifact import Artifact
from ferryman.core.deployment import BuildSection, ModelSection
from ferryman.core.errors import SourceError, StepError
from ferryman.core.signature import Signature
from ferryman.runtimes.savedmodel import SavedModelRuntime
from ferryman.sources._savedmodel_graph import _classes
from ferryman.sources.savedmodel import SavedModelSource
from ferryman.tasks.guess import guess_task

TENSORFLOW = pytest.mark.toolchain("tensorflow")
FLOAT, TEXT = 1, 7


def write_saved(
    folder: Path, *signatures: str, shape: tuple[int, ...] | None = (-1, 8, 8, 3), op: str = "Relu"
) -> Path:
    """Write a SavedModel's description: a function of one operator, called by each signature."""
    saved = _classes()["ferryman.SavedModel"]()
    meta = saved.meta_graphs.add()
    meta.info.tags.append("serve")
    call = meta.graph.node.add(name="call", op="StatefulPartitionedCall", input=["images"])
    call.attr.add(key="f").value.func.name = "inner"
    function = meta.graph.library.function.add()
    function.signature.name = "inner"
    function.signature.output_arg.add(name="scores")
    function.node.add(name="last", op=op, input=["x"])
    function.node.add(name="same", op="Identity", input=["last:output:0"])
    function.ret.add(key="scores", value="same:output:0")
    for name in signatures:
        definition = meta.signatures.add(key=name).value
        for ports, key, tensor in ((definition.inputs, "images", "images:0"), (definition.outputs, "out", "call:0")):
            port = ports.add(key=key).value
            port.name, port.dtype = tensor, FLOAT
            port.shape.unknown_rank = shape is None
            for size in shape or ():
                port.shape.dim.add(size=size)
    folder.mkdir(exist_ok=True)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


def test_a_folder_is_read_without_tensorflow(tmp_path: Path) -> None:
    folder = write_saved(tmp_path / "model", "serve", "serving_default", "__saved_model_init_op", op="Softmax")
    assert SavedModelSource().recognises(folder)
    artifact = opened(folder, tmp_path)
    assert artifact.format == "tf-savedmodel"
    assert artifact.signature.inputs[0].shape == ("batch", 8, 8, 3)
    assert artifact.loader == {"signature": "serving_default", "last_operators": {"out": "Softmax"}}


def test_several_signatures_are_named_with_the_setting_that_chooses(tmp_path: Path) -> None:
    folder = write_saved(tmp_path / "model", "encode", "decode")
    with pytest.raises(SourceError, match=r"several signatures .* decode, encode") as caught:
        opened(folder, tmp_path)
    assert "[model] signature" in caught.value.hint
    section = ModelSection(name="m", source="m", signature="encode")
    assert SavedModelSource().open(folder, section, tmp_path).loader["signature"] == "encode"
    with pytest.raises(SourceError, match="no signature 'classify'") as caught:
        SavedModelSource().open(folder, section.model_copy(update={"signature": "classify"}), tmp_path)
    assert "decode, encode" in caught.value.hint


@pytest.mark.parametrize(
    ("signatures", "shape", "words"),
    [((), (-1, 3), "has no signature"), (("serving_default",), None, "has no known shape")],
)
def test_what_does_not_say_what_goes_in_is_refused(
    signatures: tuple[str, ...], shape: tuple[int, ...] | None, words: str, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=words) as caught:
        opened(write_saved(tmp_path / "model", *signatures, shape=shape), tmp_path)
    assert caught.value.hint


def test_operators_that_reach_out_need_trust(tmp_path: Path) -> None:
    folder = write_saved(tmp_path / "model", "serving_default", op="WriteFile")
    with pytest.raises(SourceError, match=r"read or write files.*WriteFile"):
        opened(folder, tmp_path)
    assert opened(folder, tmp_path, trust=True).format == "tf-savedmodel"


@pytest.mark.parametrize(
    "op",
    ["PrintV2", "EagerPyFunc", "ImmutableConst", "CacheDatasetV2", "SnapshotDatasetV2", "SqlDataset", "LMDBReader",
     "ExperimentalCSVDataset", "RecordInput", "CreateSummaryFileWriter", "DebugIdentityV3", "SaveV2", "RestoreV2",
     "InitializeTableFromTextFileV2", "WholeFileReaderV2", "TFRecordDataset", "MergeV2Checkpoints"],
)  # fmt: skip
def test_the_runtime_too_refuses_operators_that_reach_out(op: str, tmp_path: Path) -> None:
    folder = write_saved(tmp_path / "model", "serving_default", op=op)
    with pytest.raises(SourceError, match=op) as caught:
        SavedModelRuntime().load(Artifact(folder, "tf-savedmodel", Signature(inputs=(), outputs=()), ""), threads=1)
    assert "--trust" in caught.value.hint


@pytest.mark.parametrize("op", ["ReadVariableOp", "Print", "ScalarSummary", "TensorArrayReadV3", "DisableCopyOnRead"])
def test_operators_that_sound_alike_need_no_trust(op: str, tmp_path: Path) -> None:
    assert opened(write_saved(tmp_path / "model", "serving_default", op=op), tmp_path).format == "tf-savedmodel"


def _with_saver(folder: Path, *, restores: str = "", function: str = "", started: str = "", branch: str = "") -> Path:
    """Add to the described model what every SavedModel has: a function that saves, called by the saver alone."""
    file = write_saved(folder, "serving_default") / "saved_model.pb"
    saved = _classes()["ferryman.SavedModel"].FromString(file.read_bytes())
    meta = saved.meta_graphs[0]
    saves = meta.graph.library.function.add()
    saves.signature.name = "traced_save"
    saves.node.add(name="write", op="SaveV2")
    node = meta.graph.node.add(name="saver", op="StatefulPartitionedCall")
    node.attr.add(key="f").value.func.name = "traced_save"
    meta.saver.restores = restores
    if function:
        meta.objects.functions.add(key=function)
    if started:
        meta.collections.add(key="saved_model_main_op").value.nodes.value.append(started)
    if branch:
        case = meta.graph.library.function[0].node.add(name="case", op="Case")
        case.attr.add(key="branches").value.list.func.add(name=branch)
    file.write_bytes(saved.SerializeToString())
    return folder


def test_checkpoints_are_for_the_saver_alone(tmp_path: Path) -> None:
    assert opened(_with_saver(tmp_path / "usual", function="inner"), tmp_path).format == "tf-savedmodel"
    for number, call in enumerate(
        ({"restores": "saver"}, {"function": "traced_save"}, {"started": "saver"}, {"branch": "traced_save"})
    ):
        with pytest.raises(SourceError, match="SaveV2"):
            opened(_with_saver(tmp_path / f"odd{number}", **call), tmp_path)


def test_a_second_graph_in_the_file_is_read_as_well(tmp_path: Path) -> None:
    good, bad = (write_saved(tmp_path / op, "serving_default", op=op) / "saved_model.pb" for op in ("Relu", "PrintV2"))
    good.write_bytes(good.read_bytes() + bad.read_bytes())
    with pytest.raises(SourceError, match="PrintV2"):
        opened(good.parent, tmp_path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_damaged_description_is_refused(share: float, tmp_path: Path) -> None:
    folder = write_saved(tmp_path / "model", "serving_default")
    whole = (folder / "saved_model.pb").read_bytes()
    (folder / "saved_model.pb").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(SourceError, match="damaged or cut short"):
        opened(folder, tmp_path)


def test_a_folder_copied_without_its_variables_is_refused_as_it_is_opened(tmp_path: Path) -> None:
    folder = write_saved(tmp_path / "model", "serving_default")
    saved = _classes()["ferryman.SavedModel"].FromString((folder / "saved_model.pb").read_bytes())
    saved.meta_graphs[0].graph.node.add(name="weights", op="VarHandleOp")
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    with pytest.raises(SourceError, match=r"variables/ is missing from .*model") as caught:
        opened(folder, tmp_path)
    assert caught.value.hint == "copy the whole folder"
    (folder / "variables").mkdir()
    (folder / "variables" / "variables.index").touch()
    (folder / "variables" / "variables.data-00000-of-00002").touch()
    with pytest.raises(SourceError, match=r"variables\.data-"):
        opened(folder, tmp_path)
    (folder / "variables" / "variables.data-00001-of-00002").touch()
    assert opened(folder, tmp_path).format == "tf-savedmodel"


@TENSORFLOW
def test_variables_that_were_cut_short_are_the_user_s_file(keras_digits: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(keras_digits["folder"] / "digits", folder)
    [shard] = (folder / "variables").glob("variables.data-*")
    shard.write_bytes(shard.read_bytes()[:500])
    with pytest.raises(SourceError, match=r"cut: .*can't load this SavedModel") as caught:
        answer(opened(folder, tmp_path), {})
    assert "copy the whole folder" in caught.value.hint


@pytest.mark.parametrize(
    ("op", "number", "scale"),
    [("Mul", 1 / 255, 1.0), ("RealDiv", 127.5, 1.0), ("Sub", 123.7, 1.0), ("Sub", 0.5, 1 / 255), ("Conv2D", 0.1, None)],
)
def test_a_graph_that_scales_its_pictures_says_how_they_are_to_come(
    op: str, number: float, scale: float | None, tmp_path: Path
) -> None:
    folder = write_saved(tmp_path / "model", "serving_default", op=op)
    saved = _classes()["ferryman.SavedModel"].FromString((folder / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph
    function, call = graph.library.function[0], graph.node[0]
    function.signature.input_arg.add(name="x")
    function.signature.input_arg.add(name="captured")
    function.node[0].input.append("captured")
    call.input.append("constant")
    tensor = graph.node.add(name="constant", op="Const").attr.add(key="value").value.tensor
    tensor.dtype = FLOAT
    tensor.floats.append(number)
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    told = opened(folder, tmp_path).loader.get("picture")
    assert told == (None if scale is None else {"scale": scale})


@TENSORFLOW
def test_an_exported_model_that_scales_inside_gets_no_mean_and_std(
    keras_digits: dict[str, Any], tmp_path: Path
) -> None:
    guess = guess_task(opened(keras_digits["folder"] / "digits", tmp_path), folder=tmp_path)
    assert guess.spec_toml["input"]["scale"] == 1.0
    assert "mean" not in guess.spec_toml["input"]


def test_what_is_trained_elsewhere_is_imported_unasked_and_other_toolchains_are_not() -> None:
    plan = {one.name: one for one in make_plan("keras", BuildSection(), calibration=64).candidates}
    assert plan["onnx-fp32"].steps == ("keras-to-savedmodel", "savedmodel-to-onnx")
    assert plan["litert-fp32"].steps == ("keras-to-savedmodel", "savedmodel-to-litert")
    assert "onnx-int8" in plan
    assert not any(name.startswith(("tfjs", "ncnn", "executorch")) for name in plan)


def test_an_onnx_model_still_goes_to_litert_by_way_of_torch() -> None:
    plan = {one.name: one for one in make_plan("onnx", BuildSection(formats=("litert",)), calibration=64).candidates}
    assert plan["litert-fp32"].steps == ("onnx-to-torch", "litert")


@TENSORFLOW
def test_an_exported_classifier_answers_alike_in_every_batch(keras_digits: dict[str, Any], tmp_path: Path) -> None:
    source = opened(keras_digits["folder"] / "digits", tmp_path)
    assert source.loader["last_operators"] == {"output_0": "Softmax"}
    made = [imported(source, tmp_path, f"savedmodel-to-{name}") for name in ("onnx", "litert")]
    for batch in (1, 64):
        pictures = {"images": keras_digits["test"][:batch]}
        wanted = answer(source, pictures)["output_0"]
        for artifact in made:
            assert artifact.signature == source.signature
            assert np.abs(answer(artifact, pictures)["output_0"] - wanted).max() < 1e-5


@TENSORFLOW
def test_the_signature_that_was_chosen_is_what_is_converted_and_measured(
    tensorflow_models: Path, tmp_path: Path
) -> None:
    section = ModelSection(name="m", source="m", signature="half")
    source = SavedModelSource().open(tensorflow_models / "several", section, tmp_path)
    rows = {"rows": np.full((2, 3), 8, np.float32)}
    assert answer(source, rows)["half"].max() == 4
    for step in ("savedmodel-to-onnx", "savedmodel-to-litert"):
        assert answer(imported(source, tmp_path, step), rows)["half"].max() == 4


@TENSORFLOW
@pytest.mark.parametrize("step", ["savedmodel-to-onnx", "savedmodel-to-litert"])
def test_an_operator_without_a_counterpart_is_named_and_nothing_is_left(
    step: str, tensorflow_models: Path, tmp_path: Path
) -> None:
    source = opened(tensorflow_models / "odd", tmp_path)
    with pytest.raises(StepError, match="Svd") as caught:
        imported(source, tmp_path, step)
    assert "export the model" in caught.value.hint
    assert not list((tmp_path / step).iterdir())


@TENSORFLOW
def test_a_model_that_writes_files_is_refused_before_it_runs(tensorflow_models: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="WriteFile"):
        opened(tensorflow_models / "writer", tmp_path)
    assert not (tensorflow_models / "written").exists()

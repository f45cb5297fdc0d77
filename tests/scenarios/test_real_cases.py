"""Real models on real data: what Ferryman promises of them, but for speed (that is `make bench`)."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from benchmarks.cases.every import CASES
from benchmarks.cases.project import Settings, start_project, vary, write_settings
from benchmarks.cases.tables import TABLE_CASES, TableCase
from numpy.typing import NDArray

from ferryman import api
from ferryman.core.proof import CandidateProof
from ferryman.core.signature import Array, Tensors
from ferryman.core.task import Item, Task, bind_task
from tests.server.running import Running, running

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gevent's and tritonclient's own, at import
    import tritonclient.http as triton

pytestmark = [pytest.mark.slow, pytest.mark.shared, pytest.mark.timeout(1200)]

NEVER_TOO_SLOW: dict[str, Any] = {"prefer": "size"}  # the choice must not hang on what else this machine does


@dataclass
class Yard:
    """Build each case once for all tests that ask for it, with the candidates that they need."""

    folder: Path
    settings: dict[str, Settings] = field(default_factory=dict)
    built: dict[tuple[str, ...], api.Built] = field(default_factory=dict)

    def build(self, name: str, *candidates: str) -> api.Built:
        """Build a case with some candidates; those share the case's cache."""
        if (name, *candidates) not in self.built:
            self.built[name, *candidates] = self.build_again(name, *candidates)
        return self.built[name, *candidates]

    def build_again(self, name: str, *candidates: str) -> api.Built:
        """Build, whatever was built before."""
        folder = self.folder / name
        if name not in self.settings:
            self.settings[name] = start_project(CASES[name], folder)
        build = {"candidates": list(candidates)}
        write_settings(folder, vary(self.settings[name], build=build, contract=NEVER_TOO_SLOW))
        return api.build(folder, output=folder / "dist" / "-".join(candidates))


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Yard:
    return Yard(tmp_path_factory.mktemp("cases"))


def candidate_of(built: api.Built, name: str) -> CandidateProof:
    return next(candidate for candidate in built.proof.candidates if candidate.name == name)


def task_of(bundle: api.Bundle) -> Task:
    return bind_task(bundle.deployment.task, bundle.artifact.signature)


def test_the_detector_of_80_classes_is_read_right(yard: Yard) -> None:
    proof = yard.build("yolox-nano", "onnx-fp32", "onnx-int8").proof
    assert proof.samples == 128
    assert proof.source_value == pytest.approx(0.339, abs=0.005)


def test_its_naive_int8_is_refused_and_the_stage_that_diverges_is_named(yard: Yard) -> None:
    quantized = candidate_of(yard.build("yolox-nano", "onnx-fp32", "onnx-int8"), "onnx-int8")
    naive = quantized.attempts[0]
    assert not naive.holds
    assert naive.figures["max_drop"] > 0.05
    assert quantized.divergence is not None
    assert quantized.divergence.node and quantized.divergence.sqnr_db < quantized.divergence.inputs_sqnr_db


def test_a_repair_is_found_that_keeps_half_a_point(yard: Yard) -> None:
    built = yard.build("yolox-nano", "onnx-fp32", "onnx-int8")
    quantized = candidate_of(built, "onnx-int8")
    assert quantized.status == "repaired"
    assert quantized.accuracy is not None and quantized.accuracy.drop <= 0.005
    assert quantized.agreement["score_shift"] <= 0.05
    assert built.proof.winner == "onnx-int8", "asked for size, INT8 is what it gets"
    assert built.bundle.artifact.size_bytes < 0.5 * 3.66e6


def test_the_circuit_board_detector_keeps_its_precision_in_int8(yard: Yard) -> None:
    built = yard.build("deeppcb-nano", "onnx-fp32", "openvino-int8")
    assert built.proof.samples == 500
    assert built.proof.source_figures["map50"] == pytest.approx(0.716, abs=0.005)
    quantized = candidate_of(built, "openvino-int8")
    assert quantized.status in ("accepted", "repaired")
    assert quantized.accuracy is not None and quantized.accuracy.drop <= 0.005


def test_squeezenet_keeps_its_accuracy_in_int8(yard: Yard) -> None:
    built = yard.build("squeezenet", "onnx-fp32", "openvino-int8")
    assert built.proof.source_value == pytest.approx(0.675, abs=0.001)
    quantized = candidate_of(built, "openvino-int8")
    assert quantized.status in ("accepted", "repaired")
    assert quantized.accuracy is not None and quantized.accuracy.drop <= 0.01


@pytest.mark.parametrize(
    ("name", "quantized"),
    [("yolox-nano", "onnx-int8"), ("deeppcb-nano", "openvino-int8"), ("squeezenet", "openvino-int8")],
)
def test_a_second_build_computes_nothing(yard: Yard, name: str, quantized: str) -> None:
    first = yard.build(name, "onnx-fp32", quantized)
    second = yard.build_again(name, "onnx-fp32", quantized)
    assert second.ran == 0
    assert second.seconds < 10  # under 3 on a machine that does nothing else: `make bench`
    assert second.bundle.manifest.digest == first.bundle.manifest.digest
    verdicts = [
        [(candidate.name, candidate.status) for candidate in built.proof.candidates] for built in (first, second)
    ]
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("case", TABLE_CASES, ids=lambda case: case.name)
def test_a_table_model_gives_its_librarys_labels_and_probabilities(yard: Yard, case: TableCase) -> None:
    built = yard.build(case.name, "onnx-fp32")
    model, table = case.fit()
    rows: list[Item] = [dict(zip(table.columns, map(float, row), strict=True)) for row in table.rows]
    answers = api.infer(built.bundle.path, rows)
    assert len(answers) == len(table.rows) == built.proof.samples
    labels = np.array([int(answer["label"]) for answer in answers])
    np.testing.assert_array_equal(labels, np.asarray(model.predict(table.rows)).ravel())
    shares = np.array([list(answer["probabilities"].values()) for answer in answers])
    np.testing.assert_allclose(shares, model.predict_proba(table.rows), rtol=0, atol=1e-5)


@pytest.mark.parametrize("candidate", ["onnx-fp32", "openvino-fp32"])
@pytest.mark.parametrize("name", ["torch-factory", "torch-pt2"])
def test_a_torch_model_gives_the_modules_answers_at_any_batch(yard: Yard, name: str, candidate: str) -> None:
    bundle = yard.build(name, candidate).bundle
    for batch in (1, 7):
        images = np.random.default_rng(batch).uniform(0, 255, (batch, 3, 64, 64)).astype(np.float32)
        (answer,) = api.infer(bundle.path, [{"images": images}])
        (output,) = answer["outputs"].values()
        wanted = ask_torch(yard.folder / name, {"images": images})["logits"]
        error = np.abs(np.asarray(output["data"]) - wanted).max() / np.abs(wanted).max()
        assert output["shape"] == [batch, 10]
        assert error <= 1e-4


def test_the_linear_layer_of_a_torch_export_can_be_quantized_dynamically(yard: Yard) -> None:
    quantized = candidate_of(yard.build("torch-pt2", "onnx-fp32", "onnx-int8-dynamic"), "onnx-int8-dynamic")
    assert quantized.attempts[0].error == ""
    assert quantized.parity is not None and max(quantized.parity.max_rel.values()) < 0.05


def ask_torch(folder: Path, inputs: Tensors) -> dict[str, Array]:
    import torch
    from benchmarks.cases.nets import make_classifier
    from safetensors.torch import load_file

    module = make_classifier()
    module.load_state_dict(load_file(folder / "classifier.safetensors"))
    with torch.no_grad():
        return {"logits": module.eval()(torch.from_numpy(inputs["images"])).numpy()}


@pytest.fixture(scope="module")
def fleet(yard: Yard) -> dict[str, api.Bundle]:
    names = ("yolox-nano", "squeezenet", "xgboost-elec", "torch-factory")
    bundles = [yard.build(name, "onnx-fp32").bundle for name in names]
    bundles.append(yard.build("deeppcb-nano", "onnx-fp32", "openvino-int8").bundle)
    return {bundle.manifest.name: bundle for bundle in bundles}


@pytest.fixture(scope="module")
def server(fleet: dict[str, api.Bundle]) -> Iterator[Running]:
    with running([bundle.path for bundle in fleet.values()]) as one:
        yield one


def ask(server: Running, model: str, inputs: Tensors) -> dict[str, Array]:
    client = triton.InferenceServerClient(server.address)
    sent = []
    for name, array in inputs.items():
        sent.append(triton.InferInput(name, list(array.shape), "FP32"))
        sent[-1].set_data_from_numpy(array)
    result = client.infer(model, sent)
    answer = {output["name"]: result.as_numpy(output["name"]) for output in result.get_response()["outputs"]}
    client.close()
    return answer


def check(server: Running, bundle: api.Bundle, items: list[Item], library: Any) -> None:  # library: Tensors -> tensors
    task = task_of(bundle)
    for item in items:
        batch = task.preprocess([item])
        served = task.postprocess(ask(server, bundle.manifest.name, batch.inputs), batch)
        wanted = task.postprocess(library(batch.inputs), batch)
        assert task.agreement(wanted, served).beyond(bundle.tolerance) == {}


def ask_onnx_runtime(path: Path, inputs: Tensors) -> dict[str, Array]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def ask_openvino(path: Path, inputs: Tensors) -> dict[str, Array]:
    import openvino

    file = path if path.is_file() else next(path.rglob("*.xml"))
    compiled = openvino.Core().compile_model(file, "CPU")
    answered = compiled(dict(inputs))
    return {output.any_name: answered[output] for output in compiled.outputs}


def some_pictures(folder: Path, pattern: str) -> list[Item]:
    return list(sorted(folder.glob(pattern))[:3])


def test_the_served_detector_answers_as_onnxruntime(
    server: Running, fleet: dict[str, api.Bundle], shared_data: Path
) -> None:
    pictures = some_pictures(shared_data, "coco128_val/images/*.jpg")
    model = shared_data / "models" / "yolox_nano.onnx"
    check(server, fleet["yolox-nano"], pictures, lambda inputs: ask_onnx_runtime(model, inputs))


def test_the_served_int8_detector_answers_as_openvino(
    server: Running, fleet: dict[str, api.Bundle], shared_data: Path
) -> None:
    bundle = fleet["deeppcb-nano"]
    assert bundle.artifact.format == "openvino"
    pictures = some_pictures(shared_data, "deeppcb/test/images/*.png")
    check(server, bundle, pictures, lambda inputs: ask_openvino(bundle.artifact.path, inputs))


def test_the_served_classifier_answers_as_onnxruntime(
    server: Running, fleet: dict[str, api.Bundle], shared_data: Path
) -> None:
    model = shared_data / "models" / "squeezenet_v1.1.onnx"
    pictures = some_pictures(shared_data, "imagenet200/*.jpg")
    check(server, fleet["squeezenet"], pictures, lambda inputs: ask_onnx_runtime(model, inputs))


def test_the_served_torch_model_answers_as_torch(server: Running, fleet: dict[str, api.Bundle], yard: Yard) -> None:
    bundle = fleet["torch-factory"]
    (output,) = bundle.artifact.signature.outputs
    images: NDArray[np.float32] = np.random.default_rng(3).uniform(0, 255, (3, 3, 64, 64)).astype(np.float32)
    check(
        server,
        bundle,
        [{"images": image} for image in images],
        lambda inputs: {output.name: ask_torch(yard.folder / "torch-factory", inputs)["logits"]},
    )


def test_the_served_table_model_answers_as_xgboost(server: Running, fleet: dict[str, api.Bundle]) -> None:
    case = next(case for case in TABLE_CASES if case.name == "xgboost-elec")
    model, table = case.fit()
    rows = table.rows[::4000]
    served = ask(server, case.name, {"features": rows})
    np.testing.assert_array_equal(served["label"], model.predict(rows))
    shares = served["probabilities"].astype(np.float64)
    np.testing.assert_allclose(shares, model.predict_proba(rows), rtol=0, atol=1e-5)

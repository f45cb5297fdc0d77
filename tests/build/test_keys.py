"""A build after one input changed: the new one is seen, whatever the cache holds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from ferryman import api
from ferryman.build.cache import Cache
from ferryman.build.run import open_workshop
from ferryman.build.workshop import Workshop
from ferryman.core.deployment import load_project
from ferryman.core.plugins import find
from ferryman.core.progress import silent
from ferryman.core.toolchain import toolchains

PLAIN = """
[model]
name = "plain"
source = "{source}"
{more}
[task]
kind = "tensor"

[build]
candidates = ["onnx-fp32"]
"""


def _write_linear(path: Path, weights: NDArray[np.float32]) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", weights.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", weights.shape[1]])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location="linear.data", size_threshold=0)


def _answer(folder: Path, values: NDArray[np.float32], name: str = "x") -> NDArray[np.float64]:
    (answer,) = api.infer(api.build(folder).bundle.path, [{name: values}])
    (output,) = answer["outputs"].values()
    return np.array(output["data"])


def test_new_weights_in_external_data_are_a_new_model(tmp_path: Path) -> None:
    (tmp_path / "ferryman.toml").write_text(PLAIN.format(source="linear.onnx", more=""))
    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    values = np.ones((1, 3), np.float32)
    _write_linear(tmp_path / "linear.onnx", weights)
    graph_bytes = (tmp_path / "linear.onnx").read_bytes()
    first = _answer(tmp_path, values)
    (tmp_path / "linear.data").unlink()
    _write_linear(tmp_path / "linear.onnx", 7 * weights)
    assert (tmp_path / "linear.onnx").read_bytes() == graph_bytes
    assert np.allclose(_answer(tmp_path, values), 7 * first)


FACTORY_TOML = 'factory = "net_of_keys:make"\ninputs = [{ name = "x", dtype = "float32", shape = ["batch", 4] }]\n'
FACTORY = """
from torch import nn

from factor_of_keys import FACTOR


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x) * FACTOR


def make():
    return Net()
"""


@pytest.mark.slow
def test_an_edit_of_a_module_that_the_factory_imports_is_seen_in_the_same_process(tmp_path: Path) -> None:
    (tmp_path / "ferryman.toml").write_text(PLAIN.format(source="net.safetensors", more=FACTORY_TOML))
    (tmp_path / "net_of_keys.py").write_text(FACTORY)
    (tmp_path / "factor_of_keys.py").write_text("FACTOR = 1.0\n")
    torch.manual_seed(1)
    linear = torch.nn.Linear(4, 2)
    save_file(
        {"linear.weight": linear.weight.detach(), "linear.bias": linear.bias.detach()}, tmp_path / "net.safetensors"
    )
    values = np.ones((1, 4), np.float32)
    first = _answer(tmp_path, values)
    (tmp_path / "factor_of_keys.py").write_text("FACTOR = 50.0  # edited\n")
    assert np.allclose(_answer(tmp_path, values), 50 * first, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_other_inputs_of_a_torchscript_model_are_another_model(tmp_path: Path) -> None:
    with torch.no_grad():
        script = torch.jit.trace(torch.nn.Linear(4, 2), torch.zeros(1, 4))
    script.save(str(tmp_path / "net.pt"))
    more = 'inputs = [{{ name = "x", dtype = "float32", shape = [{batch}, 4] }}]\n'
    for batch, wanted in (("1", 1), ('"batch"', "batch")):
        (tmp_path / "ferryman.toml").write_text(PLAIN.format(source="net.pt", more=more.format(batch=batch)))
        (spec,) = api.build(tmp_path).bundle.artifact.signature.inputs
        assert spec.shape[0] == wanted


@pytest.mark.slow
def test_columns_in_another_order_are_matched_by_the_names_of_training(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    from sklearn.linear_model import LogisticRegression
    from skops.io import dump

    rng = np.random.default_rng(0)
    table = pandas.DataFrame(rng.normal(size=(60, 2)), columns=["length", "weight"])
    truth = (table["length"] > 0).astype(int)
    dump(LogisticRegression().fit(table, truth), tmp_path / "model.skops")
    swapped = table[["weight", "length"]].assign(kind=truth)
    swapped.to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "ferryman.toml").write_text(
        '[model]\nname = "rows"\nsource = "model.skops"\n[task]\nkind = "tabular"\n'
        '[data]\nevaluation = { items = "rows.csv", target = "kind" }\n[build]\ncandidates = ["onnx-fp32"]\n'
    )
    built = api.build(tmp_path)
    assert built.proof.source_value is not None
    assert built.proof.source_value > 0.9


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    (tmp_path / "ferryman.toml").write_text(PLAIN.format(source="linear.onnx", more=""))
    _write_linear(tmp_path / "linear.onnx", np.ones((3, 2), np.float32))
    return open_workshop(load_project(tmp_path), Cache(tmp_path / "cache"), silent)


def test_another_toolchain_makes_another_artifact_and_runs_it_otherwise(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = replace(workshop.source, format="ncnn")

    def keys() -> list[object]:
        return [workshop.step_key(find("steps", "ncnn").cls(), workshop.source), workshop.run_by(exported)]

    before, of_onnx = keys(), workshop.run_by(workshop.source)
    assert keys() == before
    ncnn = toolchains()["ncnn"]
    monkeypatch.setitem(toolchains(), "ncnn", replace(ncnn, python=(*ncnn.python, "another==1.0")))
    assert all(now != then for now, then in zip(keys(), before, strict=True))
    assert workshop.run_by(workshop.source) == of_onnx


def test_two_signatures_of_one_folder_are_two_models(workshop: Workshop) -> None:
    keys = []
    for name in ("one", "two"):
        source = replace(workshop.source, format="tf-savedmodel", loader={"signature": name})
        keys.append(replace(workshop, source=source)._examination_key(source))
    assert keys[0] != keys[1]


def test_machine_code_for_this_processor_is_not_taken_for_another(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [find("steps", "aotinductor").cls(march=march) for march in ("native", "x86-64-v3")]
    native, portable = (workshop.step_key(step, workshop.source) for step in steps)
    monkeypatch.setattr("ferryman.build.workshop.describe_processor", lambda: ("this one", "avx2"))
    assert workshop.step_key(steps[0], workshop.source) != native
    assert workshop.step_key(steps[1], workshop.source) == portable

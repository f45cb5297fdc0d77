"""A build after one input changed: the new one is seen, whatever the cache holds."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from ferryman import api

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

"""A torch module from a factory and its weights, through the functions of ferryman.api: no labels, plain tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ferryman import api

FACTORY = """
from torch import nn


def make():
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
"""
DEPLOYMENT = """
[model]
name = "mixer"
source = "mixer.safetensors"
factory = "mixer_of_the_test:make"
inputs = [{ name = "values", dtype = "float32", shape = ["batch", 6] }]

[task]
kind = "tensor"

[build]
candidates = ["onnx-fp32"]
"""


@pytest.mark.slow
def test_a_factorys_model_is_bundled_and_answers_as_torch_does_at_any_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    (tmp_path / "mixer_of_the_test.py").write_text(FACTORY, encoding="utf-8")
    (tmp_path / "ferryman.toml").write_text(DEPLOYMENT, encoding="utf-8")
    namespace: dict[str, object] = {}
    exec(FACTORY, namespace)
    module = namespace["make"]().eval()  # type: ignore[operator]  # what exec made has no type
    save_file(module.state_dict(), tmp_path / "mixer.safetensors")
    built = api.build(tmp_path)
    assert built.holds
    assert "NOT MEASURED: metric drop" in built.proof.verdict
    for batch in (1, 7):
        values = np.random.default_rng(batch).normal(size=(batch, 6)).astype(np.float32)
        (answer,) = api.infer(built.bundle.path, [{"values": values}])
        (output,) = answer["outputs"].values()
        with torch.no_grad():
            wanted = module(torch.from_numpy(values)).numpy()
        assert np.abs(np.array(output["data"]) - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.slow
def test_weights_of_another_module_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "mixer_of_the_test.py").write_text(FACTORY.replace("16", "8"), encoding="utf-8")
    (tmp_path / "ferryman.toml").write_text(DEPLOYMENT, encoding="utf-8")
    save_file({"0.weight": torch.zeros(16, 6)}, tmp_path / "mixer.safetensors")
    with pytest.raises(api.FerrymanError) as caught:
        api.build(tmp_path)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert not (tmp_path / "dist").exists()

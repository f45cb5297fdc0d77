"""Torch's own models (weights with a factory, programs of other shapes) through the torch formats."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import StepError
from ferryman.core.step import StepContext
from ferryman.export.torch_program import WeightsToTorchExport
from ferryman.export.torchscript import ToTorchScript
from ferryman.sources.torch import ExportedProgramSource, WeightsSource
from tests.export.test_torch_program import answer, distance

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU())
        self.mix = nn.MultiheadAttention(8, 2, batch_first=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        tokens = tokens + self.mix(tokens, tokens, tokens, need_weights=False)[0]
        left, right = torch.chunk(self.drop(tokens), 2, dim=1)
        features = torch.cat([left, right.flip(1)], 1).mean(1)
        return {"scores": self.head(features).softmax(-1), "features": features}


def make():
    torch.manual_seed(0)
    return Net()
"""


@pytest.fixture
def source(tmp_path: Path) -> Artifact:
    (tmp_path / "ferryman.toml").touch()
    (tmp_path / "small_net.py").write_text(NET, encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "small_net"}  # what the code defines
    exec(NET, namespace)
    net = namespace["make"]()
    net.train()
    for _ in range(3):  # batch norm gets statistics that matter
        net(torch.randn(4, 3, 16, 16) * 3 + 1)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    section = ModelSection.model_validate(
        {
            "name": "net",
            "source": "net.pt",
            "factory": "small_net:make",
            "inputs": [{"name": "images", "dtype": "float32", "shape": ["batch", 3, 16, 16]}],
        }
    )
    return WeightsSource().open(tmp_path / "net.pt", section, tmp_path)


def test_weights_with_a_factory_go_through_every_torch_format(source: Artifact, tmp_path: Path) -> None:
    program = WeightsToTorchExport().run(source, StepContext(tmp_path / "program"))
    assert program.made_by == ("torch-weights-to-torch",)
    assert program.signature == source.signature
    assert distance(source, program) < 1e-6
    reopened = ExportedProgramSource().open(program.path, ModelSection(name="net", source="model.pt2"), tmp_path)
    assert reopened.signature == source.signature
    module = ToTorchScript().run(program, StepContext(tmp_path / "script"))
    assert list(answer(module, {"images": np.zeros((2, 3, 16, 16), np.float32)})) == ["scores", "features"]
    assert distance(source, module) < 1e-6


def test_equal_weights_make_equal_bytes(source: Artifact, tmp_path: Path) -> None:
    digests = {WeightsToTorchExport().run(source, StepContext(tmp_path / name)).digest for name in ("one", "two")}
    assert len(digests) == 1


class Named(torch.nn.Module):  # type: ignore[misc]  # torch's types are skipped by mypy
    """Take one input by position and one by name, of a size that varies, and a constant of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.arange(4.0)

    def forward(self, left: torch.Tensor, *, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = left.shape[0]
        total = (left * self.scale - right).reshape(rows * 2, -1)
        return total, torch.full((rows, 2), float("inf")).masked_fill(left[:, :2] > 0, -1.0)


def _saved(module: torch.nn.Module, path: Path, *inputs: Any, **named: Any) -> Artifact:  # torch tensors
    batch = torch.export.Dim("batch")
    shapes = {name: {0: batch} for name in ("left", *named)} if named else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, inputs, named, dynamic_shapes=shapes), path)
    return ExportedProgramSource().open(path, ModelSection(name="net", source=path.name), path.parent)


def test_sizes_constants_and_named_inputs_have_a_way_to_torchscript(tmp_path: Path) -> None:
    source = _saved(Named().eval(), tmp_path / "named.pt2", torch.randn(2, 4), right=torch.randn(2, 4))
    module = ToTorchScript().run(source, StepContext(tmp_path / "script"))
    assert distance(source, module) == 0


def test_control_flow_has_no_way_to_torchscript_and_is_named(tmp_path: Path) -> None:
    class Chooses(torch.nn.Module):  # type: ignore[misc]  # torch's types are skipped by mypy
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return torch.cond(rows.sum() > 0, lambda value: value + 1, lambda value: value - 1, (rows,))

    source = _saved(Chooses(), tmp_path / "chooses.pt2", torch.randn(2, 4))
    with pytest.raises(StepError, match="calls cond, which TorchScript does not have") as caught:
        ToTorchScript().run(source, StepContext(tmp_path / "script"))
    assert "another format" in caught.value.hint
    assert not (tmp_path / "script").exists()

"""What the tests of the formats for phones share: small real models, and programs that are killed or have no space."""

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import StepError
from ferryman.core.plugins import find, runtime_for
from ferryman.core.progress import silent
from ferryman.core.signature import Array, Tensors
from ferryman.core.step import StepContext
from tests.optimize.making import artifact_of

SIZE = 32
WATCHED = Path(__file__).with_name("program_watch.py")


def picture(seed: int, batch: int = 1) -> Tensors:
    return {"images": np.random.default_rng(seed).random((batch, 3, SIZE, SIZE), dtype=np.float32)}


def torch_net(*, add: Any = None, width: int = 16) -> Any:  # torch.nn.Module
    """Give a classifier with what phones' nets have: depthwise, SiLU, hard swish, a residual, a softmax."""
    import torch
    from torch import nn

    class Net(nn.Module):  # type: ignore[misc]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.SiLU())
            self.deep = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, groups=width), nn.Hardswish())
            self.head = nn.Linear(width, 5)

        def forward(self, images: Any) -> Any:
            kept = self.stem(images)
            pooled = (kept + self.deep(kept)).mean((2, 3))
            return torch.softmax(self.head(pooled if add is None else add(pooled)), 1)

    torch.manual_seed(0)
    return Net().eval()


def torch_program(folder: Path, **how: Any) -> Artifact:
    """Save the net as an exported program with a free batch, and open it as a user's file is."""
    import torch

    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(torch_net(**how), (torch.zeros(2, 3, SIZE, SIZE),), dynamic_shapes=({0: batch},))
    path = folder / "model.pt2"
    torch.export.save(program, path)
    artifact: Artifact = (
        find("sources", "torch-export").cls().open(path, ModelSection(name="model", source=str(path)), folder)
    )
    return artifact


def onnx_graph(folder: Path, nodes: list[Any], constants: dict[str, Any], shape: tuple[int | str, ...]) -> Artifact:
    """Write a graph from "images" to "answer"."""
    import onnx
    from onnx import helper, numpy_helper

    wanted = [helper.make_tensor_value_info("answer", onnx.TensorProto.FLOAT, None)]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, shape)],
        wanted,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = folder / "graph.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return artifact_of(path)


def answer(artifact: Artifact, inputs: Tensors) -> dict[str, Array]:
    session = runtime_for(artifact.format).require()().load(artifact, threads=1)
    try:
        found: dict[str, Array] = session.infer(inputs)
        return found
    finally:
        session.close()


def furthest(left: dict[str, Array], right: dict[str, Array]) -> float:
    """Give the largest difference by the largest value."""
    assert list(left) == list(right)
    return max(
        float(np.abs(_wide(left[name]) - _wide(right[name])).max() / np.abs(_wide(right[name])).max()) for name in left
    )


def _wide(value: Array) -> Any:  # float64
    return value.astype(np.float64)


@dataclass
class Killer:
    """Listen to a step, and kill its program at its first news."""

    program: str
    killed: int = 0

    def wait(self) -> None:
        """Kill the program as soon as there is one."""
        deadline = time.monotonic() + 60
        while not self.killed and time.monotonic() < deadline:
            self("waiting")

    def __call__(self, stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
        for pid in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]:
            try:
                words = (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")
                parent = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == os.getpid() and any(word.endswith(self.program.encode()) for word in words):
                os.kill(pid, signal.SIGKILL)
                self.killed += 1


def check_killed(
    step: Any, source: Artifact, workspace: Path, calibration: list[Tensors], *, at_start: bool = False
) -> None:
    """Kill the converter while it works: an error of ours, and nothing half-written.

    `at_start` is for one that is done before its news can be answered.
    """
    killer = Killer(f"programs/{step.toolchain}.py")
    if at_start:
        threading.Thread(target=killer.wait, daemon=True).start()
    with pytest.raises(StepError, match=f"{step.toolchain} crashed: its process was killed by SIGKILL"):
        step.run(source, StepContext(workspace, calibration, progress=silent if at_start else killer))
    assert killer.killed
    assert not list(workspace.iterdir())


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Let this process, and those that it starts, write no larger files: as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def check_no_space(step: Any, source: Artifact, workspace: Path, calibration: list[Tensors]) -> None:
    """Have no space for the whole model: an error of ours, and nothing half-written."""
    with files_of_at_most(60_000), pytest.raises(StepError):
        step.run(source, StepContext(workspace, calibration))
    assert not [path for path in workspace.iterdir() if path.name.startswith(("model", "partial"))]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: digest_file(path) for path in folder.rglob("*") if path.is_file()}

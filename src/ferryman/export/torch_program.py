"""Make torch's exported programs (.pt2): of ONNX models, and of weights with the factory of their module."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.factory import load_factory
from ferryman.core.signature import Signature
from ferryman.core.step import StepContext

Module = Any  # torch.nn.Module: torch isn't imported at module level


@dataclass(frozen=True)
class OnnxToTorch:
    """Convert an ONNX model to an exported program of torch, operator by operator, with the same sizes that vary."""

    name: ClassVar[str] = "onnx-to-torch"
    accepts: ClassVar[frozenset[str]] = frozenset({"onnx"})
    produces: ClassVar[str] = "torch-export"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("torch", "onnx")
    extra: ClassVar[str] = "torch"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the program; raises StepError that names the operator and node for which torch has no way."""

        def make() -> Module:
            from ferryman.export._torch.graph import read_graph
            from ferryman.export._torch.module import OPS, OnnxModule

            outputs = [spec.name for spec in source.signature.outputs]
            graph = read_graph(source.path, outputs, frozenset(OPS), step=self.name)
            return OnnxModule(graph, source.signature, step=self.name)

        return _write(make, source, context, step=self.name)


@dataclass(frozen=True)
class WeightsToTorchExport:
    """Trace the module that a factory makes, with its weights, to an exported program of torch."""

    name: ClassVar[str] = "torch-weights-to-torch"
    accepts: ClassVar[frozenset[str]] = frozenset({"torch-weights"})
    produces: ClassVar[str] = "torch-export"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("torch", "safetensors")
    extra: ClassVar[str] = "torch"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Write the program; raises StepError where the module can't be traced, or fixes a size that is to vary."""
        return _write(lambda: _made_by_factory(source), source, context, step=self.name)


def _write(make: Callable[[], Module], source: Artifact, context: StepContext, *, step: str) -> Artifact:
    import torch

    from ferryman.export._torch import program

    context.progress(step, note=source.path.name)
    with program.failures_told(step, "torch can't run the model"):
        module = make().eval()
        if seal := getattr(module, "seal", None):
            module(*(torch.from_numpy(array) for array in program.example_inputs(source.signature)))
            seal()
    path = context.workspace / "model.pt2"
    program.save(program.export(module, source.signature, step=step), path)
    return replace(
        source,
        path=path,
        format="torch-export",
        signature=Signature(inputs=source.signature.inputs, outputs=source.signature.outputs),
        digest=digest_file(path),
        made_by=(*source.made_by, step),
        loader={},
    )


def _made_by_factory(source: Artifact) -> Module:
    """Make the module as the source did when it was opened: what is wrong with file or factory was told there."""
    import torch
    from safetensors.torch import load_file

    module = load_factory(source.loader["factory"], Path(source.loader["folder"]))()
    if source.loader["weights"] == "safetensors":
        state = load_file(source.path)
    else:
        state = torch.load(source.path, map_location="cpu", weights_only=True)
        state = next((state[key] for key in ("state_dict", "model_state_dict") if key in state), state)
    module.load_state_dict(state)
    return module

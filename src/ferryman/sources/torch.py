"""Open trained torch models (exported programs, TorchScript, weights with a factory) and import them to ONNX."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import ConfigError, SourceError
from ferryman.core.factory import digest_factory, factory_folder
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.step import StepContext
from ferryman.sources._content import (
    is_torch_legacy_pickle,
    is_ultralytics,
    looks_like,
    safetensors_header_bytes,
    zip_names,
)
from ferryman.sources._onnx_graph import write_model
from ferryman.sources._torch_export import export_program, export_torchscript, export_weights
from ferryman.sources._torch_load import load_module, load_program, load_torchscript, load_weights, read_state
from ferryman.sources._torch_program import program_signature
from ferryman.sources._torch_shapes import probe_signature

_INPUTS_EXAMPLE = 'inputs = [{ name = "images", dtype = "float32", shape = ["batch", 3, 224, 224] }]'


def _is_torchscript(names: list[str]) -> bool:
    parts = {name.partition("/")[2] for name in names}
    return "constants.pkl" in parts and any(part.startswith("code/") for part in parts)


def _is_program(names: list[str]) -> bool:
    parts = {name.partition("/")[2] or name for name in names}
    return bool(parts & {"models/model.json", "serialized_exported_program.json"}) or any(
        part.startswith("models/") and part.endswith(".json") for part in parts
    )


def _require_zip(path: Path, what: str) -> None:
    if not zip_names(path):
        raise SourceError(f"{path} is not {what}: it looks like {looks_like(path)}", hint="save the model again")


def _required_inputs(model: ModelSection, what: str) -> tuple[TensorSpec, ...]:
    if not model.inputs:
        raise ConfigError(
            f"{what} does not say what its inputs are: [model] inputs is missing", hint=f"add {_INPUTS_EXAMPLE}"
        )
    return model.inputs


class ExportedProgramSource:
    """Open a .pt2 file of torch.export.save."""

    name: ClassVar[str] = "torch-export"
    suffixes: ClassVar[tuple[str, ...]] = (".pt2",)
    needs: ClassVar[tuple[str, ...]] = ("torch", "onnxscript")
    extra: ClassVar[str] = "torch"

    def recognises(self, path: Path) -> bool:
        """Tell whether this is a zip with the description of an exported program."""
        return _is_program(zip_names(path))

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Read the signature from the program itself; [model] inputs is not needed."""
        _require_zip(path, "an exported program (.pt2)")
        signature = program_signature(load_program(path))
        return Artifact(path, self.name, signature, digest_file(path))


class TorchScriptSource:
    """Open a TorchScript file of torch.jit.save."""

    name: ClassVar[str] = "torchscript"
    suffixes: ClassVar[tuple[str, ...]] = (".pt", ".ts", ".torchscript", ".pth")
    needs: ClassVar[tuple[str, ...]] = ("torch", "onnxscript")
    extra: ClassVar[str] = "torch"

    def recognises(self, path: Path) -> bool:
        """Tell whether this is a zip with TorchScript code and constants."""
        return _is_torchscript(zip_names(path))

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Call the module on example inputs to see its outputs; raises ConfigError without [model] inputs."""
        _require_zip(path, "a TorchScript module")
        inputs = _required_inputs(model, f"the TorchScript module {path}")
        signature = probe_signature(load_torchscript(path), inputs)
        return Artifact(path, self.name, signature, digest_file(path))


class WeightsSource:
    """Open .safetensors or state-dict weights, with the factory function that makes their module."""

    name: ClassVar[str] = "torch-weights"
    suffixes: ClassVar[tuple[str, ...]] = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
    needs: ClassVar[tuple[str, ...]] = ("torch", "onnxscript", "safetensors")
    extra: ClassVar[str] = "torch"

    def recognises(self, path: Path) -> bool:
        """Tell whether this is a safetensors file or what torch.save writes; neither TorchScript nor Ultralytics."""
        if safetensors_header_bytes(path) is not None or is_torch_legacy_pickle(path):
            return True
        names = zip_names(path)
        is_saved = any(name.endswith("/data.pkl") for name in names) and not _is_torchscript(names)
        return is_saved and not is_ultralytics(path)

    def open(self, path: Path, model: ModelSection, workspace: Path) -> Artifact:
        """Make the module, load the weights and call it on example inputs; nothing in the file is run.

        The artifact's digest covers the weights, the factory's module file and the inputs.
        """
        if model.factory is None:
            read_state(path)  # raises for a file that holds something else
            raise ConfigError(
                f"{path} holds weights only: [model] factory is missing",
                hint="add factory = 'package.module:function', a function that makes the module without arguments",
            )
        inputs = _required_inputs(model, f"the module that '{model.factory}' makes")
        folder = factory_folder(model.factory, path, workspace)
        signature = probe_signature(load_weights(path, model.factory, folder), inputs)
        specs = [spec.model_dump(mode="json") for spec in inputs]
        kind = "torch" if safetensors_header_bytes(path) is None else "safetensors"
        loader = {"factory": model.factory, "folder": str(folder), "inputs": specs, "weights": kind}
        return Artifact(path, self.name, signature, _weights_digest(path, model, folder), loader=loader)


def _weights_digest(path: Path, model: ModelSection, folder: Path) -> str:
    total = hashlib.sha256(digest_file(path).encode())
    total.update(f"\n{model.factory}\n{[spec.model_dump_json() for spec in model.inputs or ()]}\n".encode())
    total.update(digest_factory(str(model.factory), folder).encode())
    return total.hexdigest()


@dataclass(frozen=True)
class TorchToOnnx:
    """Import a torch model to ONNX, float32 as it is, with the same input and output names."""

    name: ClassVar[str] = "torch-to-onnx"
    accepts: ClassVar[frozenset[str]] = frozenset({"torch-export", "torchscript", "torch-weights"})
    produces: ClassVar[str] = "onnx"
    precision: ClassVar[str | None] = None
    calibrates: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxscript")
    extra: ClassVar[str] = "torch"

    def run(self, source: Artifact, context: StepContext) -> Artifact:
        """Export through torch.export (TorchScript: through the older exporter); equal inputs give equal bytes."""
        context.progress("torch-to-onnx", note=source.path.name)
        model = _export(source)
        path = context.workspace / "model.onnx"
        digest = write_model(model, path)
        signature = Signature(inputs=source.signature.inputs, outputs=source.signature.outputs)
        return Artifact(path, "onnx", signature, digest, source.precision, (*source.made_by, self.name))


def _export(source: Artifact) -> Any:  # onnx.ModelProto
    if source.format == "torch-export":
        return export_program(load_program(source.path), source.signature)
    module = load_module(source)
    if source.format == "torchscript":
        return export_torchscript(module, source.signature)
    return export_weights(module, source.signature)

"""Export torch modules to ONNX graphs: names kept, dimensions named as in the signature, no trace of the machine."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ferryman.core.errors import FerrymanError, StepError
from ferryman.core.signature import Signature, TensorSpec
from ferryman.sources._onnx_graph import Model, graphs_of, strip_metadata
from ferryman.sources._torch_load import Module, Program, torch_notices_hidden
from ferryman.sources._torch_shapes import dynamic_sizes, example_of

_LEGACY_OPSET = 17
_NOISY_LOGGERS = ("torch.onnx._internal.exporter._registration", "torch.onnx._internal.exporter._core", "onnxscript")


def export_program(program: Program, signature: Signature) -> Model:
    """Turn an exported program into a graph."""
    with _quiet_export("the exported program"):
        onnx_program = _modern(program, signature)
    return tidy(onnx_program, signature)


def export_weights(module: Module, signature: Signature) -> Model:
    """Turn an eager module into a graph, through torch.export with the signature's dynamic dimensions."""
    import torch

    names = sorted(dynamic_sizes(signature.inputs, 0))
    dims = {name: torch.export.Dim(name, min=1) for name in names}
    shapes = tuple(
        {axis: dims[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)} for spec in signature.inputs
    )
    with _quiet_export("the module"):
        # Not left to torch.onnx, which on failure goes on to looser ways that keep wrong guesses of sizes.
        program = torch.export.export(module, _examples(signature), dynamic_shapes=shapes, strict=False)
        onnx_program = _modern(program, signature)
    return tidy(onnx_program, signature)


def export_torchscript(module: Module, signature: Signature) -> Model:
    """Turn a TorchScript module into a graph with torch's older exporter, the one that reads TorchScript."""
    import onnx
    import torch

    buffer = io.BytesIO()
    axes = {
        spec.name: {axis: size for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in (*signature.inputs, *signature.outputs)
    }
    with _quiet_export("the TorchScript module"):
        torch.onnx.export(
            module,
            _examples(signature),
            buffer,
            dynamo=False,
            opset_version=_LEGACY_OPSET,
            dynamic_axes=axes,
            **_names(signature),
        )
    return tidy(onnx.load_from_string(buffer.getvalue()), signature)


def _modern(program: Program, signature: Signature) -> Model:
    import torch

    exported = torch.onnx.export(program, (), dynamo=True, external_data=False, verbose=False, **_names(signature))
    return exported.model_proto


def _names(signature: Signature) -> dict[str, list[str]]:
    return {
        "input_names": [spec.name for spec in signature.inputs],
        "output_names": [spec.name for spec in signature.outputs],
    }


def _examples(signature: Signature) -> tuple[Any, ...]:  # torch.Tensor
    import torch

    sizes = dynamic_sizes(signature.inputs, 0)
    return tuple(torch.from_numpy(example_of(spec, sizes)) for spec in signature.inputs)


@contextmanager
def _quiet_export(what: str) -> Iterator[None]:
    """Turn whatever the exporter raises into a StepError, and hold back its notes about itself."""
    loggers = [logging.getLogger(name) for name in _NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with torch_notices_hidden():
            yield
    except FerrymanError:
        raise
    except Exception as error:  # torch's exporters raise anything
        raise StepError(f"torch can't export {what} to ONNX: {_reason(error)}", hint=_hint(error)) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """Give the first words of the innermost cause: the outer ones are the exporter's advice on itself."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:400]}"


def _hint(error: BaseException) -> str:
    if "DictConstruct" in str(error):
        return "TorchScript that returns a dictionary has no way to ONNX: return a tuple, or save it as .pt2"
    if "onstraint" in _reason(error) or "specialized" in _reason(error):
        return "the module fixes a size that [model] inputs calls dynamic: write the number there"
    return "export the model to ONNX or .pt2 yourself and name that file as the source"


def tidy(model: Model, signature: Signature) -> Model:
    """Name dimensions as in the signature, everywhere, and drop what tells of the exporting machine."""
    renamed: dict[str, str] = {}
    for value, spec in _pairs(model, signature):
        for dim, size in zip(value.type.tensor_type.shape.dim, spec.shape, strict=False):
            if isinstance(size, str) and dim.dim_param:
                renamed.setdefault(dim.dim_param, size)
    for graph in graphs_of(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param in renamed:
                    dim.dim_param = renamed[dim.dim_param]
    strip_metadata(model)
    return model


def _pairs(model: Model, signature: Signature) -> list[tuple[Any, TensorSpec]]:  # onnx.ValueInfoProto
    return [
        *zip(model.graph.input, signature.inputs, strict=True),
        *zip(model.graph.output, signature.outputs, strict=True),
    ]

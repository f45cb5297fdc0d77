"""Write an exported program of torch as a Core ML package, with coremltools."""

import json
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
import torch
from coremltools.converters.mil import Builder
from coremltools.converters.mil.frontend.torch import ops as torch_ops
from coremltools.optimize.coreml import OpLinearQuantizerConfig, OptimizationConfig, linear_quantize_weights
from torch.utils import _pytree as pytree

_CLOCKS = ("com.github.apple.coremltools.conversion_date",)
_WEIGHTED = ("conv", "conv_transpose", "linear", "matmul")
_NUMPY = {"float32": np.float32, "float16": np.float16, "int32": np.int32, "int64": np.int32, "bool": np.bool_}


def convert(request: dict[str, Any], tell: Callable[..., None]) -> dict[str, Any]:
    """Write the package `target`; `weights` is "fp32", "fp16" or "int8", `inputs` are names, dtypes and shapes."""
    torch_ops._cast = _cast
    tell("coreml", note="tracing")
    examples = [torch.zeros(part["shape"], dtype=getattr(torch, part["dtype"])) for part in request["inputs"]]
    # again, since a program of free sizes can't be traced
    flat = torch.export.export(_Flat(torch.export.load(request["source"])), tuple(examples), strict=False).module()
    with torch.no_grad():
        answers = flat(*examples)
        traced = torch.jit.trace(flat, tuple(examples), check_trace=False)
    names = _Names()
    is_whole = request["weights"] == "fp32"
    tell("coreml", note="converting")
    try:
        model = coremltools.convert(
            traced,
            convert_to="mlprogram",
            inputs=[
                coremltools.TensorType(names(part["name"]), part["shape"], _numpy(part)) for part in request["inputs"]
            ],
            outputs=[coremltools.TensorType(names(name)) for name in request["outputs"]],
            minimum_deployment_target=getattr(coremltools.target, request["deployment"]),
            compute_precision=coremltools.precision.FLOAT32 if is_whole else coremltools.precision.FLOAT16,
            skip_model_load=True,
        )
    except (NotImplementedError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise Refused(_reason(error), hint="export the model without this operation, or leave Core ML out") from error
    if request["weights"] == "int8":
        tell("coreml", note="weights in 8 bits")
        how = OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=int(request["threshold"]))
        # Not of every operation: a detector's table of places is no weight, and 8 bits move its boxes.
        model = linear_quantize_weights(model, OptimizationConfig(op_type_configs=dict.fromkeys(_WEIGHTED, how)))
    target = Path(request["target"])
    model.save(str(target))
    _settle(target)
    return {"shapes": [list(answer.shape) for answer in answers]}


class _Flat(torch.nn.Module):
    """Take and give tensors in a row, whatever the program's own arguments are."""

    def __init__(self, program: Any) -> None:
        super().__init__()
        self.module = program.module()
        self.spec = program.call_spec.in_spec

    def forward(self, *tensors: Any) -> Any:
        positional, named = pytree.tree_unflatten(list(tensors), self.spec)
        leaves = [leaf for leaf in pytree.tree_leaves(self.module(*positional, **named)) if leaf is not None]
        return tuple(leaves)


class _Names:
    """Give names that Core ML takes, in Swift as well: letters, digits and _; no two alike."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
        plain = plain if not plain[0].isdigit() else f"_{plain}"
        while plain in self._taken:
            plain += "_"
        self._taken.add(plain)
        return plain


def _numpy(part: dict[str, Any]) -> Any:  # numpy's scalar type
    if part["dtype"] not in _NUMPY:
        raise Refused(f"Core ML has no inputs of dtype {part['dtype']} ('{part['name']}')")
    return _NUMPY[part["dtype"]]


def _cast(context: Any, node: Any, dtype: Any, dtype_name: str) -> None:
    """Fold or write a cast; coremltools 9.0's own fails on constants of one element with numpy 2.4."""
    value = context[node.inputs[0]]
    if value.can_be_folded_to_const():
        context.add(Builder.const(val=dtype(np.asarray(value.val).item()), name=node.name), node.name)
        return
    if len(value.shape) > 0:
        value = Builder.squeeze(x=value, name=f"{node.name}_item")
    context.add(Builder.cast(x=value, dtype=dtype_name, name=node.name), node.name)


def _settle(package: Path) -> None:
    """Make equal packages equal bytes: no clock, no random identifiers, maps in order."""
    manifest = package / "Manifest.json"
    text = json.loads(manifest.read_text(encoding="utf-8"))
    renamed = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, part["path"])).upper() for old, part in text["itemInfoEntries"].items()
    }
    text["itemInfoEntries"] = {
        renamed[old]: part for old, part in sorted(text["itemInfoEntries"].items(), key=lambda item: renamed[item[0]])
    }
    text["rootModelIdentifier"] = renamed[text["rootModelIdentifier"]]
    manifest.write_text(json.dumps(text, indent=4), encoding="utf-8")
    for path in package.rglob("*.mlmodel"):
        spec = coremltools.proto.Model_pb2.Model.FromString(path.read_bytes())
        for clock in _CLOCKS:
            spec.description.metadata.userDefined.pop(clock, None)
        path.write_bytes(spec.SerializeToString(deterministic=True))
    for empty in [path for path in package.rglob("*") if path.is_dir() and not any(path.iterdir())]:
        shutil.rmtree(empty)


def _reason(error: BaseException) -> str:
    """Give what names the operation: coremltools says it in the first lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"coremltools can't convert this model: {' '.join(lines)[:400] or type(error).__name__}"

"""Turn an exported torch program into a LiteRT file. Runs in the toolchain "litert"; imports nothing of Ferryman."""

import os
from typing import Any

import flatbuffers
import litert_torch
import torch
from ai_edge_litert import schema_py_generated as schema
from torch.utils._pytree import tree_flatten, tree_unflatten


def convert(request: "dict[str, Any]", tell: Any) -> "dict[str, Any]":
    """Write `target` from `source`; inputs and outputs get the names and free sizes that the request gives them.

    Where the converter can't keep a free batch, and may, it becomes 1: the answer's `batch`, which is else 0.
    """
    tell("read the program")
    flat = _Flat(torch.export.load(request["source"]))
    inputs, outputs, batch = request["inputs"], request["outputs"], 0
    tell("convert to LiteRT")
    try:
        model = _convert(flat, inputs)
    except Exception as error:
        names = {size for spec in inputs for size in spec["shape"] if isinstance(size, str)}
        if names != {spec["shape"][0] for spec in inputs if spec["shape"]}:
            raise _refusal(error) from error
        tell("convert to LiteRT", note="the converter can't keep the batch free: for one sample at a time")
        inputs, outputs, batch = _of_one(inputs, names), _of_one(outputs, names), 1
        try:
            model = _convert(flat, inputs)
        except Exception as second:
            raise _refusal(second) from second
    tell("write the file")
    named = _named(model.model_content(), inputs, outputs)
    with open(request["target"], "wb") as stream:
        stream.write(named)
        stream.flush()
        os.fsync(stream.fileno())
    return {"size_bytes": len(named), "batch": batch}


def _convert(flat: "_Flat", inputs: "list[dict[str, Any]]") -> Any:  # litert_torch's model
    examples, free = _examples(inputs)
    # torch's varargs are one argument, a tuple: so are its dynamic shapes.
    return litert_torch.convert(flat, examples, dynamic_shapes=(free,) if any(free) else None)


def _of_one(specs: "list[dict[str, Any]]", names: "set[str]") -> "list[dict[str, Any]]":
    """Give the tensors with their free batch fixed to 1."""
    return [{**spec, "shape": [1 if size in names else size for size in spec["shape"]]} for spec in specs]


class _Flat(torch.nn.Module):
    """Be the program with its tensors one after the other, whatever tree of arguments it was exported with."""

    def __init__(self, program: Any) -> None:
        super().__init__()
        self.program = program.module()
        self._spec = program.call_spec.in_spec

    def forward(self, *tensors: Any) -> "tuple[Any, ...]":
        """Answer with all output tensors in order."""
        arguments, named = tree_unflatten(list(tensors), self._spec)
        return tuple(tree_flatten(self.program(*arguments, **named))[0])


def _examples(inputs: "list[dict[str, Any]]") -> "tuple[tuple[Any, ...], tuple[dict[int, Any], ...]]":
    """Give an example of each input, and the dimensions that are free: of any size, not of these."""
    names = sorted({size for spec in inputs for size in spec["shape"] if isinstance(size, str)})
    sizes = {name: 2 + place for place, name in enumerate(names)}
    examples = []
    for spec in inputs:
        shape = [sizes.get(size, size) for size in spec["shape"]]
        kind = getattr(torch, spec["dtype"])
        examples.append(torch.rand(shape).to(kind) if kind.is_floating_point else torch.zeros(shape, dtype=kind))
    free = tuple(
        {axis: torch.export.Dim.AUTO for axis, size in enumerate(spec["shape"]) if isinstance(size, str)}
        for spec in inputs
    )
    return tuple(examples), free


def _named(content: bytes, inputs: "list[dict[str, Any]]", outputs: "list[dict[str, Any]]") -> bytes:
    """Give the file with the names of the source in its signature, and free sizes marked on its outputs too."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(content), 0))
    (found,) = model.signatureDefs
    tensors = model.subgraphs[found.subgraphIndex].tensors
    for entries, wanted in ((found.inputs, inputs), (found.outputs, outputs)):
        # The converter counts: args_0, args_1 ... and output_0, output_1 ...
        ordered = sorted(entries, key=lambda entry: int(entry.name.decode().rpartition("_")[2]))
        if len(ordered) != len(wanted):
            raise Refused(
                f"the program has {len(ordered)} tensors where its signature names {[spec['name'] for spec in wanted]}",
                hint="export the model again",
            )
        for entry, spec in zip(ordered, wanted, strict=True):
            entry.name = spec["name"].encode()
            if any(isinstance(size, str) for size in spec["shape"]):
                tensors[entry.tensorIndex].shapeSignature = [
                    -1 if isinstance(size, str) else size for size in spec["shape"]
                ]
        entries[:] = ordered
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _refusal(error: Exception) -> Any:  # Refused, the launcher's
    """Say in one line what the converter can't do; it prints pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = next((line for line in lines if "Lowering not found" in line or "error:" in line), (lines or ["?"])[0])
    where = next((line for line in lines if line.startswith("While executing")), "")
    if "Lowering not found" in first:
        operator = first.partition(":")[2].strip()
        return Refused(
            f"LiteRT has no way for the operator {operator} ({where[:160]})",
            hint="leave that operator out of the exported model, or choose another format",
        )
    return Refused(
        f"the LiteRT converter failed: {type(error).__name__}: {first[:300]} {where[:160]}".strip(),
        hint="data-dependent control flow and sizes can't be converted; the other formats may take the model",
    )

"""Look inside a LiteRT graph: list its tensors, and run it with all of them kept."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ferryman.core.errors import InputError
from ferryman.core.runtime import Stage, available_cores
from ferryman.core.signature import Array, Tensors
from ferryman.runtimes._litert_file import Interpreter, line_of, ports_of, scaling, start_engine

_MOVES = {"QUANTIZE", "DEQUANTIZE"}


def list_stages(path: Path) -> list[Stage]:
    """List the tensors of real numbers that the operators compute, in topological order."""
    engine = start_engine(path, threads=1, traces=True)
    names = _names(engine, path)
    stages: list[Stage] = []
    feeds_of: dict[int, tuple[str, ...]] = {}
    for operator in engine._get_ops_details():
        inputs = [int(index) for index in operator["inputs"] if index >= 0]
        feeds = tuple(dict.fromkeys(itertools.chain.from_iterable(feeds_of.get(index, ()) for index in inputs)))
        for index in map(int, operator["outputs"]):
            if index not in names or operator["op_name"] in _MOVES:
                feeds_of[index] = feeds
                continue
            feeds_of[index] = (names[index],)
            stages.append(
                Stage(names[index], f"{operator['op_name']} #{operator['index']}", operator["op_name"], feeds)
            )
    return stages


def precision_of(path: Path) -> str:
    """Name what the operators compute with: "int8" where most results are whole numbers that stand for real ones.

    "int8-dynamic" where only weights are; "fp32" otherwise, also where weights are kept in 16 bits.
    """
    engine = start_engine(path, threads=1, traces=True)
    details = {detail["index"]: detail for detail in engine.get_tensor_details()}
    operators = [one for one in engine._get_ops_details() if one["op_name"] not in _MOVES]
    made = {int(index) for one in operators for index in one["outputs"]}
    taken = {int(index) for one in operators for index in one["inputs"]}
    whole = sum(_is_quantized(details.get(index)) for index in made)
    real = sum(index in details and np.dtype(details[index]["dtype"]).kind == "f" for index in made)
    if whole and whole >= real:
        return "int8"
    doors = {detail["index"] for detail in engine.get_input_details()}
    weights = [index for index in taken - made - doors if len(details.get(index, {}).get("shape", ())) > 1]
    return "int8-dynamic" if any(_is_quantized(details[index]) for index in weights) else "fp32"


def _is_quantized(detail: dict[str, Any] | None) -> bool:  # LiteRT's own
    if detail is None or np.dtype(detail["dtype"]).kind not in "iu":
        return False
    return len(detail["quantization_parameters"]["scales"]) > 0


def trace_stages(path: Path, inputs: Sequence[Tensors], tensors: Sequence[str]) -> Iterator[dict[str, Array]]:
    """Run a LiteRT file with every tensor kept, one input at a time."""
    engine = start_engine(path, threads=available_cores(), traces=True)
    ports = ports_of(engine, path)
    wanted = set(tensors)
    shown = {name: index for index, name in _names(engine, path).items() if name in wanted}
    details = {detail["index"]: detail for detail in engine.get_tensor_details()}
    for item in inputs:
        try:
            feed(engine, {port.index: item[port.name] for port in ports.inputs})
            engine.invoke()
        except (ValueError, RuntimeError, KeyError) as error:
            raise InputError(f"{path.name} can't take an input of the trace: {line_of(error)}") from error
        yield {name: _real(engine.get_tensor(index), details[index]) for name, index in shown.items()}


def feed(engine: Interpreter, values: dict[int, Array]) -> None:
    """Set inputs by their place; makes room first where a size has changed."""
    changed = [
        (detail["index"], values[detail["index"]].shape)
        for detail in engine.get_input_details()
        if tuple(detail["shape"]) != values[detail["index"]].shape
    ]
    for index, shape in changed:
        engine.resize_tensor_input(index, shape, strict=True)
    if changed:
        engine.allocate_tensors()
    for index, value in values.items():
        engine.set_tensor(index, value)


def _names(engine: Interpreter, path: Path) -> dict[int, str]:
    """Name the tensors that hold real numbers, as such or quantized; equal names count on."""
    ports = ports_of(engine, path)
    names = {port.index: port.name for port in (*ports.inputs, *ports.outputs)}
    taken = set(names.values())
    for detail in engine.get_tensor_details():
        if detail["index"] not in names and (np.dtype(detail["dtype"]).kind == "f" or scaling(detail)[0]):
            name = detail["name"] if detail["name"] not in taken else f"{detail['name']}#{detail['index']}"
            taken.add(name)
            names[detail["index"]] = name
    return names


def _real(value: Array, detail: dict[str, Any]) -> Array:  # LiteRT's own
    scale, zero_point = scaling(detail)
    real = value.astype(np.float32)
    return (real - zero_point) * np.float32(scale) if scale else real

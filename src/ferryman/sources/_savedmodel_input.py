"""Find what a TensorFlow graph does first with its input: many models bring pixels into their range themselves."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Message = Any  # of a class that protobuf makes at run time

_CALLS = ("StatefulPartitionedCall", "PartitionedCall")
_PASSES_ON = ("Identity", "StopGradient", "PreventGradient", "Cast", "EnsureShape")
_ARITHMETIC = ("Mul", "Sub", "Add", "AddV2", "RealDiv", "Div")
_FLOAT = 1
_MOST_HOPS = 200


@dataclass(frozen=True, slots=True)
class _Frame:
    """Hold the nodes of a graph or function, the names of its arguments, and what the caller gives for them."""

    nodes: Sequence[Message]
    arguments: tuple[str, ...] = ()
    given: tuple[str, ...] = ()


def first_operation(graph: Message, tensor: str) -> tuple[str, float | None] | None:
    """Give the arithmetic operator that takes a tensor together with a constant, and the constant's first number.

    None where something else takes the tensor; the number is None where it isn't a plain one of 32 bits.
    """
    functions = {function.signature.name: function for function in graph.library.function}
    frames, name = [_Frame(graph.node)], _bare(tensor)
    for _ in range(_MOST_HOPS):
        takers = [node for node in frames[-1].nodes if node.op != "Shape" and name in _operands(node)]
        if len(takers) != 1:
            return None
        node = takers[0]
        called = next((entry.value.func.name for entry in node.attr if entry.value.func.name), "")
        if node.op in _CALLS and called in functions:
            frames.append(_enter(functions[called], node))
            name = frames[-1].arguments[_operands(node).index(name)]
        elif node.op in _PASSES_ON:
            name = node.name
        elif node.op in _ARITHMETIC:
            rest = [one for one in _operands(node) if one != name]
            constant = _constant(frames, rest[0]) if len(rest) == 1 else None
            return None if constant is None else (str(node.op), _number(constant))
        else:
            return None
    return None


def _enter(function: Message, call: Message) -> _Frame:
    arguments = tuple(argument.name for argument in function.signature.input_arg)
    given = _operands(call)
    if len(arguments) != len(given):  # damaged: then nothing inside takes the input
        arguments = tuple("" for _ in given)
    return _Frame(function.node, arguments, given)


def _constant(frames: list[_Frame], name: str) -> Message | None:
    """Follow an operand back to the Const that makes it, also where a caller gives it."""
    depth = len(frames) - 1
    for _ in range(_MOST_HOPS):
        frame = frames[depth]
        node = next((node for node in frame.nodes if node.name == name), None)
        if node is None:
            if name not in frame.arguments:
                return None
            name, depth = frame.given[frame.arguments.index(name)], depth - 1
        elif node.op == "Const":
            return node
        elif node.op in _PASSES_ON and node.input:
            name = _bare(node.input[0])
        else:
            return None
    return None


def _number(constant: Message) -> float | None:
    value = next((entry.value.tensor for entry in constant.attr if entry.key == "value"), None)
    if value is None or value.dtype != _FLOAT:
        return None
    if len(value.content) >= 4:
        return float(struct.unpack("<f", value.content[:4])[0])
    return float(value.floats[0]) if value.floats else None


def _operands(node: Message) -> tuple[str, ...]:
    return tuple(_bare(name) for name in node.input if not name.startswith("^"))


def _bare(tensor: str) -> str:
    return tensor.partition(":")[0]


def picture_scale(first: tuple[str, float | None] | None) -> float | None:
    """Give what pixels of 0-255 are to be multiplied by before a model that begins so; None where nothing tells it.

    A factor that is small, or a mean that is large, is meant for pixels as they are; others, for those of 0-1.
    """
    if first is None:
        return None
    operator, number = first
    if number is None or operator in ("RealDiv", "Div"):
        takes_pixels = number is None or abs(number) > 10
    elif operator == "Mul":
        takes_pixels = abs(number) < 0.1
    else:
        takes_pixels = abs(number) > 2
    return 1.0 if takes_pixels else 1 / 255

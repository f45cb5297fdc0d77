"""Store the weights of an ONNX model in 8 or 4 bits; what computes with them stays in float."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferryman.optimize._graph import Layer
from ferryman.optimize._onnx import Model, Node

BLOCK = 32
"""Neighbouring weights that share a scale in 4 bits."""
_FEWEST = 256  # of fewer weights, what describes them outweighs what is saved
_SHARES = np.linspace(0.7, 1.0, 13)  # of a block's largest weight that 4 bits may cover

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Stored:
    """Hold one weight tensor in few bits: values and scales as they are stored, and how scales are laid out."""

    values: NDArray[np.int8]
    scales: Floats
    axis: int
    block: int = 0


def compress_weights(model: Model, layers: Sequence[Layer], *, bits: int) -> dict[str, int]:
    """Store the weights of `layers` behind DequantizeLinear, in place; give the bits of each layer that was stored so.

    4 bits have a scale for each BLOCK of weights that are summed up together (opset 21); layers whose sums are shorter,
    depthwise convolutions above all, take 8 bits with a scale a channel, as all do for 8 (opset 13).
    """
    import onnx

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    names = {layer.name for layer in layers}
    stored: dict[str, int] = {}
    rewritten: list[Node] = []
    done: set[tuple[str, int]] = set()
    for node in model.graph.node:
        place = next((index for index in (1, 0) if index < len(node.input) and node.input[index] in weights), None)
        tensor = weights[node.input[place]] if node.name in names and place is not None else None
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < _FEWEST:
            rewritten.append(node)
            continue
        values = onnx.numpy_helper.to_array(tensor)
        axis = _outputs_axis(node)
        small = bits == 4 and values.size // values.shape[axis] >= BLOCK // 2 and node.op_type != "ConvTranspose"
        key = (tensor.name, axis)
        if key not in done:
            rewritten.extend(_restore(model, tensor.name, values, axis, is_small=small))
            done.add(key)
        node.input[place] = _restored(tensor.name, axis)
        rewritten.append(node)
        stored[node.name] = 4 if small else 8
    _replace(model, rewritten)
    return stored


def _outputs_axis(node: Node) -> int:
    """Give the axis of the weights along which each index is an output channel of its own."""
    if node.op_type == "Gemm":
        return 0 if any(entry.name == "transB" and entry.i for entry in node.attribute) else 1
    return 0 if node.op_type == "Conv" else -1 if node.op_type == "MatMul" else 1


def _restored(name: str, axis: int) -> str:
    return f"{name}_restored{axis % 9}"


def _restore(model: Model, name: str, values: Floats, axis: int, *, is_small: bool) -> list[Node]:
    """Add the stored tensors and give the nodes that make floats of them again."""
    import onnx

    shape = list(values.shape)
    is_flat = is_small and values.ndim > 2
    stored = _in_blocks(values.reshape(shape[0], -1) if is_flat else values, axis) if is_small else _whole(values, axis)
    final = _restored(name, axis)
    parts = [f"{final}_{part}" for part in ("values", "scales", "shape")]
    if is_small:
        kept = onnx.helper.make_tensor(
            parts[0], onnx.TensorProto.INT4, stored.values.shape, _packed(stored.values), raw=True
        )
    else:
        kept = onnx.numpy_helper.from_array(stored.values, parts[0])
    model.graph.initializer.extend([kept, onnx.numpy_helper.from_array(stored.scales, parts[1])])
    blocks = {"block_size": stored.block} if stored.block else {}
    flat = f"{final}_flat" if is_flat else final
    nodes = [
        onnx.helper.make_node(
            "DequantizeLinear", parts[:2], [flat], name=f"{final}_dequantize", axis=stored.axis, **blocks
        )
    ]
    if is_flat:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape, np.int64), parts[2]))
        nodes.append(onnx.helper.make_node("Reshape", [flat, parts[2]], [final], name=f"{final}_reshape"))
    return nodes


def _whole(values: Floats, axis: int) -> _Stored:
    """Store in 8 bits, with a scale for each index of `axis`."""
    others = tuple(index for index in range(values.ndim) if index != axis % values.ndim)
    scales = np.maximum(np.abs(values).max(axis=others), np.float32(1e-12)) / 127
    shape = [1] * values.ndim
    shape[axis] = -1
    levels = np.clip(np.round(values / scales.reshape(shape)), -127, 127).astype(np.int8)
    return _Stored(levels, scales.astype(np.float32), axis % values.ndim)


def _in_blocks(values: Floats, axis: int) -> _Stored:
    """Store a matrix in 4 bits, with a scale for each block along the other axis: the one that rounds off least."""
    summed = 1 - axis % 2
    rows = values if summed == 1 else values.T
    count = -(-rows.shape[1] // BLOCK)
    padded = np.zeros((rows.shape[0], count * BLOCK), np.float32)
    padded[:, : rows.shape[1]] = rows
    blocks = padded.reshape(rows.shape[0], count, BLOCK)
    peaks = np.maximum(np.abs(blocks).max(axis=2, keepdims=True), np.float32(1e-12))
    best, least = peaks / 7, np.full(peaks.shape, np.inf)
    for share in _SHARES:
        scales = peaks * np.float32(share / 7)
        errors = ((np.clip(np.round(blocks / scales), -8, 7) * scales - blocks) ** 2).sum(axis=2, keepdims=True)
        best, least = np.where(errors < least, scales, best), np.minimum(errors, least)
    levels = np.clip(np.round(blocks / best), -8, 7).astype(np.int8).reshape(padded.shape)[:, : rows.shape[1]]
    scales = best[:, :, 0].astype(np.float32)
    if summed == 0:
        return _Stored(np.ascontiguousarray(levels.T), np.ascontiguousarray(scales.T), 0, BLOCK)
    return _Stored(levels, scales, 1, BLOCK)


def _packed(levels: NDArray[np.int8]) -> bytes:
    """Put two values in each byte, the first in the low half, as ONNX does."""
    flat = levels.reshape(-1)
    even = np.append(flat, np.int8(0)) if flat.size % 2 else flat
    halves = even.astype(np.uint8) & 0xF
    return (halves[::2] | (halves[1::2] << 4)).astype(np.uint8).tobytes()


def _replace(model: Model, nodes: Sequence[Node]) -> None:
    """Put the nodes in, and drop the constants that nothing reads any more."""
    kept_nodes = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept_nodes)
    used = {name for node in model.graph.node for name in node.input} | {out.name for out in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]

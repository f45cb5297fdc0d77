"""What each ONNX operator does to channels: one rule an operator, exact or none."""

from collections.abc import Sequence

import numpy as np

from ferryman.optimize._atoms import Channels, Ids, Model, Node, Rule, Track, Walk, attributes_of, moved

_POOLS = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "GlobalLpPool"}
_SAME = {
    "Abs", "Cast", "Ceil", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus",
    "Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu", *_POOLS,
}  # fmt: skip
_TOGETHER = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Sum", "Mean", "Where", "Equal", "Greater", "Less")
_REDUCED = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")
_TO_THE_END = 2**31 - 1


def follow(model: Model) -> Channels:
    """Follow every channel from the layer that makes it; `model` has shapes inferred and every node a name."""
    return Walk(model).run(RULES)


def _conv(walk: Walk, node: Node) -> bool:
    weight = walk.constants.get(node.input[1])
    given = walk.track(node.input[0])
    if weight is None or given is None or given.axis != 1:
        return False
    groups = attributes_of(node).get("group", 1)
    if groups == 1:
        made = walk.found.new(weight.shape[0])
        walk.write(node, 1, 1, given.ids)
    elif groups == weight.shape[0] == len(given.ids):
        made = given.ids  # one filter a channel
        walk.count(node, -1, {0: made})
    else:
        return False
    walk.write(node, 1, 0, made)
    if len(node.input) > 2 and node.input[2]:
        if node.input[2] not in walk.constants:
            return False
        walk.write(node, 2, 0, made)
    return walk.put(node.output[0], Track(1, made))


def _conv_transpose(walk: Walk, node: Node) -> bool:
    weight = walk.constants.get(node.input[1])
    given = walk.track(node.input[0])
    if weight is None or given is None or given.axis != 1 or attributes_of(node).get("group", 1) != 1:
        return False
    made = walk.found.new(weight.shape[1])
    walk.write(node, 1, 0, given.ids)
    walk.write(node, 1, 1, made)
    if len(node.input) > 2 and node.input[2] in walk.constants:
        walk.write(node, 2, 0, made)
    return walk.put(node.output[0], Track(1, made))


def _product(walk: Walk, node: Node) -> bool:
    """Gemm, and a MatMul whose second factor is a matrix of weights."""
    weight, rank = walk.constants.get(node.input[1]), walk.rank(node.input[0])
    given = walk.track(node.input[0], 1 if rank is None else rank - 1)
    turned = attributes_of(node)
    if weight is None or weight.ndim != 2 or rank is None or given is None or given.axis != rank - 1:
        return False
    if turned.get("transA", 0):
        return False
    before, after = (1, 0) if turned.get("transB", 0) else (0, 1)
    made = walk.found.new(weight.shape[after])
    walk.write(node, 1, before, given.ids)
    walk.write(node, 1, after, made)
    if len(node.input) > 2 and node.input[2]:
        bias = walk.constants.get(node.input[2])
        if bias is None:
            return False
        if bias.ndim and bias.shape[-1] == len(made):
            walk.write(node, 2, bias.ndim - 1, made)
    return walk.put(node.output[0], Track(given.axis, made))


def _same(walk: Walk, node: Node) -> bool:
    given = walk.track(node.input[0])
    if given is None or (len(node.output) > 1 and node.op_type == "MaxPool" and node.output[1]):
        return False
    if node.op_type in _POOLS and given.axis != 1:
        return False
    return walk.put(node.output[0], given)


def _norm(walk: Walk, node: Node) -> bool:
    given = walk.track(node.input[0])
    if given is None or given.axis != 1:
        return False
    for place in range(1, len(node.input)):
        if node.input[place] not in walk.constants:
            return False
        walk.write(node, place, 0, given.ids)
    return walk.put(node.output[0], given)


def _together(walk: Walk, node: Node) -> bool:
    """Pair up channels of tensors that meet place by place; dimensions are counted from the last."""
    ranks = {name: walk.rank(name) for name in node.input}
    known = {name: rank for name, rank in ranks.items() if rank is not None}
    met = _meeting(walk, known)
    if len(known) != len(ranks) or len({end for _, end in met}) != 1:
        return False
    end, widest = met[0][1], max((track.ids for track, _ in met), key=len)
    for track, _ in met:
        if len(track.ids) == len(widest):
            walk.found.join(widest, track.ids)
        else:
            walk.found.freeze(track.ids)  # one for all: spread over the others
    return _constants_fit(walk, node, end, widest) and walk.put(
        node.output[0], Track(max(known.values()) + end, widest)
    )


def _meeting(walk: Walk, ranks: dict[str, int]) -> list[tuple[Track, int]]:
    """Give the channels of tensors that meet, with their axis counted from the last; none where some aren't known."""
    most = max(ranks.values(), default=0)
    moving = [name for name in ranks if name not in walk.constants]
    tracks = [(walk.track(name, max(0, 1 - most + ranks[name])), ranks[name]) for name in moving]
    met = [(track, track.axis - rank) for track, rank in tracks if track is not None]
    return met if len(met) == len(tracks) else []


def _constants_fit(walk: Walk, node: Node, end: int, ids: Ids) -> bool:
    """Note the constants of a node that have a number for each channel; tell whether the others have one for all."""
    for place, name in enumerate(node.input):
        constant = walk.constants.get(name)
        if constant is None or constant.ndim < -end or constant.shape[end] == 1:
            continue
        if constant.shape[end] != len(ids):
            return False
        walk.write(node, place, constant.ndim + end, ids)
    return True


def _concat(walk: Walk, node: Node) -> bool:
    tracks = [walk.track(name) for name in node.input]
    known = [track for track in tracks if track is not None]
    rank = walk.rank(node.input[0])
    if len(known) != len(tracks) or rank is None or len({track.axis for track in known}) != 1:
        return False
    axis = attributes_of(node)["axis"] % rank
    if axis == known[0].axis:
        return walk.put(node.output[0], Track(axis, np.concatenate([track.ids for track in known])))
    for track in known[1:]:
        if len(track.ids) != len(known[0].ids):
            return False
        walk.found.join(known[0].ids, track.ids)
    return walk.put(node.output[0], known[0])


def _split(walk: Walk, node: Node) -> bool:
    given, rank = walk.track(node.input[0]), walk.rank(node.input[0])
    if given is None or rank is None:
        return False
    noted = attributes_of(node)
    if noted.get("axis", 0) % rank != given.axis:
        return all([walk.put(name, given) for name in node.output])
    sizes = walk.constants.get(node.input[1]) if len(node.input) > 1 else None
    if sizes is None:
        return False  # equal parts, or sizes in an attribute (before opset 13): the clean model has them as an input
    parts = np.split(given.ids, np.cumsum(sizes)[:-1])
    walk.count(node, 1, dict(enumerate(parts)))
    return all([walk.put(name, Track(given.axis, part)) for name, part in zip(node.output, parts, strict=True)])


def _slice(walk: Walk, node: Node) -> bool:
    given, rank = walk.track(node.input[0]), walk.rank(node.input[0])
    values = [walk.constants.get(name) for name in node.input[1:] if name]
    if given is None or rank is None or len(values) < 2 or any(value is None for value in values):
        return False
    starts, ends, *rest = ([int(one) for one in value] for value in values if value is not None)
    axes = [axis % rank for axis in (rest[0] if rest else range(len(starts)))]
    if given.axis not in axes:
        return walk.put(node.output[0], given)
    place, size = axes.index(given.axis), len(given.ids)
    if len(rest) > 1 and rest[1][place] != 1:
        return False
    start, end, _ = slice(starts[place], ends[place]).indices(size)
    walk.count(node, 1, {place: given.ids[:start]})
    if ends[place] < _TO_THE_END:
        walk.count(node, 2, {place: given.ids[:end]})
    return walk.put(node.output[0], Track(given.axis, given.ids[start:end]))


def _depth_to_space(walk: Walk, node: Node) -> bool:
    given, noted = walk.track(node.input[0]), attributes_of(node)
    if given is None or given.axis != 1:
        return False
    blocks = noted["blocksize"] ** 2
    by_blocks = noted.get("mode", b"DCR") != b"CRD"
    parts = given.ids.reshape(blocks, -1) if by_blocks else given.ids.reshape(-1, blocks).T
    for part in parts[1:]:
        walk.found.join(parts[0], part)
    return walk.put(node.output[0], Track(1, parts[0].copy()))


def _space_to_depth(walk: Walk, node: Node) -> bool:
    given = walk.track(node.input[0])
    if given is None or given.axis != 1:
        return False
    return walk.put(node.output[0], Track(1, np.tile(given.ids, attributes_of(node)["blocksize"] ** 2)))


def _flatten(walk: Walk, node: Node) -> bool:
    given, behind = walk.track(node.input[0]), _elements(walk.shapes.get(node.input[0], ())[2:])
    if given is None or given.axis != 1 or behind is None or attributes_of(node).get("axis", 1) != 1:
        return False
    return walk.put(node.output[0], Track(1, np.repeat(given.ids, behind)))


def _reshape(walk: Walk, node: Node) -> bool:
    """Know reshapes that leave the channels' axis alone, and those that flatten all behind the batch."""
    given, target = walk.track(node.input[0]), walk.constants.get(node.input[1])
    shape = walk.shapes.get(node.input[0])
    if given is None or given.axis != 1 or target is None or shape is None or target.size < 2:
        return False
    wanted, behind = [int(size) for size in target], _elements(shape[2:])
    if not _keeps_batch(shape, wanted):
        return False
    ids = given.ids
    if len(wanted) == 2 and len(shape) > 2:
        if behind is None:
            return False
        ids = np.repeat(given.ids, behind)
    if wanted[1] not in (len(ids), *((0,) if ids is given.ids else (-1,))):
        return False
    if wanted[1] > 0:
        walk.count(node, 1, {1: ids})
    return walk.put(node.output[0], Track(1, ids))


def _keeps_batch(shape: Sequence[int | str | None], wanted: Sequence[int]) -> bool:
    """Tell whether the first dimension stays what it was."""
    if wanted[0] == -1:
        there = _elements(shape[1:])
        return there is not None and there == _elements(wanted[1:])
    return wanted[0] in (0, shape[0])


def _elements(sizes: Sequence[int | str | None]) -> int | None:
    """Give the product of sizes; None where one isn't known."""
    known = [size for size in sizes if isinstance(size, int) and size > 0]
    return int(np.prod(known, dtype=np.int64)) if len(known) == len(sizes) else None


def _resize(walk: Walk, node: Node) -> bool:
    given = walk.track(node.input[0])
    place = 1 if node.op_type == "Upsample" else 2
    scales = walk.constants.get(node.input[place]) if len(node.input) > place and node.input[place] else None
    if given is None or given.axis != 1:
        return False
    if scales is not None and scales.size:
        return bool(scales[1] == 1) and walk.put(node.output[0], given)
    sizes = walk.constants.get(node.input[3]) if len(node.input) > 3 else None
    if sizes is None or "axes" in attributes_of(node) or int(sizes[1]) != len(given.ids):
        return False
    walk.count(node, 3, {1: given.ids})
    return walk.put(node.output[0], given)


def _pad(walk: Walk, node: Node) -> bool:
    given, rank = walk.track(node.input[0]), walk.rank(node.input[0])
    pads = walk.constants.get(node.input[1]) if len(node.input) > 1 else None
    if given is None or rank is None or pads is None or pads.size != 2 * rank:
        return False
    untouched = pads[given.axis] == 0 == pads[given.axis + rank]
    return bool(untouched) and walk.put(node.output[0], given)


def _transpose(walk: Walk, node: Node) -> bool:
    given, rank = walk.track(node.input[0]), walk.rank(node.input[0])
    if given is None or rank is None:
        return False
    order = list(attributes_of(node).get("perm") or range(rank)[::-1])
    return walk.put(node.output[0], moved(given, order.index(given.axis)))


def _reduced(walk: Walk, node: Node) -> bool:
    given, rank, noted = walk.track(node.input[0]), walk.rank(node.input[0]), attributes_of(node)
    listed = walk.constants.get(node.input[1]) if len(node.input) > 1 and node.input[1] else noted.get("axes")
    if given is None or rank is None or listed is None:
        return False
    axes = [int(axis) % rank for axis in listed]
    if given.axis in axes:
        return False
    gone = 0 if noted.get("keepdims", 1) else sum(axis < given.axis for axis in axes)
    return walk.put(node.output[0], moved(given, given.axis - gone))


def _squeeze(walk: Walk, node: Node) -> bool:
    given, rank, noted = walk.track(node.input[0]), walk.rank(node.input[0]), attributes_of(node)
    listed = walk.constants.get(node.input[1]) if len(node.input) > 1 else noted.get("axes")
    if given is None or rank is None or listed is None:
        return False
    if node.op_type == "Unsqueeze":
        added = sorted(int(axis) % (rank + len(listed)) for axis in listed)
        kept = [axis for axis in range(rank + len(listed)) if axis not in added]
        return walk.put(node.output[0], moved(given, kept[given.axis]))
    axes = [int(axis) % rank for axis in listed]
    if given.axis in axes:
        return False
    return walk.put(node.output[0], moved(given, given.axis - sum(axis < given.axis for axis in axes)))


def _softmax(walk: Walk, node: Node) -> bool:
    given, rank = walk.track(node.input[0]), walk.rank(node.input[0])
    if given is None or rank is None:
        return False
    if attributes_of(node).get("axis", -1) % rank == given.axis:
        walk.found.freeze(given.ids)
    return walk.put(node.output[0], given)


def _size(walk: Walk, node: Node) -> bool:
    return True  # numbers, not channels: what is computed from them follows by itself


RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_TOGETHER, _together),
    **dict.fromkeys(_REDUCED, _reduced),
    "BatchNormalization": _norm,
    "InstanceNormalization": _norm,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Flatten": _flatten,
    "Gemm": _product,
    "MatMul": _product,
    "PRelu": _together,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _size,
    "Slice": _slice,
    "Softmax": _softmax,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _squeeze,
    "Upsample": _resize,
}

"""A torch module that computes a list of ONNX nodes and learns. Imported by programs beside it."""

import re
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

Tensor = Any  # torch.Tensor: its types are skipped by mypy
_LEARNED = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "Add": (0, 1),
    "Mul": (0, 1),
}


class Network(torch.nn.Module):
    """Give all tensors by their names, for inputs in the graph's order; weights are parameters."""

    def __init__(self, graph: "dict[str, Any]", fixed_batch: int, rounding: "dict[str, Any] | None" = None) -> None:
        super().__init__()
        self._rounding = Rounding(rounding) if rounding else None
        self._inputs = graph["inputs"]
        self._nodes = graph["nodes"]
        self._batch = fixed_batch
        self.onnx_names: dict[str, str] = {}
        self._attributes: dict[str, str] = {}
        self._numbers: dict[str, list[Any]] = {}
        learned = _learned(self._nodes)
        for index, (name, array) in enumerate(graph["constants"].items()):
            tensor = torch.from_numpy(array.copy())
            attribute = f"t{index}_" + re.sub(r"\W", "_", name)
            self._attributes[name] = attribute
            if name in learned and tensor.dtype == torch.float32 and tensor.numel() > 1:
                layout = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
                self.register_parameter(attribute, torch.nn.Parameter(tensor.contiguous(memory_format=layout)))
                self.onnx_names[attribute] = name
            else:
                self.register_buffer(attribute, tensor)
                if tensor.dim() <= 1 and tensor.numel() <= 64:
                    self._numbers[name] = tensor.reshape(-1).tolist()
        for node in self._nodes:
            if node["op"] not in _OPS:
                raise Refused(
                    f"there is no way to train through {node['op']}: node '{node['name']}'",
                    hint="leave this candidate out, or export the model without that operator",
                )

    def forward(self, inputs: "list[Tensor]") -> "dict[str, Tensor]":
        """Compute every node."""
        known = {name: getattr(self, attribute) for name, attribute in self._attributes.items()}
        values = self._rounded({**dict(zip(self._inputs, inputs, strict=True)), **known})
        for node in self._nodes:
            given = [values[name] if name else None for name in node["inputs"]]
            result = _OPS[node["op"]](_Node(node, self._numbers, self._batch), *given)
            results = result if isinstance(result, tuple | list) else [result]
            values.update(self._rounded(dict(zip(node["outputs"], results, strict=False))))
        return values

    def _rounded(self, values: "dict[str, Any]") -> "dict[str, Any]":
        return values if self._rounding is None else {name: self._rounding(name, one) for name, one in values.items()}


class Rounding:
    """Imitate INT8: values as they are after rounding, gradients as if nothing had been rounded within the range."""

    def __init__(self, asked: "dict[str, Any]") -> None:
        self._least, self._most = (-128, 127) if asked["is_signed"] else (0, 255)
        self._weights = asked["weights"]
        self._scales: dict[str, tuple[float, int]] = {}
        for name, (low, high) in asked["ranges"].items():
            low, high = min(low, 0.0), max(high, 0.0)
            scale = max((high - low) / 255, 1e-12)
            self._scales[name] = scale, max(self._least, min(self._most, round(self._least - low / scale)))

    def __call__(self, name: str, value: Any) -> Any:
        """Give a tensor as 8 bits show it; others as they are."""
        if name in self._weights:
            return self._of_weights(value, self._weights[name])
        if name in self._scales:
            return torch.fake_quantize_per_tensor_affine(value.float(), *self._scales[name], self._least, self._most)
        return value

    def _of_weights(self, value: Tensor, axis: "int | None") -> Tensor:
        if axis is None:
            scale = float(value.detach().abs().amax().clamp_min(1e-12)) / 127
            return torch.fake_quantize_per_tensor_affine(value, scale, 0, -127, 127)
        axis %= value.dim()
        others = [other for other in range(value.dim()) if other != axis]
        scales = value.detach().abs().amax(others).clamp_min(1e-12) / 127
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(value, scales, zeros, axis, -127, 127)


class _Node:
    """Be one node: its attributes, and those of its inputs that are numbers known before the model runs."""

    def __init__(self, node: "dict[str, Any]", numbers: "dict[str, list[Any]]", batch: int) -> None:
        self.node, self._known, self.batch = node, numbers, batch

    def get(self, name: str, default: Any = None) -> Any:
        """Give an attribute."""
        return self.node["attributes"].get(name, default)

    def numbers(self, place: int, attribute: str = "") -> "list[Any] | None":
        """Give the numbers of an input, or of the attribute that older opsets have instead."""
        names = self.node["inputs"]
        if place < len(names) and names[place]:
            if names[place] not in self._known:
                raise Refused(
                    f"{self.node['op']} '{self.node['name']}' takes numbers that are computed by the model",
                    hint="export the model with fixed height and width",
                )
            return self._known[names[place]]
        return self.get(attribute) if attribute else None


def _learned(nodes: "list[dict[str, Any]]") -> "set[str]":
    return {
        node["inputs"][place]
        for node in nodes
        for place in _LEARNED.get(node["op"], ())
        if place < len(node["inputs"]) and node["inputs"][place]
    }


def _pads(node: _Node, value: Tensor, kernel: "list[int]") -> "list[int]":
    """Give what is added before and after each spatial dimension, as functional.pad wants it."""
    rank, mode = len(kernel), node.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = node.get("pads") or [0] * 2 * rank
        return [amount for axis in reversed(range(rank)) for amount in (pads[axis], pads[axis + rank])]
    strides, dilations = node.get("strides") or [1] * rank, node.get("dilations") or [1] * rank
    flat: list[int] = []
    for axis in reversed(range(rank)):
        size, reach = value.shape[axis + 2], (kernel[axis] - 1) * dilations[axis] + 1
        total = 0 if mode == "VALID" else max((-(-size // strides[axis]) - 1) * strides[axis] + reach - size, 0)
        small, large = total // 2, total - total // 2
        flat += [small, large] if mode == "SAME_UPPER" else [large, small]
    return flat


def _symmetric(flat: "list[int]") -> "list[int] | None":
    """Give one amount for both sides of each spatial dimension; None where they differ."""
    before, after = flat[0::2], flat[1::2]
    return before[::-1] if before == after else None


def _conv(node: _Node, value: Tensor, weight: Tensor, bias: "Tensor | None" = None) -> Tensor:
    rank = weight.dim() - 2
    flat = _pads(node, value, list(weight.shape[2:]))
    padding = _symmetric(flat)
    if padding is None:
        value, padding = functional.pad(value, flat), [0] * rank
    call = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    strides, dilations = node.get("strides") or [1] * rank, node.get("dilations") or [1] * rank
    return call(value, weight, bias, strides, padding, dilations, node.get("group", 1))


def _conv_transpose(node: _Node, value: Tensor, weight: Tensor, bias: "Tensor | None" = None) -> Tensor:
    rank = weight.dim() - 2
    padding = _symmetric(_pads(node, value, list(weight.shape[2:])))
    if padding is None or node.get("auto_pad", "NOTSET") not in ("NOTSET", "") or node.get("output_shape"):
        raise Refused(f"there is no way to train through the padding of '{node.node['name']}'")
    call = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[rank - 1]
    strides, extra = node.get("strides") or [1] * rank, node.get("output_padding") or [0] * rank
    return call(value, weight, bias, strides, padding, extra, node.get("group", 1), node.get("dilations") or [1] * rank)


def _pool(node: _Node, value: Tensor, call: Any, fill: float, **more: Any) -> Tensor:
    kernel = list(node.get("kernel_shape"))
    flat = _pads(node, value, kernel)
    padding = _symmetric(flat)
    if padding is None or any(2 * pad > size for pad, size in zip(padding, kernel, strict=True)):
        value, padding = functional.pad(value, flat, value=fill), [0] * len(kernel)
    strides = node.get("strides") or [1] * len(kernel)
    return call[len(kernel) - 1](value, kernel, strides, padding, ceil_mode=bool(node.get("ceil_mode", 0)), **more)


def _max_pool(node: _Node, value: Tensor) -> Tensor:
    calls = (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
    return _pool(node, value, calls, float("-inf"), dilation=node.get("dilations") or 1)


def _average_pool(node: _Node, value: Tensor) -> Tensor:
    calls = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
    return _pool(node, value, calls, 0.0, count_include_pad=bool(node.get("count_include_pad", 0)))


def _norm(node: _Node, value: Tensor, *given: Tensor) -> Tensor:
    scale, shift, mean, variance = (part.reshape(1, -1, *[1] * (value.dim() - 2)) for part in given)
    return (value - mean) * torch.rsqrt(variance + node.get("epsilon", 1e-5)) * scale + shift


def _gemm(node: _Node, left: Tensor, right: Tensor, bias: "Tensor | None" = None) -> Tensor:
    left = left.T if node.get("transA", 0) else left
    right = right.T if node.get("transB", 0) else right
    result = node.get("alpha", 1.0) * (left @ right)
    return result if bias is None else result + node.get("beta", 1.0) * bias


def _reshape(node: _Node, value: Tensor, shape: Tensor) -> Tensor:
    wanted = [int(size) for size in node.numbers(1) or []]
    sizes = [value.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    if node.batch and sizes[0] == node.batch and -1 not in sizes[1:]:
        sizes[0] = -1  # the model's own batch is fixed; here it is another
    return value.reshape(sizes)


def _split(node: _Node, value: Tensor, *_: Tensor) -> "tuple[Tensor, ...]":
    axis, sizes = node.get("axis", 0), node.numbers(1, "split")
    return tuple(torch.split(value, sizes or -(-value.shape[axis] // len(node.node["outputs"])), axis))


def _slice(node: _Node, value: Tensor, *_: Tensor) -> Tensor:
    starts, ends = node.numbers(1, "starts") or [], node.numbers(2, "ends") or []
    axes = node.numbers(3, "axes") or list(range(len(starts)))
    steps = node.numbers(4) or [1] * len(starts)
    window = [slice(None)] * value.dim()
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        window[axis] = slice(start, end, step)
    return value[tuple(window)]


def _resize(node: _Node, value: Tensor, *_: Any) -> Tensor:
    place = 1 if node.node["op"] == "Upsample" else 2
    scales, sizes = node.numbers(place, "scales"), node.numbers(3)
    mode = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[node.get("mode", "nearest")]
    more = {} if mode == "nearest" else {"align_corners": node.get("coordinate_transformation_mode") == "align_corners"}
    if sizes:
        size = [int(one) for one in sizes[2:]]
    else:
        size = [int(by * there) for by, there in zip((scales or [])[2:], value.shape[2:], strict=True)]
    return functional.interpolate(value, size, mode=mode, **more)


def _depth_to_space(node: _Node, value: Tensor) -> Tensor:
    size = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(value, size)
    batch, depth, height, width = value.shape
    blocks = value.reshape(batch, size, size, depth // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(batch, depth // size**2, height * size, width * size)


def _space_to_depth(node: _Node, value: Tensor) -> Tensor:
    size = node.get("blocksize")
    batch, depth, height, width = value.shape
    blocks = value.reshape(batch, depth, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(batch, depth * size**2, height // size, width // size)


def _pad(node: _Node, value: Tensor, *_: Any) -> Tensor:
    pads, fill = node.numbers(1, "pads") or [], (node.numbers(2) or [0.0])[0]
    rank = value.dim()
    flat = [int(amount) for axis in reversed(range(rank)) for amount in (pads[axis], pads[axis + rank])]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[node.get("mode", "constant")]
    return functional.pad(value, flat if mode == "constant" else flat[: 2 * (rank - 2)], mode, fill)


def _mean(node: _Node, value: Tensor, *_: Any) -> Tensor:
    axes = node.numbers(1, "axes")
    return value.mean(axes if axes else list(range(value.dim())), keepdim=bool(node.get("keepdims", 1)))


def _squeeze(node: _Node, value: Tensor, *_: Any) -> Tensor:
    return value.squeeze(node.numbers(1, "axes") or [axis for axis, size in enumerate(value.shape) if size == 1])


def _unsqueeze(node: _Node, value: Tensor, *_: Any) -> Tensor:
    axes = node.numbers(1, "axes") or []
    for axis in sorted(axis % (value.dim() + len(axes)) for axis in axes):
        value = value.unsqueeze(axis)
    return value


def _clip(node: _Node, value: Tensor, *_: Any) -> Tensor:
    low, high = node.numbers(1) or [node.get("min")], node.numbers(2) or [node.get("max")]
    return value.clamp(low[0], high[0])


def _layer_norm(node: _Node, value: Tensor, scale: Tensor, shift: "Tensor | None" = None) -> Tensor:
    axis = node.get("axis", -1) % value.dim()
    return functional.layer_norm(value, value.shape[axis:], scale, shift, node.get("epsilon", 1e-5))


def _plain(call: Callable[..., Tensor]) -> "Callable[..., Any]":
    return lambda node, *values: call(*values)


def _prelu(value: Tensor, slope: Tensor) -> Tensor:
    return torch.where(value > 0, value, value * slope)


_OPS: "dict[str, Callable[..., Any]]" = {
    "Add": _plain(torch.add), "Sub": _plain(torch.sub), "Mul": _plain(torch.mul), "Div": _plain(torch.div),
    "Pow": _plain(torch.pow), "Max": _plain(torch.maximum), "Min": _plain(torch.minimum), "Sqrt": _plain(torch.sqrt),
    "Exp": _plain(torch.exp), "Erf": _plain(torch.erf), "Abs": _plain(torch.abs), "Neg": _plain(torch.neg),
    "Relu": _plain(torch.relu), "Sigmoid": _plain(torch.sigmoid), "Tanh": _plain(torch.tanh),
    "Softplus": _plain(functional.softplus), "HardSwish": _plain(functional.hardswish), "Mish": _plain(functional.mish),
    "Identity": _plain(lambda value: value), "Dropout": lambda node, value, *_: value, "PRelu": _plain(_prelu),
    "Gelu": lambda node, value: functional.gelu(value, approximate=node.get("approximate", "none")),
    "Swish": lambda node, value: value * torch.sigmoid(node.get("alpha", 1.0) * value),
    "LeakyRelu": lambda node, value: functional.leaky_relu(value, node.get("alpha", 0.01)),
    "Elu": lambda node, value: functional.elu(value, node.get("alpha", 1.0)),
    "HardSigmoid": lambda node, value: (node.get("alpha", 0.2) * value + node.get("beta", 0.5)).clamp(0, 1),
    "Clip": _clip, "Conv": _conv, "ConvTranspose": _conv_transpose, "BatchNormalization": _norm, "Gemm": _gemm,
    "InstanceNormalization": lambda node, value, scale, shift: functional.instance_norm(
        value, weight=scale, bias=shift, eps=node.get("epsilon", 1e-5)
    ),
    "LayerNormalization": _layer_norm, "MatMul": _plain(torch.matmul),
    "Softmax": lambda node, value: value.softmax(node.get("axis", -1)),
    "MaxPool": _max_pool, "AveragePool": _average_pool,
    "GlobalAveragePool": lambda node, value: value.mean(list(range(2, value.dim())), keepdim=True),
    "GlobalMaxPool": lambda node, value: value.amax(list(range(2, value.dim())), keepdim=True),
    "ReduceMean": _mean, "Concat": lambda node, *values: torch.cat(values, node.get("axis")),
    "Split": _split, "Slice": _slice, "Resize": _resize, "Upsample": _resize, "Pad": _pad,
    "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth, "Reshape": _reshape,
    "Flatten": lambda node, value: value.flatten(node.get("axis", 1)),
    "Transpose": lambda node, value: value.permute(node.get("perm") or list(range(value.dim()))[::-1]),
    "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
}  # fmt: skip

"""A torch module that computes an ONNX graph, node by node."""

import inspect
import keyword
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ferryman.core.errors import FerrymanError, StepError
from ferryman.core.signature import Array, Signature
from ferryman.export._torch.elementwise import ELEMENTWISE
from ferryman.export._torch.graph import Graph
from ferryman.export._torch.host import on_host
from ferryman.export._torch.layers import LAYERS
from ferryman.export._torch.node import Node, Op, Tensor, Unsupported, Value, is_host, to_array, to_tensor
from ferryman.export._torch.quantize import QUANTIZE
from ferryman.export._torch.resize import RESIZE
from ferryman.export._torch.select import SELECT
from ferryman.export._torch.shapes import SHAPES

OPS: Mapping[str, Op] = {**ELEMENTWISE, **LAYERS, **SHAPES, **SELECT, **RESIZE, **QUANTIZE}
"""Every operator that has a way to torch; `Constant` is read with the graph."""


class OnnxModule(torch.nn.Module):  # type: ignore[misc]  # torch's types are skipped by mypy
    """Compute an ONNX graph; weights are parameters and buffers under the names that the graph gives them.

    The first call, on real tensors, finds which constants are needed as tensors; `seal` ends that. `forward` takes the
    inputs by position and gives one tensor, or a tuple of them.
    """

    def __init__(self, graph: Graph, signature: Signature, *, step: str) -> None:
        super().__init__()
        self._step = step
        self._signature = signature
        self._registered: dict[str, str] = {}  # tensor of the graph -> attribute of this module
        self._sealed = False
        self._constants: dict[str, Any] = dict(graph.constants)  # arrays
        self._nodes = self._folded(graph.nodes)
        self._name_parameters()

    def _name_parameters(self) -> None:
        """Make `forward` have an argument for each input, by its name: torch.export takes names from there."""
        names = unique_names([spec.name for spec in self._signature.inputs])
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature([inspect.Parameter(name, kind) for name in names])

        def forward(*tensors: Tensor, **named: Tensor) -> Any:  # one Tensor, or a tuple of them
            return self._compute(signature.bind(*tensors, **named).args)

        forward.__signature__ = signature  # type: ignore[attr-defined]  # functions take attributes
        self.forward = forward

    def _folded(self, nodes: Sequence[Node]) -> list[Node]:
        """Compute once what depends on constants alone; gives the other nodes."""
        left = []
        for node in nodes:
            if all(not name or name in self._constants for name in node.inputs) and node.inputs:
                values = [self._constants[name] if name else None for name in node.inputs]
                with torch.no_grad():
                    results = self._result(node, values, lambda _, value: to_tensor(value))
                for name, result in zip(node.outputs, results, strict=False):
                    self._constants[name] = result if is_host(result) else to_array(result)
            else:
                left.append(node)
        return left

    def _compute(self, tensors: Sequence[Tensor]) -> Any:  # one Tensor, or a tuple of them
        values: dict[str, Value] = dict(self._constants)
        values.update({spec.name: tensor for spec, tensor in zip(self._signature.inputs, tensors, strict=True)})
        for node in self._nodes:
            given = [values[name] if name else None for name in node.inputs]
            results = self._result(node, given, self._tensor)
            values.update(zip(node.outputs, results, strict=False))
        outputs = [
            self._tensor(spec.name, values[spec.name]) if is_host(values[spec.name]) else values[spec.name]
            for spec in self._signature.outputs
        ]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _result(self, node: Node, given: list[Value], tensor_of: Any) -> list[Value]:  # (name, Array) -> Tensor
        try:
            result = NotImplemented
            if given and all(value is None or is_host(value) for value in given):
                result = on_host(node, given)
            if result is NotImplemented:
                op = OPS[node.op]
                result = op.call(node, *self._arguments(node, op, given, tensor_of))
        except FerrymanError:
            raise
        except Unsupported as error:
            raise StepError(
                f"{self._step}: {node.op} '{node.name}' has no way to torch: {error}",
                hint="serve the ONNX model itself, or export the model without it",
            ) from None
        except (
            RuntimeError,
            TypeError,
            ValueError,
            IndexError,
            KeyError,
            NotImplementedError,
            AttributeError,
        ) as error:
            words = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:300]
            raise StepError(
                f"{self._step}: {node.op} '{node.name}' fails in torch: {type(error).__name__}: {words}",
                hint="serve the ONNX model itself, or export the model without it",
            ) from error
        return list(result) if isinstance(result, tuple | list) else [result]

    def _arguments(self, node: Node, op: Op, given: list[Value], tensor_of: Any) -> list[Value]:
        arguments = []
        for place, (name, value) in enumerate(zip(node.inputs, given, strict=True)):
            if value is None or place in op.either:
                arguments.append(value)
            elif place in op.host:
                if not is_host(value):
                    raise Unsupported(f"its input '{name}' is computed from what the model is asked, not from sizes")
                arguments.append(value)
            else:
                arguments.append(tensor_of(name, value) if is_host(value) else value)
        return arguments

    def _tensor(self, name: str, value: Array) -> Tensor:
        """Give a host value as a tensor: a constant from its parameter or buffer."""
        if name not in self._constants:
            return to_tensor(value)
        if name not in self._registered:
            if self._sealed:
                return to_tensor(value)
            self._register(name, value)
        return getattr(self, self._registered[name])

    def _register(self, name: str, value: Array) -> None:
        tensor = to_tensor(value)
        attribute = unique_names([*self._registered.values(), name], taken=dir(self))[-1]
        if tensor.is_floating_point():
            self.register_parameter(attribute, torch.nn.Parameter(tensor, requires_grad=False))
        else:
            self.register_buffer(attribute, tensor)
        self._registered[name] = attribute

    def seal(self) -> None:
        """Take no more tensors into the module's state: from here on it is traced."""
        self._sealed = True


def unique_names(names: Sequence[str], *, taken: Sequence[str] = ()) -> list[str]:
    """Give names that Python takes for its own, one for each, all unlike."""
    used: set[str] = set(taken)
    given = []
    for name in names:
        plain = re.sub(r"\W", "_", name, flags=re.ASCII) or "tensor"
        plain = f"t_{plain}" if plain[0].isdigit() or keyword.iskeyword(plain) else plain
        candidate, count = plain, 1
        while candidate in used:
            candidate, count = f"{plain}_{count}", count + 1
        used.add(candidate)
        given.append(candidate)
    return given

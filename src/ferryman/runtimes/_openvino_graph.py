"""Look inside an OpenVINO graph by the tensor names that it kept from its source."""

from collections.abc import Sequence
from typing import Any

from ferryman.core.runtime import Stage

Node = Any  # openvino.Node: openvino isn't imported at module level
Output = Any  # openvino.Output

_PASSIVE = {"Constant", "Parameter", "Result"}


def list_stages(model: Any) -> list[Stage]:  # openvino.Model
    """List the float tensors that have a name, in topological order."""
    stages: list[Stage] = []
    feeds_of: dict[str, tuple[str, ...]] = {}  # by friendly name: the named tensors that a node's value comes from
    for node in model.get_ordered_ops():
        if node.get_type_name() in _PASSIVE:
            continue
        sources = [node.input_value(index).get_node().get_friendly_name() for index in range(node.get_input_size())]
        feeds = tuple(dict.fromkeys(tensor for source in sources for tensor in feeds_of.get(source, ())))
        named = [min(output.get_names()) for output in node.outputs() if output.get_names()]
        feeds_of[node.get_friendly_name()] = tuple(named) or feeds
        if not node.output(0).get_element_type().is_real():
            continue
        stages += [Stage(name, node.get_friendly_name(), node.get_type_name(), feeds) for name in named]
    return stages


def add_stages(model: Any, tensors: Sequence[str]) -> dict[str, int]:  # openvino.Model
    """Add `tensors` to the outputs of `model`; give each one's index among them."""
    wanted = set(tensors)
    made: dict[str, Output] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() in _PASSIVE:
            continue
        for output in node.outputs():
            made.update((name, _dequantized(output)) for name in wanted & set(output.get_names()))
    present = _results(model)
    model.add_outputs([output for output in made.values() if _place(output) not in present])
    results = _results(model)
    return {name: results[_place(made[name])] for name in dict.fromkeys(tensors) if name in made}


def _results(model: Any) -> dict[tuple[str, int], int]:  # openvino.Model
    """Give the index among the outputs of `model` by the place that each comes from."""
    return {_place(port.get_node().input_value(0)): index for index, port in enumerate(model.outputs)}


def _place(output: Output) -> tuple[str, int]:
    return output.get_node().get_friendly_name(), output.get_index()


def _dequantized(output: Output) -> Output:
    """Give the value as the next layers read it: behind the one FakeQuantize node, if there is one."""
    consumers = [target.get_node() for target in output.get_target_inputs()]
    quantizers = [node for node in consumers if node.get_type_name() == "FakeQuantize"]
    return quantizers[0].output(0) if len(quantizers) == 1 else output

"""Join an OpenVINO model with the graphs before and after it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ferryman.core.artifact import Artifact, digest_path
from ferryman.core.errors import StepError
from ferryman.core.privacy import forbid_telemetry
from ferryman.export.in_graph.parts import Bound, Parts, Scope, write_parts
from ferryman.export.in_graph.picture import INPUT, PLACEMENT, name_in_graph
from ferryman.export.in_graph.sketch import Model

Graph = Any  # openvino.Model: openvino isn't imported at module level
Output = Any  # openvino.Output


def join_openvino(source: Artifact, bound: Bound, scope: Scope, workspace: Path) -> Artifact:
    """Write the folder model, which takes pictures; raises NotApplicable for tasks without a graph, StepError.

    The model may be of any precision: it is joined as it is. Nodes before and behind it are named pre/... and post/...
    """
    forbid_telemetry()
    import openvino

    parts = write_parts(bound, source.signature, scope)
    try:
        whole = _joined(openvino.Core().read_model(source.path / "model.xml"), parts, workspace)
        folder, partial = workspace / "model", workspace / "model.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        openvino.save_model(whole, partial / "model.xml", compress_to_fp16=False)
    except RuntimeError as error:
        raise StepError(
            f"in-graph: OpenVINO can't join the model with its task: {str(error).strip().splitlines()[-1]:.300}",
            hint="leave build.in_graph out for this format",
        ) from error
    partial.replace(folder)
    return replace(source, path=folder, signature=parts.signature, digest=digest_path(folder), loader={})


def _convert(part: Model, prefix: str, workspace: Path) -> Graph:
    """Give one of the graphs as OpenVINO's, its nodes numbered anew: equal graphs have equal files."""
    import onnx
    import openvino

    file = workspace / "part.onnx"
    onnx.save(part, file)
    graph = openvino.convert_model(file)
    file.unlink()
    graph.set_rt_info("", ["conversion_parameters", "input_model"])
    for number, node in enumerate(graph.get_ordered_ops()):
        if node.get_type_name() not in ("Parameter", "Result"):
            node.set_friendly_name(f"{prefix}/{node.get_type_name()}_{number}")
    return graph


def _joined(model: Graph, parts: Parts, workspace: Path) -> Graph:
    import openvino

    made = _results(model)
    _forget_names(model)
    before = _convert(parts.before, "pre", workspace)
    ready = _results(before)
    _forget_names(before, keep=before.inputs)
    _feed(model.get_parameters()[0], ready[INPUT])
    ready[INPUT].set_names({INPUT})
    for name, output in made.items():
        output.set_names({*output.get_names(), name_in_graph(name)})
    if parts.after is None:
        results = model.get_results()
        for name, output in made.items():
            output.set_names({*output.get_names(), name})
    else:
        after = _convert(parts.after, "post", workspace)
        available = {**{name_in_graph(name): output for name, output in made.items()}, PLACEMENT: ready[PLACEMENT]}
        sources = [(parameter, available[parameter.output(0).get_any_name()]) for parameter in after.get_parameters()]
        for parameter, source in sources:
            _feed(parameter, source)
        results = after.get_results()
    return openvino.Model(results, before.get_parameters(), "in-graph")


def _results(graph: Graph) -> dict[str, Output]:
    """Give what each result shows, by every name that it has."""
    return {name: port.get_node().input_value(0) for port in graph.outputs for name in port.get_names()}


def _forget_names(graph: Graph, keep: Any = ()) -> None:  # openvino.Output's
    """Drop the names of tensors: those of the three graphs might be the same."""
    kept = {port.get_node().get_friendly_name() for port in keep}
    for node in graph.get_ordered_ops():
        if node.get_friendly_name() not in kept:
            for port in node.outputs():
                port.set_names(set())


def _feed(parameter: Any, source: Output) -> None:  # openvino's Parameter
    """Let all that read an input of a graph read `source` instead."""
    for reader in parameter.output(0).get_target_inputs():
        reader.replace_source_output(source)

"""Say to the program that trains what to train, towards what, and on which samples."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ferryman.core.artifact import Artifact
from ferryman.core.errors import DataError
from ferryman.core.isolated import Worker, isolated
from ferryman.core.signature import Array, Signature
from ferryman.core.step import StepContext
from ferryman.optimize._atom_rules import follow
from ferryman.optimize._atoms import Channels, Ids, Model, Node, attributes_of
from ferryman.optimize._graph import last_weighted, layers_of
from ferryman.optimize._narrow import WEIGHTED

Files = dict[str, dict[str, Any]]  # by input: path, dtype, shape
AtWork = tuple[Worker, Files]  # the program that learns, and what it learns from
Training = Any  # the options of a step that trains: steps, minutes, batch, rate, noise, samples, bfloat16
_PROGRAM = Path(__file__).parent / "programs" / "recover.py"
_LARGEST_HALF = 6e4
_CHANCE = {"Sigmoid": 1, "Softmax": 2}  # kinds of a head's numbers; 0 is any other


@contextmanager
def learning(options: Training, source: Artifact, context: StepContext) -> Iterator[AtWork]:
    """Lay the samples out on disk and start the program that learns from them; gives it, and the files by input."""
    context.workspace.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="samples-", dir=context.workspace) as folder:
        files = save_samples(source.signature, context, Path(folder), most=options.samples)
        with isolated("torch", _PROGRAM, limits=context.limits, progress=context.progress) as worker:
            yield worker, files


def save_samples(signature: Signature, context: StepContext, folder: Path, *, most: int) -> Files:
    """Write the calibration samples as one file for each input, and tell what is in them; never all are in memory.

    Evenly spaced ones where there are more than `most` (0: all). Floats get 16 bits, or 32 where one is too large.
    """
    total = len(context.calibration)
    picked = range(0, total, max(1, total // most))[:most] if most else range(total)
    half = _saved(signature, context, folder, picked, np.dtype(np.float16))
    return half or _saved(signature, context, folder, picked, np.dtype(np.float32)) or {}


def _saved(
    signature: Signature, context: StepContext, folder: Path, picked: range, kind: np.dtype[np.floating[Any]]
) -> Files | None:
    """Write the samples with floats of a kind; None where one doesn't fit in it."""
    files: Files = {}
    with ExitStack() as opened:
        names = [folder / f"input-{place}.bin" for place in range(len(signature.inputs))]
        streams = [opened.enter_context(name.open("wb")) for name in names]
        for done, index in enumerate(picked):
            sample = context.calibration[index]
            for spec, stream in zip(signature.inputs, streams, strict=True):
                values = _checked(np.asarray(sample[spec.name]), spec.name, index, files)
                if values.dtype.kind == "f":
                    if kind == np.float16 and np.abs(values).max(initial=0) >= _LARGEST_HALF:
                        return None
                    values = values.astype(kind)
                about = files.setdefault(
                    spec.name, {"path": stream.name, "dtype": values.dtype.name, "shape": [0, *values.shape[1:]]}
                )
                about["shape"][0] += len(values)
                stream.write(np.ascontiguousarray(values).tobytes())
            context.progress("lay out samples", done=done + 1, total=len(picked))
    return files


def _checked(values: Array, name: str, index: int, files: Files) -> Array:
    """Give a sample's tensor if it is of the others' size and finite."""
    before = files[name]["shape"][1:] if name in files else [*values.shape[1:]]
    if [*values.shape[1:]] != before:
        raise DataError(
            f"calibration sample {index} is of another size than those before it: '{name}' has {[*values.shape[1:]]}, "
            f"not {before}",
            hint="to learn from, all samples have to be of one size",
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(
            f"calibration sample {index} holds values in '{name}' that are infinite or not a number",
            hint="remove it from [data] calibration",
        )
    return values


def describe(teacher: Model, student: Model, kept: Mapping[str, Ids] | None) -> dict[str, Any]:  # JSON and arrays
    """Describe both networks, their heads, and where their features are to agree.

    `kept` has the places of the channels that the student has still, by tensor; None where it has all.
    """
    channels = follow(teacher)
    ends = last_weighted(layers_of(teacher))
    heads = [node for node in teacher.graph.node if node.name in ends]
    outputs = [node.output[0] for node in heads]
    network = _network(teacher, outputs)
    reached = {name for node in network["nodes"] for name in node["inputs"]}
    return {
        "teacher": network,
        "student": _network(student, outputs),
        "heads": [_head(node, channels, teacher) for node in heads],
        "features": [one for one in _features(teacher, channels, kept) if one["tensor"] in reached],
    }


def settings_of(options: Training, signature: Signature, context: StepContext) -> dict[str, Any]:  # JSON
    """Say how to train."""
    return {
        "steps": options.steps,
        "minutes": options.minutes,
        "batch": options.batch,
        "rate": options.rate,
        "noise": options.noise,
        "bfloat16": options.bfloat16,
        "seed": context.seed,
        "threads": getattr(options, "threads", 0) or min(2, context.threads),
        "fixed_batch": signature.max_batch or 0,
    }


def put_weights(model: Model, weights: dict[str, Any]) -> None:  # arrays
    """Write trained weights into a graph."""
    import onnx

    for entry in model.graph.initializer:
        if entry.name in weights:
            values = np.ascontiguousarray(weights[entry.name], dtype=np.float32)
            entry.CopyFrom(onnx.numpy_helper.from_array(values, entry.name))


def _network(model: Model, outputs: list[str]) -> dict[str, Any]:  # JSON and arrays
    """Give the part of a graph that some tensors need."""
    import onnx

    wanted, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(node.input)
    constants = {entry.name: entry for entry in model.graph.initializer if entry.name in wanted}
    inputs = [entry.name for entry in model.graph.input if entry.name not in constants]
    return {
        "inputs": inputs,
        "nodes": [_plain(node) for node in nodes[::-1]],
        "constants": {name: onnx.numpy_helper.to_array(entry) for name, entry in constants.items()},
    }


def _plain(node: Node) -> dict[str, Any]:  # JSON
    attributes = {
        name: value.decode() if isinstance(value, bytes) else value
        for name, value in attributes_of(node).items()
        if isinstance(value, int | float | bytes | list | tuple)
    }
    outputs = list(node.output)
    return {
        "op": node.op_type, "name": node.name, "inputs": list(node.input), "outputs": outputs, "attributes": attributes,
    }  # fmt: skip


def _head(node: Node, channels: Channels, model: Model) -> dict[str, Any]:  # JSON
    """Tell of each number that a head gives whether it becomes a probability, and how."""
    track = channels.tracks[node.output[0]]
    chances: dict[int, int] = {}
    for other in model.graph.node:
        kind = _CHANCE.get(other.op_type, 0)
        given = channels.tracks.get(other.input[0]) if kind else None
        if given is None or (kind == 2 and attributes_of(other).get("axis", -1) not in (given.axis, -1)):
            continue
        chances.update(dict.fromkeys((int(one) for one in channels.roots(given.ids)), kind))
    kinds = np.array([chances.get(int(one), 0) for one in channels.roots(track.ids)], dtype=np.int64)
    return {"tensor": node.output[0], "axis": track.axis, "kinds": kinds}


def _features(teacher: Model, channels: Channels, kept: Mapping[str, Ids] | None) -> list[dict[str, Any]]:
    """List the tensors that layers with weights take, with the places of those channels that the student has still."""
    inputs = {entry.name for entry in teacher.graph.input}
    taken = [node.input[0] for node in teacher.graph.node if node.op_type in WEIGHTED]
    return [
        {
            "tensor": name,
            "axis": channels.tracks[name].axis,
            "kept": np.arange(len(channels.tracks[name].ids)) if kept is None else kept[name],
        }
        for name in dict.fromkeys(taken)
        if name in channels.tracks and name not in inputs
    ]

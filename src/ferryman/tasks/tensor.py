"""Any model: arrays in, arrays out."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ferryman.core.errors import ConfigError, InputError
from ferryman.core.signature import Array, Signature, TensorSpec, dtype_name
from ferryman.core.task import Agreement, Answer, Batch, Item, Measurement, TaskSpec, Truth
from ferryman.tasks.distance import measure_distance
from ferryman.tasks.given import describe_given
from ferryman.tasks.resample import measure_mean, measure_weighted

_MOST_BYTES = 4 << 30


class TensorSection(TaskSpec):
    """Be the `[task]` section of a model whose tensors are given and taken as they are."""

    kind: Literal["tensor"] = Field("tensor", description="What the tensors mean.")


class TensorTask:
    """Pass arrays through.

    An item is {input name: array or nested list}, a .npz or .npy file, or one array for a model with one input; with
    its batch dimension or without. An answer is {"outputs": {name: {"dtype", "shape", "data"}}}, data nested lists.
    A truth is a class number (accuracy) or what the first output should be (rmse). The first dimension is the batch.
    """

    kind: ClassVar[str] = "tensor"
    Spec: ClassVar[type[TaskSpec]] = TensorSection
    tolerance: ClassVar[Mapping[str, float]] = {"max_rel_diff": 1e-3}

    def __init__(self, spec: TensorSection, signature: Signature) -> None:
        self.spec = spec
        self._signature = signature

    def preprocess(self, items: Sequence[Item]) -> Batch:
        """Stack the items' arrays; raises InputError for a name, dtype or shape that the model doesn't take."""
        rows: list[dict[str, Array]] = []
        for place, item in enumerate(items):
            arrays = name_arrays(item, self._signature, name=f"item {place + 1}")
            rows.append({port.name: _fit(arrays[port.name], port, place) for port in self._signature.inputs})
        inputs: dict[str, Array] = {}
        for port in self._signature.inputs:
            parts = [row[port.name] for row in rows]
            inputs[port.name] = parts[0] if len(parts) == 1 else _joined(parts, port)
        first = self._signature.inputs[0].name
        counts = tuple(row[first].shape[0] if row[first].ndim else 1 for row in rows)
        self._signature.check(inputs)
        return Batch(inputs=inputs, contexts=counts)

    def postprocess(self, outputs: Mapping[str, Array], batch: Batch) -> list[Answer]:
        """Give each item its rows of every output."""
        answers: list[Answer] = []
        start = 0
        for count in batch.contexts:
            own = {name: _rows(values, start, count, batch) for name, values in outputs.items()}
            answers.append({"outputs": {name: _to_json(values) for name, values in own.items()}})
            start += count
        return answers

    def agreement(self, reference: Sequence[Answer], answers: Sequence[Answer]) -> Agreement:
        """Give max_abs_diff, and max_rel_diff: max |a-b| / max |b| of an output; the worst of all items and outputs.

        Infinite where shapes or names differ, or where one side alone has NaN or an infinity.
        """
        absolute, relative = [0.0], [0.0]
        for before, after in zip(reference, answers, strict=True):
            if before["outputs"].keys() != after["outputs"].keys():
                return Agreement({"max_abs_diff": float("inf"), "max_rel_diff": float("inf")})
            for name, wanted in before["outputs"].items():
                difference, share = measure_distance(_from_json(wanted), _from_json(after["outputs"][name]))
                absolute.append(difference)
                relative.append(share)
        return Agreement({"max_abs_diff": float(np.max(absolute)), "max_rel_diff": float(np.max(relative))})

    def measure(self, answers: Sequence[Answer], truths: Sequence[Truth], metric: str | None) -> Measurement:
        """Compute accuracy (the first output's largest is the truth's class) or rmse (against expected arrays)."""
        is_class = all(np.ndim(truth) == 0 for truth in truths)
        chosen = metric or ("accuracy" if is_class else "rmse")
        firsts = [_from_json(next(iter(answer["outputs"].values()))) for answer in answers]
        if chosen == "accuracy":
            if not is_class:
                raise ConfigError("metric 'accuracy' needs one class number an item, but the truths are arrays")
            hits = [int(np.argmax(first)) == int(truth) for first, truth in zip(firsts, truths, strict=True)]
            return measure_mean("accuracy", np.asarray(hits, np.float64), higher_is_better=True)
        if chosen != "rmse":
            raise ConfigError(f"tensors have no metric '{chosen}'", hint="they have accuracy and rmse")
        squares = np.asarray([_mean_square(first, truth) for first, truth in zip(firsts, truths, strict=True)])

        def root_mean(weights: NDArray[np.float64]) -> float:
            return float(np.sqrt((squares * weights).sum() / weights.sum()))

        return measure_weighted("rmse", root_mean, len(squares), higher_is_better=False)


def name_arrays(item: Item, signature: Signature, *, name: str) -> Mapping[str, Any]:  # arrays, or lists from JSON
    """Give an item's arrays by the names of the model's inputs, read from its file where it is one.

    A lone array is that of the only input. Raises InputError, starting with `name`, where names are not the model's.
    """
    arrays = read_arrays(item, name=name) if isinstance(item, Path) else item
    names = [port.name for port in signature.inputs]
    if isinstance(arrays, np.ndarray) and len(names) == 1:
        arrays = {names[0]: arrays}
    if not isinstance(arrays, Mapping):
        raise InputError(
            f"{name}: {describe_given(arrays)} is not a set of named arrays",
            hint=f"this model takes {names}: a .npz file or a JSON object of them",
        )
    if unknown := sorted(set(arrays) - set(names)):
        raise InputError(f"{name}: no input is called '{unknown[0]}'", hint=f"this model takes {names}")
    if missing := [known for known in names if known not in arrays]:
        raise InputError(f"{name}: input '{missing[0]}' is missing", hint=f"this model takes {names}")
    return arrays


def read_arrays(path: Path, *, name: str) -> Mapping[str, Array] | Array:
    """Read a .npz or .npy file, without pickled objects; raises InputError."""
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                return cast(Array, loaded)
            unpacked = sum(entry.file_size for entry in loaded.zip.infolist()) if loaded.zip else 0
            if unpacked > _MOST_BYTES:
                raise InputError(f"{name}: {path} holds {unpacked} bytes when unpacked; at most {_MOST_BYTES} are read")
            return {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, EOFError, OverflowError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{name}: {path} can't be read as numpy arrays: {error}", hint="numpy.savez writes them, without objects"
        ) from None


def _fit(value: Any, port: TensorSpec, place: int) -> Array:  # an array, or lists from JSON
    try:
        array = np.asarray(value)
    except ValueError:
        raise InputError(f"item {place + 1}: input '{port.name}' is ragged: its rows differ in length") from None
    array = _cast(array, port, place)
    if array.ndim == len(port.shape) - 1:
        array = array[None]
    return array


def _cast(array: Array, port: TensorSpec, place: int) -> Array:
    if port.dtype == "string":
        return array.astype(object)
    wanted = np.dtype(port.dtype)
    # Lists from JSON come as int64 or float64: any number may become a float, and an integer another integer.
    is_safe = np.can_cast(array.dtype, wanted, "same_kind") or (array.dtype.kind in "iu" and wanted.kind in "iu")
    if not is_safe:
        raise InputError(
            f"item {place + 1}: input '{port.name}' has dtype {array.dtype}; the model takes {port.dtype}",
            hint=f"convert it to {port.dtype} before sending it",
        )
    if wanted.kind in "iu" and array.size:
        limits = np.iinfo(wanted)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise InputError(f"item {place + 1}: input '{port.name}' has values outside of {port.dtype}")
    with np.errstate(over="ignore"):
        return array.astype(wanted, copy=False)


def _joined(parts: list[Array], port: TensorSpec) -> Array:
    if len({part.shape[1:] for part in parts}) != 1 or not parts[0].ndim:
        shapes = sorted({str(list(part.shape)) for part in parts})
        raise InputError(f"input '{port.name}' has differing shapes in one batch: {', '.join(shapes)}")
    return np.concatenate(parts)


def _rows(values: Array, start: int, count: int, batch: Batch) -> Array:
    if len(batch.contexts) == 1:
        return values
    if not values.ndim or values.shape[0] != sum(batch.contexts):
        raise InputError(f"an output of shape {list(values.shape)} has no row for each of {sum(batch.contexts)} inputs")
    return values[start : start + count]


def _to_json(values: Array) -> dict[str, Any]:  # JSON
    dtype = dtype_name(values)
    return {"dtype": dtype, "shape": list(values.shape), "data": values.tolist()}


def _from_json(output: Mapping[str, Any]) -> Array:  # JSON
    dtype = object if output["dtype"] == "string" else output["dtype"]
    return np.asarray(output["data"], dtype).reshape(output["shape"])


def _mean_square(got: Array, truth: Truth) -> float:
    wanted = np.asarray(truth, np.float64)
    if wanted.size != got.size:
        raise ConfigError(f"a truth has shape {list(wanted.shape)}, but the model answers {list(got.shape)}")
    return float(np.mean((cast(Any, got).astype(np.float64).ravel() - wanted.ravel()) ** 2))

"""Tables: rows in, a label with probabilities or a value out."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ferryman.core.errors import ConfigError, InputError
from ferryman.core.signature import Array, Signature
from ferryman.core.task import Agreement, Answer, Batch, Item, Measurement, TaskSpec, Truth
from ferryman.tasks.cells import Row, bind_table
from ferryman.tasks.distance import measure_distance
from ferryman.tasks.labels import Labels, Names, require_resolved, resolve_labels
from ferryman.tasks.row_metrics import measure_labels, measure_values
from ferryman.tasks.shifts import mean_shifts


class TabularOutputs(BaseModel):
    """Name the model's outputs; by default those called label, probabilities and prediction, else the first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str | None = Field(None, description="The output with the class.")
    probabilities: str | None = Field(None, description="The output with a probability for each class.")
    prediction: str | None = Field(None, description="The output with the value of a regression.")


class TabularSpec(TaskSpec):
    """Be the `[task]` section of a model of table rows."""

    kind: Literal["tabular"] = Field("tabular", description="What the tensors mean.")
    columns: Names | None = Field(
        None, description="Columns in the model's order, without the target; its inputs' names by default."
    )
    layout: Literal["matrix", "columns"] | None = Field(
        None, description="One input [N, F], or one input a column; told by the model's inputs by default."
    )
    labels: Labels | None = Field(None, description="Class names in the order of the probabilities, or their file.")
    missing: bool | None = Field(
        None, description="Whether the server takes empty cells; told by the data of the build by default."
    )
    positive: str | None = Field(None, description="The label that f1 and auc look for, where there are two.")
    outputs: TabularOutputs = Field(TabularOutputs(), description="Names of the model's outputs.")

    def resolved(self, folder: Path) -> "TabularSpec":
        """Give the spec with its label file, relative to `folder`, read in."""
        return self.model_copy(update={"labels": resolve_labels(self.labels, folder)})


def fill_columns(spec: TabularSpec, names: Sequence[str] | None) -> TabularSpec:
    """Give the spec with the names that the model itself knows its columns by, unless the user set columns."""
    return spec if spec.columns is not None or not names else spec.model_copy(update={"columns": tuple(names)})


def fill_labels(spec: TabularSpec, names: Sequence[str] | None) -> TabularSpec:
    """Give the spec with the names that the model itself knows its classes by, unless the user set labels."""
    return spec if spec.labels is not None or not names else spec.model_copy(update={"labels": tuple(names)})


def fill_missing(spec: TabularSpec, task: "TabularTask", rows: Iterable[Item]) -> TabularSpec:
    """Give the spec that takes empty cells where the build's rows have some, unless the user set missing."""
    if spec.missing is not None:
        return spec
    return spec.model_copy(update={"missing": any(task.has_missing(cast(Row, row)) for row in rows)})


class TabularTask:
    """Answer rows of a table.

    An item is {column: cell}. An answer is {"label": ..., "probabilities": {label: p}}, or {"value": v} of a
    regression. A truth is a label or a value. Missing numbers (None or "") become NaN.
    """

    kind: ClassVar[str] = "tabular"
    Spec: ClassVar[type[TaskSpec]] = TabularSpec
    tolerance: ClassVar[Mapping[str, float]] = {
        "label_changed": 0.0,
        "max_score_diff": 0.005,
        "max_rel_diff": 1e-3,
    }

    def __init__(self, spec: TabularSpec, signature: Signature) -> None:
        self.spec = spec
        self._labels = require_resolved(spec.labels)
        self._port = bind_table(spec.columns, spec.layout, signature)
        self._label, self._probabilities, self._prediction = bind_outputs(spec.outputs, signature)
        self._check_labels(signature)

    def preprocess(self, items: Sequence[Item]) -> Batch:
        """Turn rows into the model's inputs; raises InputError that names row and column."""
        return Batch(inputs=self._port.write(cast(Sequence[Row], items)), contexts=(None,) * len(items))

    def postprocess(self, outputs: Mapping[str, Array], batch: Batch) -> list[Answer]:
        """Give each row its label and probabilities, or its value."""
        count = len(batch.contexts)
        if self._prediction is not None:
            values = np.asarray(outputs[self._prediction], np.float64).reshape(count, -1)
            if values.shape[1] != 1:
                raise InputError(f"output '{self._prediction}' gives {values.shape[1]} values a row, not one")
            return [{"value": value} for value in values[:, 0].tolist()]
        shares = None if self._probabilities is None else _two_sided(outputs[self._probabilities], count)
        own = None if self._label is None else np.asarray(outputs[self._label]).reshape(count, -1)[:, 0].tolist()
        return [
            self._answer(None if own is None else own[row], None if shares is None else shares[row].tolist())
            for row in range(count)
        ]

    def has_missing(self, row: Row) -> bool:
        """Tell whether a number is missing in a row."""
        return self._port.has_missing(row)

    def refuse_missing(self, inputs: Mapping[str, Array]) -> None:
        """Raise InputError where a number is missing or infinite: for models that were not verified on such rows."""
        self._port.refuse_missing(inputs)

    def agreement(self, reference: Sequence[Answer], answers: Sequence[Answer]) -> Agreement:
        """Compare labels and probabilities, or values; the other kind's largest distances are 0, as those of nothing.

        label_changed: share of rows. score_shift, score_bias: of the reference's label (of its most probable class
        where the label's own is unnamed); left out without probabilities. max_rel_diff: max |a-b| of values over
        max |b|.
        """
        if self._prediction is not None:
            return _compare_values(reference, answers)
        changed, shifts, differences = [False], [], [0.0]
        for before, after in zip(reference, answers, strict=True):
            changed.append(before["label"] != after["label"])
            deltas = {
                label: after["probabilities"].get(label, 0.0) - share
                for label, share in before["probabilities"].items()
            }
            if deltas:
                shares = before["probabilities"]
                own = str(before["label"])
                shifts.append(deltas[own if own in shares else max(shares, key=lambda name: shares[name])])
            differences.extend(abs(delta) for delta in deltas.values())
        return Agreement(
            {
                "label_changed": sum(changed) / max(len(reference), 1),
                "max_score_diff": float(np.max(differences)),
                "max_rel_diff": 0.0,
                **mean_shifts(shifts),
            }
        )

    def measure(self, answers: Sequence[Answer], truths: Sequence[Truth], metric: str | None) -> Measurement:
        """Compute accuracy, f1 or auc of labels; rmse, mae or r2 of values."""
        if self._prediction is not None:
            return measure_values(answers, truths, metric or "rmse")
        return measure_labels(answers, truths, metric or "accuracy", self.spec.positive)

    def _answer(self, own: Any, shares: list[float] | None) -> Answer:  # a label as the model gives it
        names = self._names(len(shares or ()))
        probabilities = dict(zip(names, shares or (), strict=True))
        if own is None and any(map(math.isnan, probabilities.values())):
            return {"label": None, "probabilities": probabilities}  # no class is the most probable
        if own is None:
            return {"label": max(probabilities, key=lambda name: probabilities[name]), "probabilities": probabilities}
        return {"label": self._name(own), "probabilities": probabilities}

    def _names(self, count: int) -> tuple[str, ...]:
        if self._labels is None or not count:
            return tuple(map(str, range(count)))
        if len(self._labels) != count:
            raise InputError(f"the model gives {count} probabilities, but there are {len(self._labels)} labels")
        return self._labels

    def _name(self, own: Any) -> str:  # a label as the model gives it: text or number
        if isinstance(own, bytes):
            own = own.decode("utf-8", "replace")
        if isinstance(own, float) and own.is_integer():
            own = int(own)
        if self._labels is None or str(own) in self._labels:
            return str(own)
        is_index = isinstance(own, int) and 0 <= own < len(self._labels)
        return self._labels[own] if is_index else str(own)

    def _check_labels(self, signature: Signature) -> None:
        if self._labels is None or self._probabilities is None:
            return
        shape = next(port.shape for port in signature.outputs if port.name == self._probabilities)
        count = shape[1] if len(shape) == 2 else None
        if isinstance(count, int) and count not in (1, len(self._labels)):
            raise ConfigError(
                f"output '{self._probabilities}' is {list(shape)}, but there are {len(self._labels)} labels",
                hint="give one label a class, in the order of the probabilities",
            )


def bind_outputs(named: TabularOutputs, signature: Signature) -> tuple[str | None, str | None, str | None]:
    """Give the outputs with label, probabilities and prediction; the last is None unless it's a regression."""
    ports = {port.name: port for port in signature.outputs}
    for key, name in named.model_dump(exclude_none=True).items():
        if name not in ports:
            raise ConfigError(
                f"[task] outputs.{key} = '{name}' is no output of the model", hint=f"it has {list(ports)}"
            )
    if named.prediction:
        return None, None, named.prediction
    label = named.label or ("label" if "label" in ports else None)
    probabilities = named.probabilities or ("probabilities" if "probabilities" in ports else None)
    if label or probabilities:
        return label, probabilities, None
    if "prediction" in ports or len(ports) == 1:
        name = "prediction" if "prediction" in ports else next(iter(ports))
        width = ports[name].shape[1] if len(ports[name].shape) == 2 else 1
        is_value = ports[name].dtype.startswith("float") and width in (1,)
        return (None, None, name) if is_value else (None, name, None)
    first, second = list(ports)[:2]
    return first, second, None


def _two_sided(values: Array, count: int) -> Array:
    shares = np.asarray(values, np.float64).reshape(count, -1)
    return np.concatenate([1.0 - shares, shares], axis=1) if shares.shape[1] == 1 else shares


def _compare_values(reference: Sequence[Answer], answers: Sequence[Answer]) -> Agreement:
    before = np.asarray([answer["value"] for answer in reference], np.float64)
    after = np.asarray([answer["value"] for answer in answers], np.float64)
    difference, share = measure_distance(before, after)
    return Agreement({"label_changed": 0.0, "max_score_diff": 0.0, "max_abs_diff": difference, "max_rel_diff": share})

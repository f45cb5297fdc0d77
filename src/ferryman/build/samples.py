"""The user's samples of one build: labelled ones to measure on, others to calibrate with, a few to keep as golden."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from pydantic import JsonValue

from ferryman.build.plan import Plan
from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.bundle import Golden
from ferryman.core.deployment import Project
from ferryman.core.errors import DataError, InputError
from ferryman.core.plugins import find
from ferryman.core.signature import Signature
from ferryman.core.task import Answer, Item, Samples
from ferryman.tasks.cells import Row
from ferryman.tasks.data import read_calibration, read_samples
from ferryman.tasks.files import spread
from ferryman.tasks.tabular import TabularTask
from ferryman.tasks.tensor import name_arrays

RANDOM = "random-"
"""What the digest of samples that were made up begins with."""

_RANDOM_SAMPLES = 8
_MOST_READ = 256
"""Calibration samples that are read before any work: all of them where `calibration_limit` is the usual one."""


def gather_samples(project: Project, signature: Signature) -> tuple[Samples | None, Samples]:
    """Read calibration samples (None where none are given) and those to measure on.

    Without labelled data the calibration samples are measured on; without any data, for the `tensor` task only, seeded
    random tensors are: enough for parity between formats, and the contract then says that accuracy was not measured.
    """
    section, spec = project.deployment.data, project.deployment.task
    calibration = read_calibration(section, project.folder, spec) if section.calibration else None
    if section.evaluation is not None:
        return calibration, read_samples(section.evaluation, project.folder, spec)
    if calibration is not None:
        return calibration, calibration
    if spec.kind != "tensor":
        raise DataError(
            "there is nothing to verify with: data.evaluation and data.calibration are both missing",
            hint='set [data] calibration = "pictures/*.jpg", or evaluation = { items = ..., labels = ... }',
        )
    return None, _random_samples(signature, project.deployment.build.seed)


def _random_samples(signature: Signature, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    items: list[Item] = []
    for _ in range(_RANDOM_SAMPLES):
        item = {}
        for spec in signature.inputs:
            shape = [size if isinstance(size, int) else 1 for size in spec.shape]
            if spec.dtype == "string":
                raise DataError("random text can't be made up for a model that takes strings", hint="set [data]")
            numbers = rng.standard_normal(shape) if spec.dtype.startswith("float") else rng.integers(0, 2, shape)
            item[spec.name] = numbers.astype(spec.dtype)
        items.append(item)
    return Samples(items, [f"random {index}" for index in range(_RANDOM_SAMPLES)], None, digest=f"{RANDOM}{seed}")


def golden_samples(workshop: Workshop, artifact: Artifact) -> list[Golden]:
    """Pick samples, evenly spread, and keep the verified model's own answers to them."""
    places = list_served(workshop)
    count = min(workshop.deployment.data.golden, len(places))
    picked = sorted({places[round(index * (len(places) - 1) / max(count - 1, 1))] for index in range(count)})
    answers: list[Answer] = workshop.answers(artifact, picked)
    return [
        Golden(
            name=workshop.samples.names[index],
            item=_whole(workshop.samples.items[index], artifact.signature, workshop.samples.names[index]),
            answer=answer,
        )
        for index, answer in zip(picked, answers, strict=True)
    ]


def check_calibration(workshop: Workshop, plan: Plan) -> None:
    """Raise DataError, before any work, for calibration samples that can't be read where any candidate calibrates."""
    samples, steps = workshop.calibration, {name for one in plan.candidates for name in one.steps}
    if samples is None or not any(find("steps", name).cls.calibrates for name in steps):
        return

    def read() -> JsonValue:
        prepared = workshop.prepared_calibration
        for done, call in enumerate(spread(len(prepared), _MOST_READ), start=1):
            try:
                _ = prepared[call]
            except (InputError, DataError) as error:
                raise DataError(f"data.calibration: {error}", hint=error.hint or "name the right files") from None
            workshop.progress("read the calibration samples", done=done, total=min(len(prepared), _MOST_READ))
        return True

    inputs = [spec.model_dump_json() for spec in workshop.source.signature.inputs]
    workshop.cache.values("calibration", [samples.digest, workshop.task_key, cast(JsonValue, inputs)], read)


def list_served(workshop: Workshop) -> Sequence[int]:
    """Give the places of the samples that a server will take, of which golden ones are picked; raises DataError."""
    task, items = workshop.task, workshop.samples.items
    if not isinstance(task, TabularTask) or getattr(workshop.deployment.task, "missing", None) is not False:
        return range(len(items))
    places = [place for place, item in enumerate(items) if not task.has_missing(cast(Row, item))]
    if not places:
        raise DataError(
            "[task] missing = false, but every sample has an empty cell",
            hint="drop the key, or give rows without empty cells",
        )
    return places


def _whole(item: Item, signature: Signature, name: str) -> Item:
    if not isinstance(item, Path):
        return item
    return name_arrays(item, signature, name=name) if item.suffix in (".npz", ".npy") else item.read_bytes()

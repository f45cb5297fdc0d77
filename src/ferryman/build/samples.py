"""The user's samples of one build: labelled ones to measure on, others to calibrate with, a few to keep as golden."""

from pathlib import Path

import numpy as np

from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.bundle import Golden
from ferryman.core.deployment import Project
from ferryman.core.errors import DataError
from ferryman.core.signature import Signature
from ferryman.core.task import Answer, Item, Samples
from ferryman.tasks.data import read_calibration, read_samples
from ferryman.tasks.tensor import name_arrays

_RANDOM_SAMPLES = 8


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
    return Samples(items, [f"random {index}" for index in range(_RANDOM_SAMPLES)], None, digest=f"random-{seed}")


def golden_samples(workshop: Workshop, artifact: Artifact) -> list[Golden]:
    """Pick samples, evenly spread, and keep the verified model's own answers to them."""
    total = len(workshop.samples.items)
    count = min(workshop.deployment.data.golden, total)
    picked = sorted({round(index * (total - 1) / max(count - 1, 1)) for index in range(count)})
    answers: list[Answer] = workshop.answers(artifact, picked)
    return [
        Golden(
            name=workshop.samples.names[index],
            item=_whole(workshop.samples.items[index], artifact.signature, workshop.samples.names[index]),
            answer=answer,
        )
        for index, answer in zip(picked, answers, strict=True)
    ]


def _whole(item: Item, signature: Signature, name: str) -> Item:
    if not isinstance(item, Path):
        return item
    return name_arrays(item, signature, name=name) if item.suffix in (".npz", ".npy") else item.read_bytes()

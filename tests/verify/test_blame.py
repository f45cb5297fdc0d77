"""The first stage that diverges."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ferryman.core.artifact import Artifact
from ferryman.core.runtime import Stage
from ferryman.core.signature import Array, Signature, Tensors
from ferryman.verify.blame import CLEAN_DB, first_divergence, sqnr_db, stage_noise

ARTIFACT = Artifact(Path("none"), "plain", Signature(inputs=(), outputs=()), "0")
STAGES = [
    Stage("stem", "conv0", "Conv"),
    Stage("boxes", "conv1", "Conv", ("stem",)),
    Stage("scores", "conv2", "Conv", ("stem",)),
    Stage("joined", "concat", "Concat", ("boxes", "scores")),
    Stage("out", "transpose", "Transpose", ("joined",)),
]


class _Recorded:
    """Play back tensors: a Tracer whose graph was run elsewhere."""

    def __init__(self, tensors: Mapping[str, Array]) -> None:
        self._tensors = tensors

    def stages(self, artifact: Artifact) -> list[Stage]:
        return STAGES

    def trace(
        self, artifact: Artifact, inputs: Sequence[Tensors], tensors: Sequence[str]
    ) -> Iterator[dict[str, Array]]:
        for _ in inputs:
            yield {name: self._tensors[name] for name in tensors if name in self._tensors}


def _tensors() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    stem = rng.random((1, 8, 50)).astype(np.float32)
    boxes = (rng.random((1, 4, 50)) * 320).astype(np.float32)
    scores = rng.random((1, 4, 50)).astype(np.float32)
    joined = np.concatenate([boxes, scores], axis=1)
    return {"stem": stem, "boxes": boxes, "scores": scores, "joined": joined, "out": joined.transpose(0, 2, 1)}


def test_scores_quantized_with_the_scale_of_pixels_are_blamed_on_the_stage_that_joins_them() -> None:
    wanted = _tensors()
    got = dict(wanted)
    scale = 320 / 255
    got["joined"] = (np.round(wanted["joined"] / scale) * scale).astype(np.float32)
    got["out"] = got["joined"].transpose(0, 2, 1)
    noises = stage_noise((_Recorded(wanted), ARTIFACT), (_Recorded(got), ARTIFACT), [{}])
    found = first_divergence(noises)
    assert found is not None
    assert (found.tensor, found.op) == ("joined", "Concat")
    assert found.sqnr_db < 6 < found.inputs_sqnr_db


def test_a_stage_that_only_passes_noise_on_is_not_blamed() -> None:
    wanted = _tensors()
    got = {name: value.copy() for name, value in wanted.items()}
    got["stem"] += np.random.default_rng(1).normal(0, 0.4, got["stem"].shape).astype(np.float32)
    got["boxes"] *= 1.3
    found = first_divergence(stage_noise((_Recorded(wanted), ARTIFACT), (_Recorded(got), ARTIFACT), [{}]))
    assert found is not None
    assert found.tensor == "stem"


def test_a_stage_that_was_fused_away_is_seen_through() -> None:
    wanted = _tensors()
    got = {name: value for name, value in wanted.items() if name != "joined"}
    noises = stage_noise((_Recorded(wanted), ARTIFACT), (_Recorded(got), ARTIFACT), [{}])
    assert [noise.stage.tensor for noise in noises] == ["stem", "boxes", "scores", "out"]
    assert all(noise.sqnr_db == CLEAN_DB for noise in noises)


def test_nan_counts_as_nothing_but_noise() -> None:
    wanted = np.ones((1, 2, 5), np.float32)
    got = np.full((1, 2, 5), np.nan, np.float32)
    assert sqnr_db(wanted, got) == -40.0


def test_where_no_stage_loses_anything_none_is_named() -> None:
    noises = stage_noise((_Recorded(_tensors()), ARTIFACT), (_Recorded(_tensors()), ARTIFACT), [{}])
    assert len(noises) == len(STAGES)
    assert first_divergence(noises) is None

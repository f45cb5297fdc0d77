"""Find the first stage of a graph where a candidate leaves the source: intermediate tensors, layer by layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferryman.core.artifact import Artifact
from ferryman.core.proof import Divergence
from ferryman.core.runtime import Stage, Tracer
from ferryman.core.signature import Array, Tensors

CLEAN_DB = 80.0
"""Where two tensors are equal, or nearly: no need to tell 80 dB from infinity."""
DIVERGED_DB = 15.0
JUMP_DB = 6.0
"""One bit of precision: less than this between a stage's inputs and its output is the stage passing noise on."""
_MAX_SLICES = 512
_WORST_SHOWN = 5


@dataclass(frozen=True, slots=True)
class StageNoise:
    """Hold a stage with the signal-to-noise ratio of its output and the lowest of its inputs, in dB."""

    stage: Stage
    sqnr_db: float
    inputs_sqnr_db: float

    @property
    def loss_db(self) -> float:
        """Give what this stage itself lost."""
        return self.inputs_sqnr_db - self.sqnr_db


def stage_noise(
    source: tuple[Tracer, Artifact], candidate: tuple[Tracer, Artifact], inputs: Sequence[Tensors]
) -> list[StageNoise]:
    """Measure every stage that both graphs still have, in the source's topological order."""
    stages = source[0].stages(source[1])
    names = [stage.tensor for stage in stages]
    figures: dict[str, list[float]] = {}
    pairs = zip(source[0].trace(source[1], inputs, names), candidate[0].trace(candidate[1], inputs, names), strict=True)
    for wanted, got in pairs:
        for name, want in wanted.items():
            if name in got and got[name].shape == want.shape and want.dtype.kind == "f":
                figures.setdefault(name, []).append(sqnr_db(want, got[name]))
    levels = {name: float(np.mean(values)) for name, values in figures.items()}
    noises = []
    for stage in stages:
        if stage.tensor not in levels:
            # fused away: its consumers see through it to what feeds it
            levels[stage.tensor] = min((levels.get(feed, CLEAN_DB) for feed in stage.feeds), default=CLEAN_DB)
            continue
        before = min((levels.get(feed, CLEAN_DB) for feed in stage.feeds), default=CLEAN_DB)
        noises.append(StageNoise(stage, levels[stage.tensor], before))
    return noises


def sqnr_db(want: Array, got: Array) -> float:
    """Give the signal-to-quantization-noise ratio in dB of the poorest tenth of channels.

    By channel (axis 1 and the last): in a tensor that holds pixels beside probabilities the whole's ratio stays fine
    while the probabilities are gone, which is just how a detection head dies.
    """
    reference = np.nan_to_num(np.asarray(want, np.float64))
    noise = np.asarray(got, np.float64) - np.asarray(want, np.float64)
    noise = np.where(np.isfinite(noise), noise, 1e30)
    lowest = _ratio_db(np.array([np.sum(reference**2)]), np.array([np.sum(noise**2)]))
    for axis in {1, reference.ndim - 1} if reference.ndim > 1 else set():
        if 1 < reference.shape[axis] <= _MAX_SLICES:
            others = tuple(index for index in range(reference.ndim) if index != axis)
            ratios = _ratio_db(np.sum(reference**2, axis=others), np.sum(noise**2, axis=others))
            lowest = min(lowest, ratios)
    return lowest


def _ratio_db(signal: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    heard = signal > 1e-12 * max(float(signal.max(initial=0.0)), 1e-30)
    if not heard.any():
        return CLEAN_DB if not noise.any() else 0.0
    quiet = np.maximum(noise[heard], signal[heard] * 1e-9)  # no need to tell 90 dB from infinity
    ratios = 10 * np.log10(signal[heard] / quiet)
    return float(np.percentile(np.clip(ratios, -40.0, CLEAN_DB), 10))


def first_divergence(noises: Sequence[StageNoise]) -> Divergence | None:
    """Name the first stage below DIVERGED_DB that lost JUMP_DB itself; else the one that lost the most, and so much."""
    losing = [noise for noise in noises if noise.loss_db >= JUMP_DB]
    if not losing:
        return None
    diverged = [noise for noise in losing if noise.sqnr_db < DIVERGED_DB]
    culprit = diverged[0] if diverged else max(noises, key=lambda noise: noise.loss_db)
    worst = sorted(noises, key=lambda noise: noise.loss_db, reverse=True)[:_WORST_SHOWN]
    return Divergence(
        tensor=culprit.stage.tensor,
        node=culprit.stage.node,
        op=culprit.stage.op,
        sqnr_db=culprit.sqnr_db,
        inputs_sqnr_db=culprit.inputs_sqnr_db,
        worst=tuple((noise.stage.tensor, noise.stage.op, noise.loss_db) for noise in worst),
    )

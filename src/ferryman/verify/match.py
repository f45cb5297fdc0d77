"""Find where a file that somebody else made leaves the source: its tensors are known by their values, not by names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferryman.core.artifact import Artifact
from ferryman.core.runtime import Stage, Tracer
from ferryman.core.signature import Array, Tensors
from ferryman.verify.blame import CLEAN_DB, StageNoise, sqnr_db
from ferryman.verify.reconcile import fitting_orders

_POINTS = 2048
"""Values of a tensor that are enough to know it by: a few dozen would do against chance, more see faint channels."""
_LIKE = 0.3
"""Correlation from which on two tensors are taken for the same one, however noisy."""
_TRIED = 3
_MOST_BYTES = 600_000_000


@dataclass(frozen=True, slots=True)
class Matched:
    """Hold the source's stages with their noise, and by the source's tensor, who makes its like in the candidate."""

    noises: tuple[StageNoise, ...]
    makers: dict[str, Stage]


@dataclass(frozen=True, slots=True)
class Traced:
    """Hold one model's side: who traces it, what it is, the inputs in its own form, and its stages."""

    tracer: Tracer
    artifact: Artifact
    inputs: Tensors

    def values(self) -> tuple[list[Stage], dict[str, Array]]:
        """Give the stages, and every tensor for the one input, as far as memory goes."""
        stages = self.tracer.stages(self.artifact)
        held: dict[str, Array] = {}
        names = [stage.tensor for stage in stages]
        for found in self.tracer.trace(self.artifact, [self.inputs], names):
            for name, value in found.items():
                if sum(array.nbytes for array in held.values()) + value.nbytes < _MOST_BYTES:
                    held[name] = value
        return [stage for stage in stages if stage.tensor in held], held


def match_stages(source: Traced, candidate: Traced) -> Matched:
    """Measure every stage of the source whose like the candidate has, in the source's topological order.

    The like of a tensor is the candidate's tensor of the same sizes, in any order of dimensions, that correlates best
    with it. What the conversion has fused away has none, and counts as clean as what it feeds.
    """
    stages, wanted = source.values()
    shelf = _Shelf(*candidate.values())
    own: dict[str, float] = {}
    makers: dict[str, Stage] = {}
    for stage in stages:
        found = _nearest(wanted[stage.tensor], shelf)
        if found is not None:
            own[stage.tensor], makers[stage.tensor] = found
    levels = _forgiven(stages, own)
    noises = [
        StageNoise(
            stage, levels[stage.tensor], min((levels.get(feed, CLEAN_DB) for feed in stage.feeds), default=CLEAN_DB)
        )
        for stage in stages
        if stage.tensor in levels
    ]
    return Matched(tuple(noises), makers)


class _Shelf:
    """Hold the candidate's tensors by their sizes; each is turned into a wanted shape once."""

    def __init__(self, stages: Sequence[Stage], given: dict[str, Array]) -> None:
        self._given = given
        self._by_sizes: dict[tuple[int, ...], list[Stage]] = {}
        for stage in stages:
            self._by_sizes.setdefault(_sizes(given[stage.tensor].shape), []).append(stage)
        self._turned: dict[tuple[int, ...], list[_Like]] = {}

    def of_shape(self, shape: tuple[int, ...]) -> "list[_Like]":
        """Give every tensor that can be turned into a shape."""
        if shape not in self._turned:
            self._turned[shape] = [
                _Like(stage, turned, _mark(turned))
                for stage in self._by_sizes.get(_sizes(shape), [])
                for turned in _turned(self._given[stage.tensor], shape)
            ]
        return self._turned[shape]


@dataclass(frozen=True, slots=True)
class _Like:
    """Hold a tensor of the candidate in the shape of one of the source's, and what it is known by."""

    stage: Stage
    value: Array
    mark: NDArray[np.float64]


def _nearest(want: Array, shelf: _Shelf) -> tuple[float, Stage] | None:
    """Give the noise of a tensor's like, and who makes that; None where nothing of its sizes is there."""
    likes = shelf.of_shape(want.shape)
    if not likes:
        return None
    closeness = np.array([like.mark for like in likes]) @ _mark(want)
    best = sorted(range(len(likes)), key=lambda place: -closeness[place])[:_TRIED]
    likely = [place for place in best if closeness[place] >= max(_LIKE, closeness[best[0]] - 0.05)] or best[:1]
    level, place = max((sqnr_db(want, likes[place].value), -place) for place in likely)
    return level, likes[-place].stage


def _forgiven(stages: Sequence[Stage], own: dict[str, float]) -> dict[str, float]:
    """Raise a stage to the best that its value feeds: what is wrong doesn't become right again, so it was fused."""
    levels = dict(own)
    for stage in reversed(stages):
        level = levels.get(stage.tensor)
        for feed in stage.feeds:
            if level is not None and level > levels.get(feed, -np.inf):
                levels[feed] = level
    return {stage.tensor: levels[stage.tensor] for stage in stages if stage.tensor in levels}


def _turned(value: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """Give a tensor in every order of dimensions, and with or without those of size 1, that has the wanted shape."""
    inner = [size for size in value.shape if size != 1]
    wanted = [size for size in shape if size != 1]
    flat = value.reshape(inner)
    for order in fitting_orders(inner, wanted):
        yield flat.transpose(order).reshape(shape)


def _sizes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(size for size in shape if size != 1))


def _mark(value: Array) -> NDArray[np.float64]:
    """Give some of a tensor's values, always from the same places, without their mean and scale."""
    flat = value.reshape(-1)
    if not flat.size:
        return np.zeros(0)
    places = np.random.default_rng(0).integers(0, flat.size, min(_POINTS, flat.size))
    picked = np.asarray(np.nan_to_num(np.asarray(flat[places], np.float64)), np.float64)
    centred = np.asarray(picked - picked.mean(), np.float64)
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length, np.float64) if length > 0 else centred

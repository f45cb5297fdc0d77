"""Find the Pareto front: the candidates that no other beats, accuracy, latency, size and memory taken together."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ferryman.build.choose import HELD
from ferryman.core.contract import Contract, tolerated
from ferryman.core.proof import CandidateProof

_MEMORY_NOISE = 0.05
"""How far apart the resident memory of two starts of one model may be, as a share."""


@dataclass(frozen=True, slots=True)
class _Figure:
    """Hold one figure, the less the better, and where the true one lies."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Measured:
    """Hold what one candidate measured; None for what was not."""

    name: str
    holds: bool
    targets: frozenset[str]
    figures: tuple[_Figure | None, ...]


def mark_front(proofs: Sequence[CandidateProof], contract: Contract) -> tuple[CandidateProof, ...]:
    """Write into each measured candidate which others dominate it; one that none does is on the front.

    A dominates B where A is worse in nothing (accuracy, latency, size, memory) and better in something by more than
    noise: the 95 % intervals of the drops are apart, or the ratios of latencies give or take the noise of the timing,
    or memories by more than 5 %. Memory counts to two digits and size to three; what one of them lacks is not
    compared. One that is refused dominates none that holds, and none is dominated by what doesn't run wherever it does.
    Named are those on the front; where noise leaves none of them there, all that dominate.
    """
    by_accuracy = any(proof.accuracy for proof in proofs)
    accuracy = _drop if by_accuracy else _error(contract)
    measured = [_read(proof, accuracy) for proof in proofs if proof.latency and proof.footprint]
    over = {one.name: [other.name for other in measured if _dominates(other, one)] for one in measured}
    named = {one: tuple(name for name in names if not over[name]) or tuple(names) for one, names in over.items()}
    return tuple(
        proof.model_copy(update={"dominated_by": named[proof.name]}) if proof.name in named else proof
        for proof in proofs
    )


def _read(proof: CandidateProof, accuracy: Callable[[CandidateProof], _Figure | None]) -> _Measured:
    figures = (accuracy(proof), _latency(proof), _size(proof), _memory(proof))
    return _Measured(proof.name, proof.status in HELD, frozenset(proof.targets), figures)


def _drop(proof: CandidateProof) -> _Figure | None:
    found = proof.accuracy
    return _Figure(found.drop, found.drop_low, found.drop_high) if found else None


def _error(contract: Contract) -> Callable[[CandidateProof], _Figure | None]:
    """Let tensor errors stand in where there are no labels; those that the contract allows count as none."""

    def read(proof: CandidateProof) -> _Figure | None:
        worst = max(proof.parity.max_rel.values(), default=0.0) if proof.parity else 0.0
        told = worst if worst > tolerated(contract.max_error) else 0.0
        return _Figure(told, told, told)

    return read


def _latency(proof: CandidateProof) -> _Figure | None:
    if proof.latency is None:
        return None
    reach = min(proof.latency.noise, 1.0) / math.sqrt(2)  # two figures, each with this noise
    return _about(proof.latency.ratio, proof.latency.ratio, reach)


def _size(proof: CandidateProof) -> _Figure | None:
    size_mb = proof.footprint.size_mb if proof.footprint else None
    return None if size_mb is None else _about(_rounded(size_mb, 3), size_mb, 0.0)


def _memory(proof: CandidateProof) -> _Figure | None:
    rss_mb = proof.footprint.rss_mb if proof.footprint else None
    return None if rss_mb is None else _about(_rounded(rss_mb, 2), rss_mb, _MEMORY_NOISE / 2)


def _about(value: float, measured: float, share: float) -> _Figure:
    return _Figure(value, measured * (1 - share), measured * (1 + share))


def _rounded(figure: float, digits: int) -> float:
    return float(f"{figure:.{digits}g}")


def _dominates(one: _Measured, other: _Measured) -> bool:
    if (other.holds and not one.holds) or not other.targets <= one.targets:
        return False
    both = [(a, b) for a, b in zip(one.figures, other.figures, strict=True) if a and b]
    is_worse = any(a.value > b.value for a, b in both)
    return not is_worse and any(a.high < b.low and a.value < b.value for a, b in both)

"""Choose, of the candidates that keep the promise, the best by what the contract prefers."""

from collections.abc import Sequence

from ferryman.core.contract import Contract, Preference
from ferryman.core.proof import CandidateProof, Latency

HELD = ("accepted", "repaired")


def latency_figures(contract: Contract, latency: Latency) -> dict[str, float | None]:
    """Give the latency that the contract judges: at its rate where it names one, else one request at a time."""
    return {"p99_ms": latency.poisson_p99_ms if contract.at_rps is not None else latency.p99_ms}


PRAISE: dict[Preference, str] = {
    "latency": "the fastest",
    "size": "the smallest",
    "memory": "the leanest in memory",
    "accuracy": "the most accurate",
}


def choose(proofs: Sequence[CandidateProof], prefer: Preference) -> CandidateProof | None:
    """Give the best of those that hold; None where none does.

    Two latencies that differ by less than their noise are equal, and the smaller model wins.
    """
    held = [proof for proof in proofs if proof.status in HELD and proof.latency and proof.footprint]
    if not held:
        return None
    if prefer == "latency":
        fastest = min(held, key=_ratio)
        noise = fastest.latency.noise if fastest.latency else 0.0
        return min((proof for proof in held if _ratio(proof) <= _ratio(fastest) * (1 + min(noise, 0.03))), key=_size_mb)
    if prefer == "size":
        return min(held, key=_size_mb)
    if prefer == "memory":
        return min(held, key=lambda proof: (_rss_mb(proof), _size_mb(proof)))
    return min(held, key=lambda proof: (proof.accuracy.drop if proof.accuracy else 0.0, _size_mb(proof)))


def _ratio(proof: CandidateProof) -> float:
    return proof.latency.ratio if proof.latency else 0.0


def _rss_mb(proof: CandidateProof) -> float:
    known = proof.footprint.rss_mb if proof.footprint else None
    return float("inf") if known is None else known  # what runs elsewhere only is no leaner for not being measured


def _size_mb(proof: CandidateProof) -> float:
    return proof.footprint.size_mb if proof.footprint else 0.0

"""The choice among candidates that hold."""

from ferryman.build.choose import choose
from ferryman.core.proof import CandidateProof, Footprint, Latency


def _proof(name: str, *, ratio: float, size_mb: float, status: str = "accepted", noise: float = 0.01) -> CandidateProof:
    return CandidateProof(
        name=name,
        format="onnx",
        precision="fp32",
        status=status,
        latency=Latency(min_ms=1, p50_ms=1, p95_ms=1, p99_ms=1, ratio=ratio, noise=noise, rounds=10),
        footprint=Footprint(rss_mb=size_mb * 10, cold_start_s=1, size_mb=size_mb),
    )


def _name(proofs: list[CandidateProof], prefer: str) -> str | None:
    chosen = choose(proofs, prefer)  # type: ignore[arg-type]  # plain strings in a test
    return chosen.name if chosen else None


def test_the_measured_fastest_wins_for_latency_and_the_smallest_for_size() -> None:
    proofs = [_proof("fp32", ratio=1.0, size_mb=4), _proof("int8", ratio=1.9, size_mb=1)]
    assert _name(proofs, "latency") == "fp32"
    assert _name(proofs, "size") == "int8"


def test_within_the_noise_the_smaller_one_wins() -> None:
    proofs = [_proof("a", ratio=1.0, size_mb=4, noise=0.05), _proof("b", ratio=1.02, size_mb=1, noise=0.05)]
    assert _name(proofs, "latency") == "b"


def test_a_refused_candidate_never_wins() -> None:
    proofs = [_proof("int8", ratio=0.1, size_mb=0.1, status="refused"), _proof("fp32", ratio=1, size_mb=4)]
    assert _name(proofs, "latency") == "fp32"
    assert _name(proofs[:1], "latency") is None

"""How figures, clauses and foreign text are written in every report."""

import math
import unicodedata
from collections.abc import Iterable

from ferryman.core.contract import Clause, broken
from ferryman.core.proof import Attempt, CandidateProof, Divergence, Kept, Proof

_MOST_NAMED = 4
NOT_MEASURED = "\N{EN DASH}"
STATUS_SIGNS = {
    "accepted": "✓",
    "repaired": "↻",
    "refused": "✗",
    "failed": "✗",
    "unavailable": NOT_MEASURED,
    "on device": NOT_MEASURED,
    "not tried": NOT_MEASURED,
}
CLAUSE_WORDS = {
    "max_drop": "metric drop",
    "max_score_shift": "score shift",
    "max_box_shift": "box shift",
    "max_calibration_shift": "calibration",
    "max_error": "tensor error",
    "p99_ms": "p99 latency",
    "max_size_mb": "size",
    "max_rss_mb": "memory",
    "max_cold_start_s": "cold start",
}


def plain(text: object) -> str:
    """Give foreign text on one line, without the control characters that could rewrite a terminal."""
    shown = " ".join(str(text).split())
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign) in ("Cc", "Cf") else sign for sign in shown
    )


def is_number(value: object) -> bool:
    """Tell whether a figure was measured and is finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def figure(value: float | None, digits: int = 3, *, unit: str = "", signed: bool = False) -> str:
    """Write a figure with so many decimals; what was not measured or is not a number becomes a dash."""
    if value is None or not is_number(value):
        return NOT_MEASURED
    rounded = round(value, digits) + 0.0  # -0.0 + 0.0 is 0.0
    sign = "+" if signed else ""
    return f"{rounded:{sign}.{digits}f}" + (f" {unit}" if unit else "")


def significant(value: float | None, *, unit: str = "") -> str:
    """Write a figure of unknown magnitude with three significant digits."""
    if value is None or not is_number(value):
        return NOT_MEASURED
    shown = f"{value:.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"
    return shown + (f" {unit}" if unit else "")


def size(size_bytes: float | None) -> str:
    """Write a size in bytes in decimal units, as the contract counts them."""
    if size_bytes is None or not is_number(size_bytes):
        return NOT_MEASURED
    if size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    if size_bytes < 1e6:
        return f"{size_bytes / 1e3:.1f} kB"
    return f"{size_bytes / 1e6:.2f} MB"


def word(clause: Clause) -> str:
    """Give the human word for a clause."""
    return CLAUSE_WORDS.get(clause.name, plain(clause.name))


def broken_clause(clause: Clause) -> str:
    """Say what was measured against what was promised."""
    promised = significant(clause.promised, unit=clause.unit)
    if not is_number(clause.measured):
        return f"{word(clause)} is not a number (promised: at most {promised})"
    return f"{word(clause)} {significant(clause.measured, unit=clause.unit)} is over the promised {promised}"


def drop_interval(candidate: CandidateProof) -> str:
    """Write the 95 % interval of a candidate's drop of the metric."""
    accuracy = candidate.accuracy
    if accuracy is None or not is_number(accuracy.drop_low) or not is_number(accuracy.drop_high):
        return NOT_MEASURED
    return f"{figure(accuracy.drop_low, signed=True)} to {figure(accuracy.drop_high, signed=True)}"


def tail_latency(candidate: CandidateProof) -> float | None:
    """Give the p99 under Poisson load where it was measured, else the p99 of single calls; milliseconds."""
    if candidate.latency is None:
        return None
    poisson = candidate.latency.poisson_p99_ms
    return candidate.latency.p99_ms if poisson is None else poisson


def load_rps(proof: Proof) -> float | None:
    """Give the rate at which tail latencies were measured; None where they are of single calls."""
    rates = (candidate.latency.poisson_rps for candidate in proof.candidates if candidate.latency)
    return next((rate for rate in rates if rate is not None), None)


def timing_noise(proof: Proof) -> tuple[float, int] | None:
    """Give the widest spread of the source timed against itself, and the rounds; None where nothing was timed."""
    timed = [candidate.latency for candidate in proof.candidates if candidate.latency]
    if not timed:
        return None
    return max(latency.noise for latency in timed), min(latency.rounds for latency in timed)


def diverges(divergence: Divergence) -> str:
    """Say where the error of a candidate starts."""
    return (
        f"{plain(divergence.op)} '{plain(divergence.node or divergence.tensor)}' is the first stage that diverges: "
        f"{figure(divergence.sqnr_db, 1)} dB from inputs of {figure(divergence.inputs_sqnr_db, 1)} dB"
    )


def kept_nodes(kept: Kept) -> str:
    """Say which nodes stay in float, and why."""
    named = ", ".join(plain(node) for node in kept.nodes[:_MOST_NAMED])
    more = f" and {len(kept.nodes) - _MOST_NAMED} more" if len(kept.nodes) > _MOST_NAMED else ""
    return f"in float: {len(kept.nodes)} nodes, the {plain(kept.why)}: {named}{more}"


def attempt_figures(attempt: Attempt) -> str:
    """Write what an attempt measured, or its error."""
    if attempt.error:
        return plain(attempt.error)
    return "  ".join(f"{figure_word(name)} {significant(value)}" for name, value in attempt.figures.items())


def attempt_time(attempt: Attempt) -> str:
    """Say how long an attempt took, or that nothing had to be made."""
    return "from the cache" if attempt.is_cached else f"{figure(attempt.seconds, 0)} s"


def figure_word(name: str) -> str:
    """Give the human word for an attempt's figure."""
    return CLAUSE_WORDS.get(name, plain(name))


def reasons(candidate: CandidateProof, proof: Proof | None = None) -> list[str]:
    """Say why a candidate is not simply accepted: the promises that it breaks, else its own words.

    With its proof also whether fewer samples than others had were enough to refuse it.
    """
    over = [broken_clause(clause) for clause in broken(list(candidate.clauses))]
    if over and proof and candidate.accuracy:
        most = max(other.accuracy.samples for other in proof.candidates if other.accuracy)
        if candidate.accuracy.samples < most:
            over.append(f"{candidate.accuracy.samples} of {most} samples were enough to see that")
    return over or ([plain(candidate.reason)] if candidate.reason else [])


def repairs(candidate: CandidateProof) -> tuple[Attempt, ...]:
    """Give the attempts where there was more than the first; that one is told by the candidate itself."""
    return candidate.attempts if len(candidate.attempts) > 1 else ()


def in_order(proof: Proof) -> list[CandidateProof]:
    """Give the candidates with the winner first, then those that hold, then the others."""
    ranks = {"accepted": 1, "repaired": 1, "refused": 2, "failed": 3}
    return sorted(
        proof.candidates,
        key=lambda candidate: 0 if candidate.name == proof.winner else ranks.get(candidate.status, 4),
    )


def joined(pairs: Iterable[tuple[str, object]]) -> str:
    """Write names and values on one line."""
    return " · ".join(f"{plain(name)} {plain(value)}" for name, value in pairs)

"""Judge what was measured, choose the winner and write the proof."""

from collections.abc import Iterator
from dataclasses import dataclass

from ferryman.build.cache import package_versions
from ferryman.build.choose import HELD, choose, latency_figures
from ferryman.build.judge import why_refused
from ferryman.build.machine import describe_machine
from ferryman.build.performance import footprint, measure_latency
from ferryman.build.plan import Candidate, uncalibrated
from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.contract import Preference, broken, judge
from ferryman.core.errors import FerrymanError
from ferryman.core.proof import CandidateProof, Footprint, Latency, Proof
from ferryman.verify.figures import word

_PRAISE: dict[Preference, str] = {
    "latency": "the fastest",
    "size": "the smallest",
    "memory": "the leanest in memory",
    "accuracy": "the most accurate",
}


@dataclass(slots=True)
class Result:
    """Hold a candidate's line in the proof and, while it keeps the contract, its artifact."""

    candidate: Candidate
    proof: CandidateProof
    artifact: Artifact | None = None


def measure(workshop: Workshop, results: list[Result]) -> list[Result]:
    """Measure those that kept their accuracy, and judge the rest of the contract."""
    footprints: dict[str, Footprint] = {}
    artifacts: dict[str, Artifact] = {}
    for result in results:
        if result.artifact is None:
            continue
        try:
            footprints[result.proof.name] = footprint(workshop, result.artifact, result.proof.name)
            artifacts[result.proof.name] = result.artifact
        except FerrymanError as error:  # it kept its accuracy here, but can't be served
            result.artifact = None
            result.proof = result.proof.model_copy(update={"status": "failed", "reason": f"{error}"})
    latencies = measure_latency(workshop, artifacts) if artifacts else {}
    for result in results:
        if result.proof.name in latencies:
            result.proof = _judge(workshop, result.proof, latencies[result.proof.name], footprints[result.proof.name])
    return results


def _judge(workshop: Workshop, proof: CandidateProof, latency: Latency, footprint: Footprint) -> CandidateProof:
    contract = workshop.deployment.contract
    figures: dict[str, float | None] = {
        **latency_figures(contract, latency),
        "max_size_mb": footprint.size_mb,
        "max_rss_mb": footprint.rss_mb,
        "max_cold_start_s": footprint.cold_start_s,
    }
    clauses = judge(contract, figures)
    update: dict[str, object] = {"latency": latency, "footprint": footprint, "clauses": (*proof.clauses, *clauses)}
    if broken(clauses):
        update |= {"status": "refused", "reason": why_refused(clauses, precision="fp32")}
    return proof.model_copy(update=update)


def conclude(workshop: Workshop, results: list[Result]) -> tuple[Proof, Artifact]:
    """Choose the winner, or fall back to the source model as it is."""
    contract = workshop.deployment.contract
    winner = choose([result.proof for result in results], contract.prefer)
    if winner is None:
        chosen = _fallback(workshop, results)
    else:
        chosen = next(result for result in results if result.proof.name == winner.name)
    if chosen.artifact is None:
        reasons = "; ".join(f"{result.proof.name}: {result.proof.reason}" for result in results)
        raise FerrymanError(f"no candidate could be made: {reasons}", hint="ferryman doctor says what is missing")
    source = workshop.source_figures
    proof = Proof(
        model=workshop.deployment.model.name,
        source_digest=workshop.source.digest,
        source_format=workshop.source.format,
        samples=len(workshop.samples.items),
        metric=source.get("metric"),
        source_value=source.get("value"),
        source_figures=source.get("figures", {}),
        winner=chosen.proof.name,
        holds=winner is not None,
        verdict=_tell(winner, results, contract.prefer) if winner else _tell_failure(chosen.proof),
        candidates=tuple(result.proof for result in results),
        machine={**describe_machine(), "threads": str(workshop.threads)},
        versions=package_versions(),
        notes=tuple(_notes(workshop)),
    )
    return proof, chosen.artifact


def _notes(workshop: Workshop) -> Iterator[str]:
    """Say what the reader has to know: repairs of the source, and promises that nothing checks."""
    yield from (str(repair) for repair in workshop.source.loader.get("repairs", ()))
    contract = workshop.deployment.contract
    if contract.at_rps is not None and contract.p99_ms is None:
        yield "contract.at_rps says nothing without contract.p99_ms: no latency was promised"
    if "drift" in contract.model_fields_set:
        yield "contract.drift is kept in the bundle; nothing watches it yet"
    if workshop.deployment.targets:
        yield "[targets] are kept in the bundle; nothing deploys to them yet"


def _tell(winner: CandidateProof, results: list[Result], prefer: Preference) -> str:
    rivals = [result.proof for result in results if result.proof.status in HELD]
    verdict = f"{winner.name} keeps the contract"
    if len(rivals) > 1:
        verdict += f" and is {_PRAISE[prefer]} of the {len(rivals)} candidates that do"
        ratios = [proof.latency.ratio for proof in rivals if proof.latency]
        if prefer == "latency" and winner.latency and winner.latency.ratio > min(ratios):
            verdict = f"{winner.name} keeps the contract, is as fast as any that does, and is smaller"
    unmeasured = [word(clause) for clause in winner.clauses if clause.holds is None]
    if unmeasured:
        verdict += f"; NOT MEASURED: {', '.join(unmeasured)} (give data.evaluation with labels)"
    return verdict


def _tell_failure(fallback: CandidateProof) -> str:
    what = f"its plain conversion by {', '.join(fallback.steps)}" if fallback.steps else "the source model as it is"
    verdict = f"NO candidate keeps the contract: the bundle holds {what} ({fallback.name})"
    return f"{verdict}; its {fallback.reason}" if broken(list(fallback.clauses)) else verdict


def _fallback(workshop: Workshop, results: list[Result]) -> Result:
    """Give the full-precision candidate nearest to the source: no step at all, else the fewest.

    One that `build.candidates` leaves out is added to the results: something has to be bundled.
    """
    if not any(result.candidate.precision == "fp32" for result in results):
        left_out = uncalibrated(workshop.source.format, workshop.deployment.build)
        plain = [c for c in left_out if c.precision == "fp32" and not c.unavailable]
        nearest = sorted(plain, key=lambda c: len(c.steps))[:1]
        reason = "build.candidates leaves it out"
        results += [Result(c, untried(c, status="refused", reason=reason)) for c in nearest]
    exact = [result for result in results if result.candidate.precision == "fp32" and not result.candidate.unavailable]
    exact.sort(key=lambda result: len(result.candidate.steps))
    for result in exact:
        try:
            result.artifact = result.artifact or workshop.make(result.candidate)
            return result
        except FerrymanError:
            continue
    return results[0]


def untried(candidate: Candidate, *, status: str, reason: str) -> CandidateProof:
    """Give the line in the proof of a candidate that no step was run for."""
    return CandidateProof(
        name=candidate.name,
        format=candidate.format,
        precision=candidate.precision,
        steps=candidate.steps,
        status=status,
        reason=reason,
    )

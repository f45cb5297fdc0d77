"""Judge what was measured, choose the winner and write the proof."""

from collections.abc import Iterator

from ferryman.build.cache import package_versions
from ferryman.build.choose import HELD, PRAISE, choose, latency_figures
from ferryman.build.doubt import doubt_source
from ferryman.build.exports import Result, choose_exports, choose_targets, missing_exports
from ferryman.build.front import mark_front
from ferryman.build.judge import why_refused
from ferryman.build.machine import describe_machine
from ferryman.build.performance import footprint, measure_latency
from ferryman.build.plan import Candidate, uncalibrated
from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.contract import Preference, broken, judge
from ferryman.core.errors import FerrymanError
from ferryman.core.plugins import is_served, targets_of
from ferryman.core.proof import CandidateProof, Footprint, Latency, Proof
from ferryman.verify.figures import word


def measure(workshop: Workshop, results: list[Result]) -> list[Result]:
    """Measure those that kept their accuracy, and judge the rest of the contract."""
    footprints: dict[str, Footprint] = {}
    artifacts: dict[str, Artifact] = {}
    for result in results:
        if result.artifact is None:
            continue
        try:
            footprints[result.proof.name] = _footprint(workshop, result, result.artifact)
            artifacts[result.proof.name] = result.artifact
        except FerrymanError as error:  # it kept its accuracy here, but can't be served
            _fail(result, error)
    latencies, errors = _time(workshop, artifacts)
    for result in results:
        if result.proof.name in latencies:
            _judge(workshop, result, latencies[result.proof.name], footprints[result.proof.name])
        elif result.proof.name in errors:
            _fail(result, errors[result.proof.name])
    return results


def _fail(result: Result, error: FerrymanError) -> None:
    result.artifact = None
    result.proof = result.proof.model_copy(update={"status": "failed", "reason": f"{error}"})


def _time(workshop: Workshop, artifacts: dict[str, Artifact]) -> tuple[dict[str, Latency], dict[str, FerrymanError]]:
    """Time what is served together and each export alone, and give the errors of those that failed at it.

    An export that is slow here would disturb the tail of the others, and one that dies takes no other with it.
    """
    served = {name: artifact for name, artifact in artifacts.items() if is_served(artifact.format)}
    groups = [served] if served else []
    groups += [{name: artifact} for name, artifact in artifacts.items() if name not in served]
    latencies: dict[str, Latency] = {}
    errors: dict[str, FerrymanError] = {}
    while groups:
        group = groups.pop(0)
        first, last = len(latencies) + len(errors) + 1, len(latencies) + len(errors) + len(group)
        place = f"{first} of" if first == last else f"{first}-{last} of"
        try:
            stage = f"latency: {place} {len(artifacts)} candidates ({', '.join(group)})"
            latencies |= measure_latency(workshop, group, stage=stage)
        except FerrymanError as error:
            if len(group) == 1:
                errors |= dict.fromkeys(group, error)
            else:  # who of them? each alone tells
                groups += [{name: artifact} for name, artifact in group.items()]
    return latencies, errors


def _footprint(workshop: Workshop, result: Result, artifact: Artifact) -> Footprint:
    if result.candidate.serves:
        return footprint(workshop, artifact, result.proof.name)
    return Footprint(size_mb=artifact.size_bytes / 1e6)


def _judge(workshop: Workshop, result: Result, latency: Latency, footprint: Footprint) -> None:
    contract = workshop.deployment.contract
    figures: dict[str, float | None] = {"max_size_mb": footprint.size_mb}
    if result.candidate.serves:  # how fast an export runs, and in what memory, is its own device's matter
        figures |= latency_figures(contract, latency)
        figures |= {"max_rss_mb": footprint.rss_mb, "max_cold_start_s": footprint.cold_start_s}
    clauses = [clause for clause in judge(contract, figures) if clause.name in figures]
    together = (*result.proof.clauses, *clauses)
    update: dict[str, object] = {"latency": latency, "footprint": footprint, "clauses": together}
    if broken(clauses):
        update |= {"status": "refused", "reason": why_refused(clauses, precision="fp32")}
    result.proof = result.proof.model_copy(update=update)


def conclude(workshop: Workshop, results: list[Result]) -> tuple[Proof, Artifact, dict[str, Artifact]]:
    """Choose the winner, or fall back to the source model as it is, and the exports, by the candidates' names."""
    contract = workshop.deployment.contract
    winner = choose([result.proof for result in results if result.candidate.serves], contract.prefer)
    if winner is None:
        chosen = _fallback(workshop, results)
    else:
        chosen = next(result for result in results if result.proof.name == winner.name)
    if chosen.artifact is None:
        reasons = "; ".join(f"{result.proof.name}: {result.proof.reason}" for result in results)
        raise FerrymanError(f"no candidate could be made: {reasons}", hint="ferryman doctor says what is missing")
    source = workshop.source_figures
    exported, reference = choose_exports(workshop.deployment, results)
    targets = choose_targets(workshop.deployment, results, winner)
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
        verdict=_tell(winner, results, contract.prefer) if winner else _tell_failure(chosen.proof, results),
        candidates=mark_front([result.proof for result in results], contract),
        machine={**describe_machine(), "threads": str(workshop.threads)},
        versions=package_versions(),
        notes=(*_notes(workshop), *_late(results)),
        warnings=tuple(_warnings(workshop, results)),
        exports=exported,
        targets=targets,
        data=_data_used(workshop),
        reference=reference,
    )
    names = {*exported.values(), *(target.winner for target in targets.values()), reference} - {
        chosen.proof.name
    }  # the served model is in the bundle already
    return proof, chosen.artifact, {r.proof.name: r.artifact for r in results if r.artifact and r.proof.name in names}


def _notes(workshop: Workshop) -> Iterator[str]:
    """Say what the reader has to know: repairs of the source, and promises that nothing checks."""
    yield from (str(repair) for repair in workshop.source.loader.get("repairs", ()))
    contract = workshop.deployment.contract
    if contract.at_rps is not None and contract.p99_ms is None:
        yield "contract.at_rps says nothing without contract.p99_ms: no latency was promised"


def _warnings(workshop: Workshop, results: list[Result]) -> Iterator[str]:
    """Say what the reader must not miss though the contract holds."""
    if doubt := doubt_source(workshop):
        yield doubt
    if missing := missing_exports(workshop.deployment, results):
        yield f"asked for, and not exported: {', '.join(f'{name} ({why})' for name, why in missing.items())}"


def _data_used(workshop: Workshop) -> dict[str, str]:
    """Give the digests of the user's data; random inputs are nobody's data."""
    used = {"evaluation": workshop.samples, "calibration": workshop.calibration}
    return {
        name: samples.digest for name, samples in used.items() if samples and not samples.digest.startswith("random")
    }


def _late(results: list[Result]) -> Iterator[str]:
    late = [result.proof for result in results if result.proof.status == "not tried"]
    if late:
        yield f"NOT TRIED: {', '.join(proof.name for proof in late)}: {late[0].reason}"


def _tell(winner: CandidateProof, results: list[Result], prefer: Preference) -> str:
    rivals = [result.proof for result in results if result.candidate.serves and result.proof.status in HELD]
    verdict = f"{winner.name} keeps the contract"
    if len(rivals) > 1:
        verdict += f" and is {PRAISE[prefer]} of the {len(rivals)} candidates that do"
        ratios = [proof.latency.ratio for proof in rivals if proof.latency]
        if prefer == "latency" and winner.latency and winner.latency.ratio > min(ratios):
            verdict = f"{winner.name} keeps the contract, is as fast as any that does, and is smaller"
    unmeasured = [word(clause) for clause in winner.clauses if clause.holds is None]
    if unmeasured:
        verdict += f"; NOT MEASURED: {', '.join(unmeasured)} (give data.evaluation with labels)"
    return verdict


def _tell_failure(fallback: CandidateProof, results: list[Result]) -> str:
    what = f"its plain conversion by {', '.join(fallback.steps)}" if fallback.steps else "the source model as it is"
    some = " that was tried" if any(result.proof.status == "not tried" for result in results) else ""
    verdict = f"NO candidate{some} keeps the contract: the bundle holds {what} ({fallback.name})"
    return f"{verdict}; its {fallback.reason}" if broken(list(fallback.clauses)) else verdict


def _fallback(workshop: Workshop, results: list[Result]) -> Result:
    """Give the full-precision candidate nearest to the source: no step at all, else the fewest.

    One that `build.candidates` leaves out is added to the results: something has to be bundled.
    """
    if not any(result.candidate.is_exact and result.candidate.serves for result in results):
        source = workshop.source
        left_out = uncalibrated(source.format, workshop.deployment.build, precision=source.precision)
        plain = [c for c in left_out if c.is_exact and c.serves and not c.unavailable]
        nearest = sorted(plain, key=lambda c: len(c.steps))[:1]
        reason = "build.candidates leaves it out"
        results += [Result(c, untried(c, status="refused", reason=reason)) for c in nearest]
    served = [result for result in results if result.candidate.serves and not result.candidate.unavailable]
    exact = [result for result in served if result.candidate.is_exact]
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
        targets=targets_of(candidate.format),
    )

"""Check a bundle again, here: golden samples, then the promises that this machine can measure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ferryman.bundle.golden import GoldenCheck, check_golden
from ferryman.core.bundle import Bundle
from ferryman.core.contract import Clause, Contract, broken, judge
from ferryman.core.plugins import runtime_for
from ferryman.core.progress import Progress, silent
from ferryman.core.runtime import Session
from ferryman.core.task import Task, bind_task, infer_items
from ferryman.verify.footprint import measure_footprint
from ferryman.verify.latency import compare_latency, poisson_p99

_PROVED = ("max_drop", "max_score_shift", "max_error")
_BUDGET_S = 3.0
_POISSON_S = 5.0


@dataclass(frozen=True, slots=True)
class Verified:
    """Hold what a check of a bundle found. `golden` are the largest distances to the stored answers."""

    name: str
    digest: str
    golden: dict[str, float]
    golden_ok: bool
    clauses: tuple[Clause, ...]
    holds: bool
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def verify_bundle(bundle: Bundle, *, threads: int, progress: Progress = silent) -> Verified:
    """Answer the golden samples and measure latency, memory, size and cold start on this machine.

    The metric's drop and the score shift are the proof's: they don't depend on the machine while the golden samples
    answer right, and the labelled data stays with its owner. What the build itself did not accept never holds.
    """
    runtime = runtime_for(bundle.artifact.format, serves=True).require()()
    session: Session = runtime.load(bundle.artifact, threads=threads)
    try:
        task = bind_task(bundle.deployment.task, session.signature)
        progress("golden samples")
        checks = check_golden(bundle, task, session)
        measured, notes = _measure(bundle, task, session, threads, progress)
    finally:
        session.close()
    winner = next(c for c in bundle.proof.candidates if c.name == bundle.proof.winner)
    stored = [clause for clause in winner.clauses if clause.name in _PROVED]
    clauses = (*stored, *judge(bundle.deployment.contract, measured))
    golden_ok = bool(checks) and not any(check.beyond for check in checks)
    return Verified(
        name=bundle.manifest.name,
        digest=bundle.manifest.digest,
        golden=_worst(checks),
        golden_ok=golden_ok,
        clauses=clauses,
        holds=bundle.proof.holds and golden_ok and not broken(list(clauses)),
        notes=(*_notes_of_proof(bundle, stored), *notes, *_notes_of_golden(bundle, checks)),
        warnings=bundle.proof.warnings,
    )


def _worst(checks: Sequence[GoldenCheck]) -> dict[str, float]:
    """Give each figure's largest value; what is not a number is larger than all."""
    worst: dict[str, float] = {}
    for check in checks:
        for name, value in check.agreement.figures.items():
            worst[name] = float(np.maximum(worst.get(name, 0.0), value))
    return worst


def _notes_of_proof(bundle: Bundle, stored: Sequence[Clause]) -> list[str]:
    notes = [] if bundle.proof.holds else [f"the build did not accept it: {bundle.proof.verdict}"]
    unmeasured = [clause.name for clause in stored if clause.holds is None]
    return notes + [f"{name} was not measured when it was built, and can't be here" for name in unmeasured]


def _notes_of_golden(bundle: Bundle, checks: Sequence[GoldenCheck]) -> list[str]:
    if not checks:
        return ["the bundle has no golden samples: nothing tells whether it answers right"]
    return [
        f"golden sample '{check.name}': {name} {value:.4g} is beyond {bundle.tolerance[name]:g}"
        for check in checks
        for name, value in check.beyond.items()
    ]


def _measure(
    bundle: Bundle, task: Task, session: Session, threads: int, progress: Progress
) -> tuple[dict[str, float | None], list[str]]:
    contract: Contract = bundle.deployment.contract
    items = [golden.item for golden in bundle.golden]
    size = session.signature.max_batch or 1
    prepared: list[Any] = [task.preprocess([item] * size).inputs for item in items]  # tensors by name
    measured: dict[str, float | None] = {"max_size_mb": bundle.artifact.size_bytes / 1e6}
    if not prepared:
        return measured, []
    if contract.p99_ms is not None and contract.at_rps is not None:
        progress(f"Poisson arrivals at {contract.at_rps:g} requests/s")
        seconds = float(np.clip(100 / contract.at_rps, _POISSON_S, 4 * _POISSON_S))
        measured["p99_ms"], _ = poisson_p99(
            lambda index: infer_items(task, session, [items[index % len(items)]]),
            rps=contract.at_rps,
            seconds=seconds,
            seed=bundle.deployment.build.seed,
        )
    elif contract.p99_ms is not None:
        calls = {"model": lambda index: session.infer(prepared[index % len(prepared)])}
        measured["p99_ms"] = compare_latency(calls, "model", budget_s=_BUDGET_S, progress=progress)["model"].p99_ms
    progress("memory and cold start in a fresh process")
    prints = measure_footprint(bundle.artifact, prepared[0], threads=threads)
    measured |= {"max_rss_mb": prints.rss_mb, "max_cold_start_s": prints.cold_start_s}
    notes = [f"fresh process: {prints.rss_mb or 0:.0f} MB, first answer after {prints.cold_start_s or 0:.2f} s"]
    return measured, notes

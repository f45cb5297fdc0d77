"""Measure the candidates that kept their accuracy: latency in turns, Poisson arrivals, memory, cold start."""

from collections.abc import Callable
from typing import cast

import numpy as np
from pydantic import JsonValue

from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.proof import Footprint, Latency
from ferryman.core.runtime import Session
from ferryman.core.signature import Tensors
from ferryman.core.task import Samples
from ferryman.verify.examine import PreparedSamples
from ferryman.verify.footprint import measure_footprint
from ferryman.verify.latency import compare_latency, poisson_p99

_TIMED_SAMPLES = 8
_BUDGET_S = 8.0
_POISSON_BUDGET_S = 45.0
_POISSON_S = (4.0, 10.0)


def measure_latency(workshop: Workshop, artifacts: dict[str, Artifact], source: str) -> dict[str, Latency]:
    """Time all artifacts turn by turn against `source`, one request at a time, then each alone at the contract's rate.

    p50 to p99 and the ratio are of the engine alone. The Poisson figure takes the whole way from a sample to its
    answer (decode, preprocess, infer, postprocess), which is what a caller waits for.
    """

    def run() -> JsonValue:
        singles = _singles(workshop)
        sessions = {name: workshop.open(artifact) for name, artifact in artifacts.items()}
        calls = {name: _call(session, singles) for name, session in sessions.items()}
        taken = compare_latency(calls, source, budget_s=_BUDGET_S, progress=workshop.progress)
        seconds = float(np.clip(_POISSON_BUDGET_S / len(calls), *_POISSON_S))
        for name in taken:
            if name != source:
                taken[name] = _with_poisson(workshop, sessions[name], taken[name], name=name, seconds=seconds)
        for session in sessions.values():
            session.close()
        return {name: latency.model_dump_json() for name, latency in taken.items()}

    contract = workshop.deployment.contract
    digests: JsonValue = {name: artifact.digest for name, artifact in artifacts.items()}
    key: JsonValue = [digests, source, workshop.samples.digest, workshop.threads, contract.at_rps, contract.p99_ms]
    stored = cast(dict[str, str], workshop.cache.values("latency", key, run))
    return {name: Latency.model_validate_json(latency) for name, latency in stored.items()}


def _singles(workshop: Workshop) -> list[Tensors]:
    items, names = workshop.samples.items[:_TIMED_SAMPLES], workshop.samples.names[:_TIMED_SAMPLES]
    size = workshop.source.signature.max_batch
    return [
        PreparedSamples(workshop.task, Samples([item], [name]), max_batch=size)[0].inputs
        for item, name in zip(items, names, strict=True)
    ]


def _call(session: Session, singles: list[Tensors]) -> Callable[[int], object]:
    return lambda index: session.infer(singles[index % len(singles)])


def _with_poisson(workshop: Workshop, session: Session, latency: Latency, *, name: str, seconds: float) -> Latency:
    contract = workshop.deployment.contract
    if contract.at_rps is None or contract.p99_ms is None:
        return latency
    items = workshop.samples.items[:_TIMED_SAMPLES]
    size = workshop.source.signature.max_batch

    def answer(index: int) -> object:
        pick = index % len(items)
        one = Samples([items[pick]], [workshop.samples.names[pick]])
        batch = PreparedSamples(workshop.task, one, max_batch=size)[0]
        return workshop.task.postprocess(session.infer(batch.inputs), batch)

    workshop.progress(f"{name}: Poisson arrivals at {contract.at_rps:g} requests/s")
    p99_ms, count = poisson_p99(answer, rps=contract.at_rps, seconds=seconds, seed=workshop.seed)
    update = {"poisson_p99_ms": p99_ms, "poisson_rps": contract.at_rps, "poisson_requests": count}
    return latency.model_copy(update=update)


def footprint(workshop: Workshop, artifact: Artifact, name: str) -> Footprint:
    """Measure a fresh process with this artifact."""

    def run() -> JsonValue:
        workshop.progress(f"{name}: memory and cold start in a fresh process")
        return measure_footprint(artifact, _singles(workshop)[0], threads=workshop.threads).model_dump_json()

    key: JsonValue = [artifact.digest, workshop.threads, workshop.samples.digest]
    return Footprint.model_validate_json(cast(str, workshop.cache.values("footprint", key, run)))

"""Measure the candidates that kept their accuracy: latency in turns, Poisson arrivals, memory, cold start."""

from contextlib import ExitStack, closing
from typing import cast

import numpy as np
from pydantic import JsonValue

from ferryman.build.machine import describe_machine
from ferryman.build.workshop import Workshop
from ferryman.core.artifact import Artifact
from ferryman.core.contract import tolerated
from ferryman.core.plugins import is_served
from ferryman.core.progress import Progress
from ferryman.core.proof import Footprint, Latency
from ferryman.core.runtime import Session
from ferryman.core.signature import Tensors
from ferryman.core.task import Samples
from ferryman.verify.examine import PreparedSamples
from ferryman.verify.footprint import measure_footprint
from ferryman.verify.latency import call_in_turn, compare_latency, poisson_p99

_TIMED_SAMPLES = 8
_SOURCE = "\0source"
_BUDGET_S = 8.0
_POISSON_BUDGET_S = 45.0
_POISSON_S = (4.0, 10.0)


def measure_latency(
    workshop: Workshop, artifacts: dict[str, Artifact], *, stage: str = "latency"
) -> dict[str, Latency]:
    """Time all artifacts turn by turn with the source, one request at a time, then each alone at the contract's rate.

    p50 to p99 and the ratio are of the engine alone. The Poisson figure takes the whole way from a sample to its
    answer (decode, preprocess, infer, postprocess), which is what a caller waits for. Raises what loading and running
    raise.
    """

    def run() -> JsonValue:
        inputs = singles(workshop, workshop.source)
        with ExitStack() as opened:
            sessions = {name: opened.enter_context(closing(workshop.open(a))) for name, a in artifacts.items()}
            source, again = (opened.enter_context(closing(workshop.open(workshop.source))) for _ in range(2))
            calls = {
                name: call_in_turn(session, singles(workshop, artifacts[name])) for name, session in sessions.items()
            }
            calls[_SOURCE] = call_in_turn(source, inputs)
            noise = call_in_turn(again, inputs)  # a session of its own: two loads of one file are not equally fast
            taken = compare_latency(calls, _SOURCE, again=noise, budget_s=_BUDGET_S, progress=_named(workshop, stage))
            seconds = float(np.clip(_POISSON_BUDGET_S / len(calls), *_POISSON_S))
            return {
                name: (
                    _with_poisson(workshop, (name, artifacts[name], session), taken[name], seconds=seconds)
                    if is_served(artifacts[name].format)
                    else taken[name]
                ).model_dump_json()
                for name, session in sessions.items()
            }

    contract = workshop.deployment.contract
    ran: JsonValue = {name: workshop.run_by(artifact) for name, artifact in artifacts.items()}
    key: JsonValue = [ran, _measured_on(workshop), contract.at_rps, contract.p99_ms]
    stored = cast(dict[str, str], workshop.cache.values("latency", key, run))
    return {name: Latency.model_validate_json(latency) for name, latency in stored.items()}


def _named(workshop: Workshop, name: str) -> Progress:
    def tell(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
        workshop.progress(name, done=done, total=total, note=note)

    return tell


def _measured_on(workshop: Workshop) -> JsonValue:
    machine = cast(JsonValue, describe_machine())
    return [
        machine,
        workshop.threads,
        workshop.run_by(workshop.source),
        workshop.samples.digest,
        workshop.task_key,
        workshop.seed,
    ]


def singles(workshop: Workshop, artifact: Artifact) -> list[Tensors]:
    """Give the inputs of the samples that are timed, one request each, filled up to the artifact's fixed batch."""
    items, names = workshop.samples.items[:_TIMED_SAMPLES], workshop.samples.names[:_TIMED_SAMPLES]
    size = workshop.batch_of(artifact)
    return [
        PreparedSamples(workshop.task, Samples([item], [name]), max_batch=size)[0].inputs
        for item, name in zip(items, names, strict=True)
    ]


def _with_poisson(
    workshop: Workshop, opened: tuple[str, Artifact, Session], latency: Latency, *, seconds: float
) -> Latency:
    contract = workshop.deployment.contract
    name, artifact, session = opened
    if contract.at_rps is None or contract.p99_ms is None:
        return latency
    items = workshop.samples.items[:_TIMED_SAMPLES]
    size = workshop.batch_of(artifact)

    def answer(index: int) -> object:
        pick = index % len(items)
        one = Samples([items[pick]], [workshop.samples.names[pick]])
        batch = PreparedSamples(workshop.task, one, max_batch=size)[0]
        return workshop.task.postprocess(session.infer(batch.inputs), batch)

    workshop.progress(f"{name}: Poisson arrivals at {contract.at_rps:g} requests/s")
    p99_ms, count = poisson_p99(answer, rps=contract.at_rps, seconds=seconds, seed=workshop.seed)
    if p99_ms > tolerated(contract.p99_ms):
        # What else the machine did only ever adds time: a promise is broken when it is broken twice.
        again_ms, count = poisson_p99(answer, rps=contract.at_rps, seconds=seconds, seed=workshop.seed + 1)
        p99_ms = min(p99_ms, again_ms)
    update = {"poisson_p99_ms": p99_ms, "poisson_rps": contract.at_rps, "poisson_requests": count}
    return latency.model_copy(update=update)


def footprint(workshop: Workshop, artifact: Artifact, name: str) -> Footprint:
    """Measure a fresh process with this artifact."""

    def run() -> JsonValue:
        workshop.progress(f"{name}: memory and cold start in a fresh process")
        return measure_footprint(artifact, singles(workshop, artifact)[0], threads=workshop.threads).model_dump_json()

    key: JsonValue = [workshop.run_by(artifact), _measured_on(workshop)]
    return Footprint.model_validate_json(cast(str, workshop.cache.values("footprint", key, run)))

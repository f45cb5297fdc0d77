"""Bring a bundle to life: its runtime, its task, and proof that it still answers as it did when it was verified."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ferryman.bundle.golden import GoldenCheck, check_golden
from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError, WrongAnswers
from ferryman.core.plugins import runtime_for
from ferryman.core.runtime import Runtime, Session
from ferryman.core.task import Task, bind_task
from ferryman.monitor.baseline import Baseline
from ferryman.monitor.signals.read import Signals
from ferryman.server.data.items import Refuse, kind_of_items, refusal_of_missing
from ferryman.server.data.job import GoldenVerdict, Loaded
from ferryman.server.data.worker.batching import prove_batching
from ferryman.server.data.worker.engine import open_engine
from ferryman.server.data.worker.order import LoadOrder

_log = logging.getLogger("ferryman.server")


@dataclass(frozen=True, slots=True)
class Model:
    """Hold what answers in this process; `fixed_batch` is the number of rows that every call must have."""

    session: Session
    task: Task
    fixed_batch: int | None
    max_batch: int
    refuse: Refuse | None = None
    signals: Signals | None = None  # None: the bundle has no baseline to set them beside


def bring_up(order: LoadOrder) -> tuple[Model, Loaded]:
    """Load a bundle, ask it its golden samples, which warms it up, and find out whether it may be batched.

    Raises WrongAnswers, and what reading and loading a bundle raise.
    """
    began_s = time.perf_counter()
    bundle = load_bundle(order.path)
    if order.digest not in ("", bundle.manifest.digest):
        raise BundleError(f"{order.path} was replaced since it was checked", hint="load the version again")
    threads = bundle.threads(order.threads)
    session = _open(bundle, order, threads)
    task = bind_task(bundle.deployment.task, session.signature)
    samples = _check_golden(bundle, task, session)
    batching = prove_batching(bundle, task, session, most=order.max_batch, threads=threads)
    refuse = refusal_of_missing(bundle, task)
    baseline = Baseline.from_json(bundle.baseline)
    is_watched = baseline is not None and bool(baseline.signals)
    signals = Signals(bundle.deployment.task, session.signature, baseline) if is_watched else None
    model = Model(session, task, session.signature.max_batch, batching.max_batch, refuse, signals)
    loaded = Loaded(
        signature=session.signature,
        takes=kind_of_items(bundle),
        golden=GoldenVerdict("", samples),
        max_batch=batching.max_batch,
        why_unbatched=batching.why_not,
        releases_gil=bool(getattr(session, "releases_gil", False)),
        load_s=time.perf_counter() - began_s,
        engine=order.engine.name if order.engine else "",
    )
    return model, loaded


def _open(bundle: Bundle, order: LoadOrder, threads: int) -> Session:
    if order.engine is not None:
        return open_engine(bundle, order, order.engine, threads=threads)
    runtime: Runtime = runtime_for(bundle.manifest.format, serves=True).require()()
    return runtime.load(bundle.artifact, threads=threads)


def _check_golden(bundle: Bundle, task: Task, session: Session) -> int:
    checks = check_golden(bundle, task, session)
    if wrong := [check for check in checks if check.beyond]:
        explained = _explain(wrong, checks, bundle.tolerance)
        raise WrongAnswers(explained, hint="this machine or its engine computes otherwise")
    if not checks:
        _log.warning("model '%s' has no golden samples: it is served unchecked", bundle.manifest.name)
    return len(checks)


def _explain(wrong: Sequence[GoldenCheck], checks: Sequence[GoldenCheck], tolerance: Mapping[str, float]) -> str:
    figures = ", ".join(f"{name} {value:.4g} over {tolerance[name]:.4g}" for name, value in wrong[0].beyond.items())
    return f"answers {len(wrong)} of {len(checks)} golden samples wrong, first '{wrong[0].name}': {figures}"

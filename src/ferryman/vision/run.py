"""Run a plan until its cameras end or it is stopped."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ferryman.bundle.read import load_bundle
from ferryman.client.access import NOBODY, Access
from ferryman.core.errors import ConfigError
from ferryman.core.task import Answer
from ferryman.vision.engine import LocalEngine, RemoteEngine
from ferryman.vision.pipeline import Pipeline, Seen
from ferryman.vision.settings import RunPlan
from ferryman.vision.view import Latest, View, standing

_TICK_S = 0.2


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Say where the view listens (port None: nowhere), and how long to run at most, in seconds (None: no end)."""

    host: str = "127.0.0.1"
    port: int | None = None
    duration_s: float | None = None
    access: Access = NOBODY


@dataclass(frozen=True, slots=True)
class Told:
    """Hold what one frame showed: camera, frame number, its time in the source, its age in s, and the answer."""

    camera: str
    frame: int
    media_s: float
    age_s: float
    answer: Answer


def run_plan(
    plan: RunPlan,
    settings: RunSettings,
    *,
    ready: Callable[[str], object],
    tell: Callable[[Told], object] | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:  # JSON
    """Run it; gives each camera's final figures. `ready` is told the view's address once the model answers right."""
    engine = _engine(plan, settings.access)
    latest = Latest()
    keep = _Chosen(plan)

    def see(seen: Seen) -> None:
        answer = keep(seen.answer)
        latest.put(Seen(seen.camera, seen.frame, answer, seen.stage_s))
        if tell is not None:
            age_s = time.monotonic() - seen.frame.captured_s
            tell(Told(seen.camera, seen.frame.number, seen.frame.media_s, age_s, answer))

    pipeline = Pipeline(plan.cameras, engine, see, batch=plan.pipeline.batch)
    try:
        if settings.port is None:
            ready("")
            return _until_done(pipeline, settings.duration_s, stop or threading.Event())
        with View(pipeline, latest, engine.task, host=settings.host, port=settings.port) as view:
            ready(view.url)
            return _until_done(pipeline, settings.duration_s, stop or threading.Event())
    finally:
        engine.close()


def _engine(plan: RunPlan, access: Access) -> LocalEngine | RemoteEngine:
    if plan.bundle is not None:
        bundle = load_bundle(plan.bundle)
        if bundle.deployment.task.kind not in ("detect", "classify"):
            raise ConfigError(
                f"{plan.bundle} is a model for {bundle.deployment.task.kind}: cameras need one that takes pictures",
                hint="name a bundle of a detector or a classifier",
            )
        return LocalEngine(bundle, threads=plan.pipeline.threads)
    section = plan.pipeline
    return RemoteEngine(section.infer, plan.model, plan.task, patience_s=section.patience_s, access=access)


def _until_done(pipeline: Pipeline, duration_s: float | None, stop: threading.Event) -> dict[str, Any]:  # JSON
    end_s = None if duration_s is None else time.monotonic() + duration_s
    with pipeline:
        while not pipeline.join(_TICK_S):
            if stop.is_set() or (end_s is not None and time.monotonic() >= end_s):
                break
    return standing(pipeline, time.monotonic())


class _Chosen:
    """Leave out boxes that are too unsure, or of classes that nobody asked for."""

    def __init__(self, plan: RunPlan) -> None:
        self._least = plan.pipeline.min_score
        self._labels = frozenset(plan.pipeline.labels)

    def __call__(self, answer: Answer) -> Answer:
        if "boxes" not in answer:
            return answer
        kept = [
            place
            for place, (score, label) in enumerate(zip(answer["scores"], answer["labels"], strict=True))
            if score >= self._least and (not self._labels or label in self._labels)
        ]
        return {name: [answer[name][place] for place in kept] for name in ("boxes", "scores", "classes", "labels")}

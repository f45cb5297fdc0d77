"""Everything that one build works with: the source, its task, the user's samples, and the cache."""

import json
import math
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue

from ferryman.build.cache import Cache, digest_key
from ferryman.build.judge import accuracy_clauses, is_lost
from ferryman.build.machine import describe_processor
from ferryman.build.plan import Candidate
from ferryman.core.artifact import Artifact
from ferryman.core.contract import broken
from ferryman.core.deployment import Deployment
from ferryman.core.errors import ConfigError, NotApplicable
from ferryman.core.limits import Limits
from ferryman.core.plugins import find, runtime_for
from ferryman.core.progress import Progress, silent
from ferryman.core.runtime import Runtime, Session, available_cores
from ferryman.core.step import Step, StepContext
from ferryman.core.task import Answer, Samples, Task
from ferryman.core.toolchain import find_toolchain
from ferryman.optimize.clean import clean
from ferryman.verify.early import Examiner
from ferryman.verify.examine import (
    Answers,
    CalibrationTensors,
    Examination,
    PreparedSamples,
    Reference,
    answer_samples,
    first_outputs,
    refer,
)

_LEAST_JUDGED_S = 20.0
"""Seconds that what was made is given to answer the samples, at least: a budget of time that is up is no verdict."""
PROBED_SAMPLES = 16
"""Calibration samples that are enough to rank parts of a graph by the harm of quantizing them."""


@dataclass
class Workshop:
    """Make and examine artifacts of one deployment; each result is looked up in the cache first.

    At `deadline` (time.monotonic) examinations (a little later) and steps in toolchains end: they fail.
    """

    deployment: Deployment
    source: Artifact
    task: Task
    samples: Samples
    calibration: Samples | None
    cache: Cache
    progress: Progress
    deadline: float = math.inf
    _references: dict[int | None, Reference] = field(default_factory=dict, init=False, repr=False)

    @property
    def threads(self) -> int:
        """Give the cores that one inference uses."""
        return self.deployment.build.threads or available_cores()

    @cached_property
    def base(self) -> Artifact:
        """Give what steps start from: the source, cleaned up where it is ONNX."""
        if self.source.format != "onnx":
            return self.source
        return self.cache.artifact("clean", self._clean_key, lambda workspace: clean(self.source, workspace))

    @property
    def _clean_key(self) -> JsonValue:
        return [self.source.digest, self.source.signature.model_dump_json()]

    @property
    def seed(self) -> int:
        """Give the seed of everything random."""
        return self.deployment.build.seed

    def make(
        self, candidate: Candidate, options: dict[str, Any] | None = None, *, progress: Progress | None = None
    ) -> Artifact:
        """Run a candidate's steps; `options` (its own) go to the last one, over what ferryman.toml sets."""
        artifact = self.base
        named = _named(candidate, progress or self.progress)
        for name in candidate.steps:
            chosen = dict(self.deployment.build.options.get(name, {}))
            if name == candidate.steps[-1]:
                chosen |= options or {}
            artifact = self._run_step(name, make_step(name, chosen), artifact, named)
        # a step tells what it did itself: of what was pruned before it, "int8" is half the truth
        return replace(artifact, precision=candidate.precision) if "pruned" in candidate.precision else artifact

    def probe(self, candidate: Candidate, options: dict[str, Any], workspace: Path) -> Artifact:
        """Run a candidate's steps as `make` does, but write the last one's artifact into `workspace`, uncached."""
        *before, last = candidate.steps
        source = self.make(replace(candidate, steps=tuple(before)), progress=silent)
        chosen = {**self.deployment.build.options.get(last, {}), **options}
        return self._perform(make_step(last, chosen), source, workspace, silent)

    def _run_step(self, name: str, step: Step, source: Artifact, progress: Progress) -> Artifact:
        key = self.step_key(step, source)

        def run(workspace: Path) -> Artifact:
            progress(f"{name} {_shown(step)}".strip())
            return self._perform(step, source, workspace, progress)

        def find_refusal() -> JsonValue:
            try:
                self.cache.artifact(name, key, run)
            except NotApplicable as error:
                return [f"{error}", error.hint]
            return None

        if refusal := cast("list[str] | None", self.cache.values("refusal", key, find_refusal)):
            raise NotApplicable(refusal[0], hint=refusal[1])
        return self.cache.artifact(name, key, run)

    def step_key(self, step: Step, source: Artifact) -> JsonValue:
        """Give all that a step's result depends on: its options, its converter, the source as read, the calibration."""
        settings = cast(dict[str, JsonValue], asdict(step))  # type: ignore[call-overload]  # steps are dataclasses
        samples = self.calibration.digest if step.calibrates and self.calibration else ""
        read_as = [source.digest, source.signature.model_dump_json(), json.dumps(dict(source.loader), sort_keys=True)]
        made_with = [_toolchain_digest(step), *(describe_processor() if getattr(step, "on_machine", False) else ())]
        return [step.name, settings, cast(JsonValue, read_as), samples, self.task_key, self.seed, *made_with]

    def _perform(self, step: Step, source: Artifact, workspace: Path, progress: Progress) -> Artifact:
        samples = self.calibration if step.calibrates else None
        context = StepContext(
            workspace,
            CalibrationTensors(self.prepared_calibration) if samples else (),
            calibration_digest=digest_key([samples.digest if samples else "", self.task_key]),
            cache=self.cache.folder / "ranges",
            seed=self.seed,
            threads=self.threads,
            progress=progress,
            limits=self._limits,
        )
        return replace(step.run(source, context), made_by=(*source.made_by, step.name))

    @property
    def _limits(self) -> Limits:
        settings = self.deployment.build
        left_s = max(self.deadline - time.monotonic(), 1.0)
        return Limits(min(settings.step_time_s, left_s), settings.step_memory_mb)

    @cached_property
    def task_key(self) -> JsonValue:
        """Give the task's settings: what answers depend on beside the model."""
        return cast(JsonValue, self.deployment.task.model_dump(mode="json"))

    @cached_property
    def prepared(self) -> PreparedSamples:
        """Give the evaluation samples as model inputs."""
        return PreparedSamples(self.task, self.samples, max_batch=self.source.signature.max_batch)

    @cached_property
    def prepared_calibration(self) -> PreparedSamples:
        """Give the calibration samples as model inputs; there are some wherever this is asked for."""
        samples = self.calibration if self.calibration is not None else self.samples
        alone = 1 if hasattr(self.task, "rows_a_call") else None  # texts differ in length: each is a sample
        return PreparedSamples(self.task, samples, max_batch=self.source.signature.max_batch, rows_a_call=alone)

    def open(self, artifact: Artifact) -> Session:
        """Load an artifact with the cores of this build."""
        runtime: Runtime = runtime_for(artifact.format).require()()
        return runtime.load(artifact, threads=self.threads)

    def answer(
        self, artifact: Artifact, prepared: PreparedSamples, *, stage: str, progress: Progress | None = None
    ) -> Answers:
        """Run an artifact over samples, in calls of the batch that it takes."""
        sized = prepared.sized(artifact.signature.max_batch)
        with closing(self.open(artifact)) as session:
            return answer_samples(self.task, session, sized, progress=progress or self.progress, stage=stage)

    @cached_property
    def reference(self) -> Reference:
        """Answer every sample with the source model."""
        given = self.answer(self.source, self.prepared, stage="source model on the samples")
        return refer(self.task, self.prepared, given, metric=self.deployment.contract.metric)

    def reference_for(self, artifact: Artifact) -> Reference:
        """Give the reference with raw outputs of the calls that `artifact` gets, which may be of another batch."""
        sized = self.prepared.sized(artifact.signature.max_batch)
        if sized is self.prepared:
            return self.reference
        batch = artifact.signature.max_batch
        if batch not in self._references:
            with closing(self.open(self.source)) as session:
                given = replace(self.reference.given, outputs=first_outputs(session, sized))
            self._references[batch] = replace(self.reference, prepared=sized, given=given)
        return self._references[batch]

    @cached_property
    def calibration_reference(self) -> Reference:
        """Answer a few calibration samples with the source model: what sensitivities are measured against."""
        everything = self.prepared_calibration.samples
        take = range(0, len(everything.items), max(1, len(everything.items) // PROBED_SAMPLES))[:PROBED_SAMPLES]
        few = Samples([everything.items[i] for i in take], [everything.names[i] for i in take], None)
        prepared = PreparedSamples(self.task, few, max_batch=self.source.signature.max_batch)
        return refer(self.task, prepared, self.answer(self.source, prepared, stage="source model"), metric=None)

    @cached_property
    def source_figures(self) -> dict[str, Any]:  # JSON: the metric's name, value and figures
        """Give the source model's metric; empty where there are no labels."""

        def measure() -> JsonValue:
            measured = self.reference.measurement
            if measured is None:
                return {}
            return {
                "metric": measured.metric,
                "value": measured.value,
                "higher_is_better": measured.higher_is_better,
                "figures": dict(measured.figures),
            }

        return cast(dict[str, Any], self.cache.values("source", self._examination_key(self.source), measure))

    def _examination_key(self, artifact: Artifact) -> JsonValue:
        contract = self.deployment.contract
        ran = [self.run_by(artifact), self.run_by(self.source)]
        return [*ran, self.source.digest, self.task_key, self.samples.digest, contract.metric, self.seed]

    def run_by(self, artifact: Artifact) -> JsonValue:
        """Give what an artifact's answers depend on: its bytes, how they are loaded, the runtime and its toolchain."""
        runtime = runtime_for(artifact.format)
        loaded_as = json.dumps(dict(artifact.loader), sort_keys=True)
        return [artifact.digest, loaded_as, runtime.name, _toolchain_digest(runtime.cls)]

    def batch_of(self, artifact: Artifact) -> int | None:
        """Give the fixed batch of calls to an artifact: its own, else the source's; None where both are free."""
        return artifact.signature.max_batch or self.source.signature.max_batch

    def examine(self, artifact: Artifact, name: str, *, precision: str = "") -> Examination:
        """Set an artifact beside the source on the user's samples.

        With `precision`, an artifact that breaks the contract beyond doubt is given up after a part of them.
        """
        contract = self.deployment.contract
        how: dict[str, Any] = {"stage": f"{name}: samples", "metric": contract.metric, "seed": self.seed}
        key = self._examination_key(artifact)
        sized = self.prepared.sized(artifact.signature.max_batch)
        load = partial(self.open, artifact)
        deadline = max(self.deadline, time.monotonic() + _LEAST_JUDGED_S)
        with Examiner(self.task, sized, load, self.progress, deadline=deadline) as examiner:

            def look() -> JsonValue:
                seen = examiner.part(self.reference_for(artifact), **how)
                return seen.model_dump_json() if seen else None

            if precision and examiner.has_part and (stored := self.cache.values("part", key, look)):
                seen = Examination.model_validate_json(stored)
                clauses = accuracy_clauses(contract, seen, precision=precision, samples=self.samples)
                if broken(clauses) and is_lost(contract, seen, precision=precision):
                    return seen
            stored = self.cache.values(
                "examination", key, lambda: examiner.whole(self.reference_for(artifact), **how).model_dump_json()
            )
        return Examination.model_validate_json(stored)

    def is_made(self, candidate: Candidate) -> bool:
        """Tell whether every step of a candidate lies in the cache; runs none."""
        made = self.source if self.source.format != "onnx" else self.cache.find("clean", self._clean_key)
        for name in candidate.steps:
            step = make_step(name, dict(self.deployment.build.options.get(name, {})))
            made = self.cache.find(name, self.step_key(step, made)) if made else None
        return made is not None

    def answers(self, artifact: Artifact, picked: list[int]) -> list[Answer]:
        """Give an artifact's answers to some of the samples, one by one as a server would."""

        def run() -> JsonValue:
            few = Samples([self.samples.items[i] for i in picked], [self.samples.names[i] for i in picked])
            size = self.batch_of(artifact)
            answers: list[Answer] = []
            with closing(self.open(artifact)) as session:
                for item, label in zip(few.items, few.names, strict=True):
                    one = PreparedSamples(self.task, Samples([item], [label]), max_batch=size)
                    answers.extend(answer_samples(self.task, session, one).answers)
            return cast(JsonValue, answers)

        key: JsonValue = [self._examination_key(artifact), list(picked)]
        return cast(list[Answer], self.cache.values("answers", key, run))


def make_step(name: str, options: dict[str, Any]) -> Step:  # the step's own options
    """Build a step from its options; raises ConfigError for one that it doesn't have."""
    cls = find("steps", name).require()
    known = {field.name for field in fields(cls)}
    for option in options:
        if option not in known:
            raise ConfigError(
                f"step '{name}' has no option '{option}'", hint=f"its options: {', '.join(sorted(known)) or 'none'}"
            )
    try:
        return cast(Step, cls(**{key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"build.options.{name}: {error}", hint="ferryman schema shows the steps' options") from None


def _toolchain_digest(plugin: object) -> str:
    """Give the digest of the toolchain that a step or a runtime works in; empty where it needs none."""
    name = getattr(plugin, "toolchain", "")
    return find_toolchain(name).digest if name else ""


def _named(candidate: Candidate, progress: Progress) -> Progress:
    def tell(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
        progress(f"{candidate.name}: {stage}", done=done, total=total, note=note)

    return tell


def _shown(step: Step) -> str:
    """Write the options that are not the step's usual ones."""
    usual = {entry.name: entry.default for entry in fields(step)}  # type: ignore[arg-type]  # steps are dataclasses
    chosen = {key: getattr(step, key) for key, value in usual.items() if getattr(step, key) != value}
    return " ".join(
        f"{key}={len(value)} nodes" if isinstance(value, list | tuple) else f"{key}={value}"
        for key, value in chosen.items()
    )

"""Everything that one build works with: the source, its task, the user's samples, and the cache."""

import json
from contextlib import closing
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue

from ferryman.build.cache import Cache, digest_key
from ferryman.build.plan import Candidate
from ferryman.core.artifact import Artifact
from ferryman.core.deployment import Deployment
from ferryman.core.errors import ConfigError, NotApplicable
from ferryman.core.plugins import find, runtime_for
from ferryman.core.progress import Progress, silent
from ferryman.core.runtime import Runtime, Session, available_cores
from ferryman.core.step import Step, StepContext
from ferryman.core.task import Answer, Samples, Task
from ferryman.optimize.clean import clean
from ferryman.verify.examine import (
    Answers,
    CalibrationTensors,
    Examination,
    PreparedSamples,
    Reference,
    answer_samples,
    refer,
)

PROBED_SAMPLES = 16
"""Calibration samples that are enough to rank parts of a graph by the harm of quantizing them."""


@dataclass
class Workshop:
    """Make and examine artifacts of one deployment; each result is looked up in the cache first."""

    deployment: Deployment
    source: Artifact
    task: Task
    samples: Samples
    calibration: Samples | None
    cache: Cache
    progress: Progress

    @property
    def threads(self) -> int:
        """Give the cores that one inference uses."""
        return self.deployment.build.threads or available_cores()

    @cached_property
    def base(self) -> Artifact:
        """Give what steps start from: the source, cleaned up where it is ONNX."""
        if self.source.format != "onnx":
            return self.source
        key: JsonValue = [self.source.digest, self.source.signature.model_dump_json()]
        return self.cache.artifact("clean", key, lambda workspace: clean(self.source, workspace))

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
        return artifact

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
        """Give all that a step's result depends on: its options, the source as it is read, and the calibration."""
        settings = cast(dict[str, JsonValue], asdict(step))  # type: ignore[call-overload]  # steps are dataclasses
        samples = self.calibration.digest if step.calibrates and self.calibration else ""
        read_as = [source.digest, source.signature.model_dump_json(), json.dumps(dict(source.loader), sort_keys=True)]
        return [step.name, settings, cast(JsonValue, read_as), samples, self.task_key, self.seed]

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
        )
        return replace(step.run(source, context), made_by=(*source.made_by, step.name))

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
        return PreparedSamples(self.task, samples, max_batch=self.source.signature.max_batch)

    def open(self, artifact: Artifact) -> Session:
        """Load an artifact with the cores of this build."""
        runtime: Runtime = runtime_for(artifact.format).require()()
        return runtime.load(artifact, threads=self.threads)

    def answer(
        self, artifact: Artifact, prepared: PreparedSamples, *, stage: str, progress: Progress | None = None
    ) -> Answers:
        """Run an artifact over samples."""
        with closing(self.open(artifact)) as session:
            return answer_samples(self.task, session, prepared, progress=progress or self.progress, stage=stage)

    @cached_property
    def reference(self) -> Reference:
        """Answer every sample with the source model."""
        given = self.answer(self.source, self.prepared, stage="source model on the samples")
        return refer(self.task, self.prepared, given, metric=self.deployment.contract.metric)

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
        return [artifact.digest, self.source.digest, self.task_key, self.samples.digest, contract.metric, self.seed]

    def examine(self, artifact: Artifact, name: str) -> Examination:
        """Set an artifact beside the source on the user's samples."""

        def run() -> JsonValue:
            given = self.answer(artifact, self.prepared, stage=f"{name}: samples")
            metric = self.deployment.contract.metric
            examined = self.reference.examine(given, metric=metric, seed=self.seed)
            return examined.model_dump_json()

        stored = self.cache.values("examination", self._examination_key(artifact), run)
        return Examination.model_validate_json(stored)

    def answers(self, artifact: Artifact, picked: list[int]) -> list[Answer]:
        """Give an artifact's answers to some of the samples, one by one as a server would."""

        def run() -> JsonValue:
            few = Samples([self.samples.items[i] for i in picked], [self.samples.names[i] for i in picked])
            size = self.source.signature.max_batch
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

"""Set every format of a bundle beside its reference again, here: tensors, answers, metric, latency, size."""

from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

from ferryman.build.cache import package_versions
from ferryman.build.front import mark_front
from ferryman.build.judge import accuracy_clauses, why_refused
from ferryman.build.machine import describe_machine
from ferryman.core.artifact import Artifact
from ferryman.core.bundle import Bundle
from ferryman.core.contract import broken
from ferryman.core.errors import DataError, FerrymanError, PlanError
from ferryman.core.plugins import runtime_for, targets_of
from ferryman.core.progress import Progress, silent
from ferryman.core.proof import CandidateProof, Divergence, Footprint, Latency, Proof
from ferryman.core.runtime import Session, Tracer
from ferryman.core.signature import Tensors
from ferryman.core.task import Samples, bind_task
from ferryman.verify.blame import first_divergence, stage_noise
from ferryman.verify.examine import PreparedSamples, Reference, answer_samples, refer
from ferryman.verify.in_graph import SUFFIX, examine_in_graph, is_in_graph
from ferryman.verify.latency import call_in_turn, compare_latency

_REFERENCE = "\0reference"
_BUDGET_S = 8.0
_TIMED = 8
_TRACED = 2


@dataclass(frozen=True, slots=True)
class Compared:
    """Hold what a comparison of formats found, as a proof; `unverified` are those that nothing here runs."""

    proof: Proof
    unverified: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Tell whether every format that could be run keeps the promise, and one could be run."""
        return self.proof.holds


def compare_formats(
    bundle: Bundle,
    *,
    samples: Samples | None = None,
    trust: bool = False,
    threads: int = 0,
    progress: Progress = silent,
) -> Compared:
    """Run each of a bundle's models over the samples (its golden ones by default) beside the reference.

    Formats whose files are programs are run only with `trust`; raises PlanError where the reference can't be run.
    The reference is the full-precision model that the build kept for it, or the served model where it kept none.
    """
    named = {**bundle.exports, bundle.proof.winner: bundle.artifact}
    held = {name: replace(one, loader={**one.loader, "trust": trust}) for name, one in named.items()}
    reference_name = bundle.proof.reference if bundle.proof.reference in held else bundle.proof.winner
    given = samples or Samples([one.item for one in bundle.golden], [one.name for one in bundle.golden], None)
    if not given.items:
        raise DataError("the bundle has no golden samples to compare with", hint="give a project with data: --project")
    if why := _why_not(held[reference_name].format, trust=trust):
        raise PlanError(
            f"the reference '{reference_name}' can't be run here: {why}", hint="nothing can be compared without it"
        )
    comparison = _Comparison(bundle, held[reference_name], given, bundle.threads(threads), progress)
    proofs = []
    for name, artifact in held.items():
        line = comparison.examine(name, artifact, trust=trust)
        ran_here = line.status in ("accepted", "refused")
        latency = comparison.time(name, artifact, budget_s=_BUDGET_S / len(held)) if ran_here else None
        size = Footprint(size_mb=artifact.size_bytes / 1e6)
        proofs.append(line.model_copy(update={"footprint": size, "latency": latency}))
    unverified = tuple(proof.name for proof in proofs if proof.status == "unavailable")
    failed = [proof.name for proof in proofs if proof.status in ("refused", "failed")]
    measured = comparison.reference.measurement
    proof = bundle.proof.model_copy(
        update={
            "source_digest": held[reference_name].digest,
            "source_format": reference_name,
            "samples": len(given.items),
            "metric": measured.metric if measured else None,
            "source_value": measured.value if measured else None,
            "holds": len(unverified) < len(proofs) and not failed,
            "verdict": _tell(proofs, failed, unverified, reference_name) + _not_exported(bundle),
            "candidates": mark_front([*proofs, *_elsewhere(bundle)], bundle.deployment.contract),
            "machine": {**describe_machine(), "threads": str(comparison.threads)},
            "versions": package_versions(),
            "notes": () if samples else ("on the golden samples alone: --project gives the metric on labelled data",),
        }
    )
    return Compared(proof, unverified)


def _elsewhere(bundle: Bundle) -> list[CandidateProof]:
    """List what the build could not make here, because its engine is built on the device that runs it."""
    return [one for one in bundle.proof.candidates if one.status == "on device"]


class _Comparison:
    """Know the reference's answers, and set others beside them."""

    def __init__(self, bundle: Bundle, reference: Artifact, samples: Samples, threads: int, progress: Progress) -> None:
        self.threads = threads
        self._contract = bundle.deployment.contract
        self._seed = bundle.deployment.build.seed
        self._artifact = reference
        self._samples = samples
        self._progress = progress
        self._task = bind_task(bundle.deployment.task, reference.signature)
        self._spec = bundle.deployment.task
        self._held = {**bundle.exports, bundle.proof.winner: bundle.artifact}
        held = list(self._held.values())
        sizes = [size for artifact in held if (size := artifact.signature.max_batch) is not None]
        self._prepared = PreparedSamples(self._task, samples, max_batch=min(sizes, default=None))
        self._timed: list[Tensors] = [self._prepared[i].inputs for i in range(min(len(self._prepared), _TIMED))]
        with closing(self._open(reference)) as session:
            answers = answer_samples(self._task, session, self._prepared, progress=progress, stage="reference")
        self.reference: Reference = refer(self._task, self._prepared, answers, metric=self._contract.metric)

    def _open(self, artifact: Artifact) -> Session:
        session: Session = runtime_for(artifact.format).require()().load(artifact, threads=self.threads)
        return session

    def examine(self, name: str, artifact: Artifact, *, trust: bool) -> CandidateProof:
        """Answer the samples with one model and judge it."""
        line = CandidateProof(
            name=name,
            format=artifact.format,
            precision=artifact.precision,
            digest=artifact.digest,
            steps=artifact.made_by,
            status="accepted",
            targets=targets_of(artifact.format),
        )
        if why := _why_not(artifact.format, trust=trust):
            return line.model_copy(update={"status": "unavailable", "reason": f"not verified here: {why}"})
        try:
            if is_in_graph(artifact):
                models, spec = (self._held[name.removesuffix(SUFFIX)], artifact), self._spec
                return examine_in_graph(line, spec, models, self._samples.items, threads=self.threads)
            with closing(self._open(artifact)) as session:
                given = answer_samples(self._task, session, self._prepared, progress=self._progress, stage=name)
        except FerrymanError as error:
            return line.model_copy(update={"status": "failed", "reason": f"{error}"})
        examined = self.reference.examine(given, metric=self._contract.metric, seed=self._seed)
        clauses = accuracy_clauses(self._contract, examined, precision=artifact.precision, samples=self._samples)
        is_refused, why = bool(broken(clauses)), why_refused(clauses, precision=artifact.precision)
        status = "refused" if is_refused else "unavailable" if why else "accepted"
        found = {
            "parity": examined.parity,
            "agreement": examined.agreement,
            "accuracy": examined.accuracy,
            "score_histogram": examined.score_histogram,
            "clauses": tuple(clauses),
            "status": status,
            "reason": why if is_refused or not why else f"NOT MEASURED: {why}",
            "divergence": self._blame(artifact) if is_refused else None,
        }
        return line.model_copy(update=found)

    def _blame(self, artifact: Artifact) -> Divergence | None:
        """Name the first stage that diverges, where both can be traced."""
        source, other = (runtime_for(one.format).require()() for one in (self._artifact, artifact))
        if not (isinstance(source, Tracer) and isinstance(other, Tracer)):
            return None
        try:
            noises = stage_noise((source, self._artifact), (other, artifact), self._timed[:_TRACED])
        except FerrymanError:
            return None  # the refusal stands without it
        return first_divergence(noises)

    def time(self, name: str, artifact: Artifact, *, budget_s: float) -> Latency | None:
        """Time a model turn by turn with the reference, one request at a time; None where it fails at that."""
        try:
            with ExitStack() as opened:
                timed, reference, again = (
                    opened.enter_context(closing(self._open(one))) for one in (artifact, self._artifact, self._artifact)
                )
                return compare_latency(
                    {name: call_in_turn(timed, self._timed), _REFERENCE: call_in_turn(reference, self._timed)},
                    _REFERENCE,
                    again=call_in_turn(again, self._timed),
                    budget_s=budget_s,
                    progress=self._progress,
                )[name]
        except FerrymanError:
            return None


def _why_not(format_name: str, *, trust: bool) -> str:
    """Say why a format can't be run here; empty where it can."""
    try:
        runtime = runtime_for(format_name)
    except PlanError as error:
        return f"{error}"
    if not runtime.is_available:
        return f"it needs {', '.join(runtime.missing)}: {runtime.install_command}"
    if getattr(runtime.cls, "runs_code", False) and not trust:
        return "its files are programs, which run only with --trust"
    return ""


def _tell(proofs: list[CandidateProof], failed: list[str], unverified: tuple[str, ...], reference: str) -> str:
    ran = [proof for proof in proofs if proof.name not in unverified]
    if len(proofs) == 1 and not failed:
        return f"this bundle holds {reference} alone: there is nothing to compare"
    told = (
        f"{len(failed)} of {len(ran)} formats break the contract beside {reference}: {', '.join(failed)}"
        if failed
        else f"all {len(ran)} formats keep the contract beside {reference}, as far as it was measured"
    )
    differ = [f"{proof.name} on {share:.0%}" for proof in ran if (share := _changed_share(proof)) > 0]
    told += f"; ANSWERS DIFFER: {', '.join(differ)}" if differ else ""
    unmeasured = [proof.name for proof in ran if proof.precision != "fp32" and not proof.accuracy]
    told += f"; THE METRIC WAS NOT MEASURED of {', '.join(unmeasured)}: give --project" if unmeasured else ""
    return f"{told}; NOT VERIFIED here: {', '.join(unverified)}" if unverified else told


def _changed_share(proof: CandidateProof) -> float:
    """Give the share of answers with another label, or of boxes that the other model doesn't show."""
    return max(proof.agreement.get("label_changed", 0.0), proof.agreement.get("unmatched", 0.0))


def _not_exported(bundle: Bundle) -> str:
    missing = [name for name in bundle.deployment.build.formats if name not in bundle.proof.exports]
    return f"; NOT EXPORTED by the build: {', '.join(missing)}" if missing else ""

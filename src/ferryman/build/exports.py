"""Choose what goes into a bundle beside the model that is served: the best of each format, and for each target."""

from collections.abc import Sequence
from dataclasses import dataclass

from ferryman.build.choose import HELD, PRAISE, choose
from ferryman.build.plan import Candidate
from ferryman.core.artifact import Artifact
from ferryman.core.contract import Preference, TargetPromise, tolerated
from ferryman.core.deployment import Deployment
from ferryman.core.errors import ConfigError
from ferryman.core.proof import CandidateProof, TargetChoice
from ferryman.verify.figures import figure, significant

_MOST_TOLD = 3
_BRIEF_CHARS = 140
_OF_THIS_MACHINE = ("latency", "memory")


@dataclass(slots=True)
class Result:
    """Hold a candidate's line in the proof and, while it keeps the contract, its artifact."""

    candidate: Candidate
    proof: CandidateProof
    artifact: Artifact | None = None


def check_targets(deployment: Deployment) -> None:
    """Raise ConfigError where the contract asks something of a target that isn't one of `build.targets`."""
    for name in deployment.contract.targets:
        if name == "server":
            raise ConfigError("contract.targets.server: what is served keeps [contract] itself", hint="move it there")
        if name not in deployment.build.targets:
            raise ConfigError(
                f"contract.targets.{name} asks something of a target that is not looked for",
                hint=f'add "{name}" to build.targets',
            )


def choose_exports(deployment: Deployment, results: Sequence[Result]) -> tuple[dict[str, str], str]:
    """Give the best candidate that holds of each format asked for, and the one that all are compared with."""
    chosen: dict[str, str] = {}
    for name in deployment.build.formats:
        of_format = [result.proof for result in results if result.candidate.format == name]
        if best := choose(of_format, deployment.contract.prefer):
            chosen[name] = best.name
    floats = [r for r in results if r.artifact and r.candidate.serves and r.candidate.is_exact]
    nearest = min(floats, key=lambda result: len(result.candidate.steps), default=None)
    has_exports = deployment.build.formats or deployment.build.targets
    return chosen, nearest.proof.name if has_exports and nearest else ""


def missing_exports(deployment: Deployment, results: Sequence[Result]) -> dict[str, str]:
    """Give each format asked for of which no candidate holds, and a short why; not one that only its device makes."""
    missing = {}
    for name in deployment.build.formats:
        tried = [result for result in results if result.candidate.format == name]
        if any(result.proof.status in (*HELD, "on device") for result in tried):
            continue
        missing[name] = _why_missing(name, tried)
    return missing


def _why_missing(name: str, tried: Sequence[Result]) -> str:
    """Say shortly why a format isn't there: the toolchain that it lacks, or what became of it in float."""
    if lacks := sorted({result.candidate.lacks for result in tried if result.candidate.lacks}):
        return f"ferryman toolchain add {' '.join(lacks)}"
    in_float = [result.proof for result in tried if result.proof.precision == "fp32"]
    told = next(iter(in_float or [result.proof for result in tried]), None)
    reason = told.reason.removeprefix(f"{name}: ").split(" (")[0] if told else ""
    return reason or "no candidate holds"


def choose_targets(
    deployment: Deployment, results: Sequence[Result], served: CandidateProof | None
) -> dict[str, TargetChoice]:
    """Give the winner of each of `build.targets`, and why; what is `served` is the server's."""
    contract = deployment.contract
    chosen = {}
    for target in dict.fromkeys(deployment.build.targets):
        asked = contract.targets.get(target, TargetPromise())
        prefer = asked.prefer or contract.prefer
        there = [r.proof for r in results if target in r.candidate.targets and not r.candidate.lacks]
        lacking = [r.candidate for r in results if target in r.candidate.targets and r.candidate.lacks]
        out = {proof.name: why for proof in there if (why := _why_out(proof, asked))}
        held = [proof for proof in there if proof.name not in out]
        winner = served if target == "server" else choose(held, prefer)
        why = _why_best(winner, held, prefer, target) if winner else "NOTHING that runs there keeps the contract"
        why += _told(out) + _told_lacking(lacking)
        chosen[target] = TargetChoice(winner=winner.name if winner else "", why=why)
    return chosen


def _why_out(proof: CandidateProof, asked: TargetPromise) -> str:
    """Say why a candidate can't win a target; empty where it can."""
    if proof.status not in HELD:
        return _brief(proof.reason) or proof.status
    if proof.latency is None or proof.footprint is None:
        return "it was not measured"
    if asked.max_size_mb is not None and proof.footprint.size_mb > tolerated(asked.max_size_mb):
        return f"size {significant(proof.footprint.size_mb)} > {significant(asked.max_size_mb)} MB"
    return ""


def _brief(reason: str) -> str:
    """Give the beginning of a reason: the candidate's own line has all of it."""
    first = reason.partition("\n")[0]
    return first if len(first) <= _BRIEF_CHARS else f"{first[:_BRIEF_CHARS].rpartition(' ')[0]} …"


def _why_best(winner: CandidateProof, held: Sequence[CandidateProof], prefer: Preference, target: str) -> str:
    rivals = [proof for proof in held if proof.name != winner.name]
    shown = _shown(winner, prefer)
    if target != "server" and prefer in _OF_THIS_MACHINE:
        shown += ", measured here"
    if not rivals:
        return f"the only one that keeps the contract ({shown})"
    next_best = choose(rivals, prefer) or rivals[0]
    told = f"{PRAISE[prefer]} of the {len(held)} that keep the contract"
    if (
        prefer == "latency"
        and winner.latency
        and any(r.latency and r.latency.ratio < winner.latency.ratio for r in held)
    ):
        told = f"as fast as any of the {len(held)} that keep the contract, within the noise, and smaller"
    return f"{told} ({shown}; next: {next_best.name}, {_shown(next_best, prefer)})"


def _shown(proof: CandidateProof, prefer: Preference) -> str:
    """Write the figure that a preference looks at."""
    size = proof.footprint.size_mb if proof.footprint else None
    if prefer == "latency":
        return f"{figure(proof.latency.ratio if proof.latency else None, 2)} of the source's time"
    if prefer == "memory" and proof.footprint and proof.footprint.rss_mb is not None:
        return f"{figure(proof.footprint.rss_mb, 0)} MB of memory"
    if prefer == "accuracy":
        return f"drop {figure(proof.accuracy.drop if proof.accuracy else None, signed=True)}"
    return f"{figure(size, 2)} MB"


def _told(out: dict[str, str]) -> str:
    """Tell of those that are out; equal reasons once."""
    by_reason: dict[str, list[str]] = {}
    for name, why in out.items():
        by_reason.setdefault(why, []).append(name)
    told = [f"{', '.join(names)}: {why}" for why, names in by_reason.items()]
    more = f"; and {len(told) - _MOST_TOLD} more reasons" if len(told) > _MOST_TOLD else ""
    return f". Out: {'; '.join(told[:_MOST_TOLD])}{more}" if told else ""


def _told_lacking(candidates: Sequence[Candidate]) -> str:
    """Say which candidates a toolchain would bring, and the command that adds it."""
    if not candidates:
        return ""
    toolchains = " ".join(sorted({candidate.lacks for candidate in candidates}))
    return f". Not made here: {', '.join(one.name for one in candidates)}: ferryman toolchain add {toolchains}"

"""Judge a step of a rollout: figures in, verdict with its reasons out."""

from dataclasses import dataclass
from typing import Literal

from ferryman.server.control.rollout_chance import surely_more, tail
from ferryman.server.control.rollout_figures import Latencies, Window
from ferryman.server.control.rollout_plan import Plan

_TESTS = 5  # in each step: errors, refusals, latency, the shadow's errors, agreement
_ENOUGH_LATENCIES = 100

Stage = Literal["shadow", "canary"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say what to do next, and why."""

    action: Literal["hold", "advance", "back", "pause"]
    reasons: tuple[str, ...] = ()


def judge(plan: Plan, window: Window, elapsed_s: float, *, stage: Stage, is_paused: bool = False) -> Verdict:
    """Judge the step as far as it has come, and note in `window` that it was looked at.

    Looking again and again finds any difference by chance, so a step is looked at when its figures have doubled, and at
    its end. Half of the step's share of `plan.false_rollback` is for the end, the rest for the other looks, less for
    each one. All looks of all tests together roll a version back that keeps every limit with about that probability at
    most, where requests fail independently of each other: that those of one burst have one cause is not accounted for.
    """
    is_over = not is_paused and elapsed_s >= plan.step_s and _answered(window, stage) >= plan.min_requests
    if is_over or window.size >= window.next_look:
        window.next_look = max(2 * window.size, window.next_look)
        doubt = plan.false_rollback / (plan.stages * _TESTS * 2)
        if not is_over:
            window.looks += 1
            doubt /= window.looks * (window.looks + 1)
        if reasons := find_harm(plan, window, doubt):
            return Verdict("back", tuple(reasons))
    if is_over:
        return Verdict("advance", (f"{_answered(window, stage)} requests in {elapsed_s:.0f} s within every limit",))
    if not is_paused and elapsed_s >= plan.max_step_s:
        few = f"{_answered(window, stage)} requests in {elapsed_s:.0f} s; a step needs {plan.min_requests}"
        return Verdict("pause", (few,))
    return Verdict("hold")


def find_harm(plan: Plan, window: Window, doubt: float) -> list[str]:
    """Give each limit that is broken beyond chance; one that is kept is reported with a probability of `doubt`."""
    found = [
        _more_errors(plan, window, doubt),
        _more_refusals(plan, window, doubt),
        _slower(plan, window.active.latencies, window.candidate.latencies, doubt),
        _failing_shadow(plan, window, doubt),
        _other_answers(plan, window, doubt),
    ]
    return [reason for reason in found if reason]


def _answered(window: Window, stage: Stage) -> int:
    shadow = window.shadow
    return shadow.compared + shadow.errors if stage == "shadow" else window.candidate.requests


def _more_errors(plan: Plan, window: Window, doubt: float) -> str:
    active, candidate = window.active, window.candidate
    if not candidate.errors:
        return ""
    more = surely_more((candidate.errors, candidate.requests), (active.errors, active.requests), doubt)
    if more <= plan.max_error_rate:
        return ""
    why = ", ".join(f"{count} {kind}" for kind, count in candidate.why.most_common(3))
    return (
        f"{candidate.errors} of {candidate.requests} requests failed ({why}), of the active version's "
        f"{active.errors} of {active.requests}; {plan.max_error_rate:.2%} more may"
    )


def _more_refusals(plan: Plan, window: Window, doubt: float) -> str:
    active, candidate = window.active, window.candidate
    if not candidate.refused:
        return ""
    asked, asked_before = candidate.requests + candidate.refused, active.requests + active.refused
    more = surely_more((candidate.refused, asked), (active.refused, asked_before), doubt)
    if more <= plan.max_error_rate:
        return ""
    return (
        f"{candidate.refused} of {asked} requests were refused as their callers' fault, of the active version's "
        f"{active.refused} of {asked_before}; {plan.max_error_rate:.2%} more may"
    )


def _slower(plan: Plan, active: Latencies, candidate: Latencies, doubt: float) -> str:
    if min(candidate.total, active.total) < _ENOUGH_LATENCIES:
        return ""
    # Were the candidate just so much slower, it would exceed that multiple as often as the active version its own p99.
    p99_s, beyond = active.beyond(0.99)
    limit_s = max(p99_s * plan.max_p99_ratio, p99_s + plan.p99_slack_ms / 1000)
    over = candidate.above(limit_s)
    if surely_more((over, candidate.total), (beyond, active.total), doubt) <= 0:
        return ""
    return (
        f"{over} of {candidate.total} requests took over {limit_s * 1000:.1f} ms: p99 is about "
        f"{candidate.quantile(0.99) * 1000:.1f} ms, the active version's {active.quantile(0.99) * 1000:.1f}; "
        f"{plan.max_p99_ratio:g} times that may be"
    )


def _failing_shadow(plan: Plan, window: Window, doubt: float) -> str:
    shadow = window.shadow
    if not shadow.errors or tail(shadow.errors, shadow.asked, plan.max_error_rate) > doubt:
        return ""
    why = ", ".join(f"{count} {kind}" for kind, count in shadow.why.most_common(3))
    return (
        f"as shadow it failed {shadow.errors} of {shadow.asked} requests that the active version answered ({why}); "
        f"{plan.max_error_rate:.2%} may"
    )


def _other_answers(plan: Plan, window: Window, doubt: float) -> str:
    shadow = window.shadow
    if not shadow.differing or tail(shadow.differing, shadow.compared, plan.max_disagreement) > doubt:
        return ""
    return (
        f"{shadow.differing} of {shadow.compared} compared answers differ ({shadow.example}); "
        f"{plan.max_disagreement:.2%} may: say in `agreement` how far they may be apart if they should differ"
    )

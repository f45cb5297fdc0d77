"""What people read of an alert: one line that says it, and one that says more."""

from collections.abc import Callable, Mapping

from ferryman.monitor.alerts.judge import Subject, Verdict, span

MORE: Mapping[str, str] = {
    "errors": "The error budget of a month would be gone within days. The log and `ferryman_requests_total` say why.",
    "errors-slow": "Not urgent, but at this pace the error budget doesn't last.",
    "latency": "More answers come later than the contract's p99_ms than may. `ferryman_queue_seconds` says whether "
    "requests wait; if so, more instances or cores help.",
    "latency-slow": "Not urgent, but at this pace more answers are late than the contract allows.",
    "down": "No worker holds the model. The server's log says why the last one ended.",
    "golden": "The model doesn't answer as it did when it was verified: what it answers now can't be relied on.",
    "drift": "What comes in, or what is answered, is no longer like the data that the model was verified on.",
    "performance": "Measured against the labels that came in since.",
    "actions": "What was done by itself didn't help: GET /v1/monitor/actions says what was done, and why.",
    "memory": "A worker takes more memory than the contract says; requests of unusual size, or a leak.",
    "disk": "Records and alerts are kept there; when it is full they are lost, and counted.",
    "temperature": "The processor slows itself down when it is too hot, and latency rises.",
    "slowed": "Latency rises, and the contract's figures were measured without it. Look at fan, dust and power supply.",
    "quota": "The container's CPU limit stops its threads for part of each tenth of a second, which the slowest "
    "answers show first: raise the limit, or serve with fewer threads.",
    "silence": "Nobody asks. Is the caller, the camera or the network down?",
    "records": "Requests are answered, but not all are recorded.",
}


def describe(subject: Subject, verdict: Verdict) -> tuple[str, str]:
    """Give summary and description of an alert, from figures as they are now."""
    who = " ".join(part for part in (subject.model, subject.version) if part) or "this machine"
    said = _SAID[subject.rule](verdict)
    more = f"{verdict.detail}. {MORE[subject.rule]}" if verdict.detail else MORE[subject.rule]
    return f"{who}: {said}", more


def _failing(verdict: Verdict) -> str:
    return f"{verdict.value or 0:.2%} of requests fail, {verdict.rule.budget:.2%} may"


def _late(verdict: Verdict) -> str:
    return f"{verdict.value or 0:.2%} of answers take over {verdict.rule.limit:g} ms, {verdict.rule.budget:.2%} may"


def _memory(verdict: Verdict) -> str:
    return f"a worker takes {(verdict.value or 0) / 1e6:.0f} MB, {(verdict.limit or 0) / 1e6:.0f} MB are promised"


def _drop(verdict: Verdict) -> str:
    return f"the metric is down by at least {verdict.value or 0:.3f}, {verdict.limit or 0:.3f} may be lost"


def _quiet(verdict: Verdict) -> str:
    return f"no request for {span(verdict.value or 0)}, at most {span(verdict.limit or 0)} is usual"


_SAID: dict[str, Callable[[Verdict], str]] = {
    "errors": _failing,
    "errors-slow": _failing,
    "latency": _late,
    "latency-slow": _late,
    "down": lambda _: "no requests are answered",
    "golden": lambda _: "golden samples are answered wrong",
    "drift": lambda _: "drift",
    "performance": _drop,
    "actions": lambda _: "a person must look",
    "memory": _memory,
    "disk": lambda verdict: f"{verdict.value or 0:.1%} of the disk is free",
    "temperature": lambda verdict: f"{verdict.value or 0:.0f} degrees Celsius",
    "slowed": lambda _: "heat or the power supply slow the processors down",
    "quota": lambda verdict: f"the CPU limit was used up in {verdict.value or 0:.0%} of the time",
    "silence": _quiet,
    "records": lambda verdict: f"{verdict.value or 0:.0f} records lost",
}

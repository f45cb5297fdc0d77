"""Whether an alert acts now, or why not: what keeps actions from chasing each other. Pure: no clock, no disk."""

from collections.abc import Collection, Sequence

from ferryman.core.acting import ActionSection
from ferryman.monitor.actions.action import Action
from ferryman.monitor.alerts.alert import Alert

DAY_S = 86400.0
STOPPED = "a person must look"


def wants(section: ActionSection, alert: Alert, now_s: float) -> bool:
    """Tell whether an alert is one that this action is for, and old enough."""
    is_meant = alert.rule in section.on and alert.severity in section.severities
    is_wanted = alert.state == "firing" and not alert.muted and bool(alert.version)
    return is_meant and is_wanted and now_s - alert.since_s >= section.after_s


def is_stopped(section: ActionSection, model: str, past: Sequence[Action], now_s: float) -> bool:
    """Tell whether so much was done of this kind within a day that a person must look."""
    lately = [each for each in past if _is_like(each, section, model) and 0 <= now_s - each.began_s < DAY_S]
    return sum(each.outcome != "skipped" for each in lately) >= section.most_per_day


def why_not(
    section: ActionSection, alert: Alert, digest: str, past: Sequence[Action], rolled_back: Collection[str],
    *, now_s: float,
) -> str:  # fmt: skip
    """Say why nothing is done now about a wanted alert; "" where it is to be done.

    `past` holds the actions of every model, the oldest first; `digest` is that of the alert's bundle.
    """
    ours = [each for each in past if each.model == alert.model]
    under_way = [each for each in ours if not each.is_over]
    if section.do != "retrain":  # which may last for hours, while the version that serves must be left now
        under_way = [each for each in under_way if each.do != "retrain"]
    if under_way:
        return f"{under_way[0].do} {under_way[0].id} is under way"
    if section.do == "roll-back" and digest in rolled_back:
        return "this bundle was rolled back already"
    same = [each for each in ours if each.do == section.do]
    answered = {(each.cause.alert, each.cause.episode) for each in same}
    if section.do != "retrain" and (alert.id, alert.episode) in answered:
        return f"{section.do} was done about this very alert"
    if is_stopped(section, alert.model, past, now_s):
        return f"{section.most_per_day} in a day: {STOPPED}"
    if same:
        last = same[-1]
        since_s = now_s - (last.ended_s if last.ended_s is not None else last.began_s)
        if 0 <= since_s < section.pause_s and last.outcome != "skipped":
            return f"the last {section.do} was less than {section.pause_s:g} s ago"
    return ""


def _is_like(action: Action, section: ActionSection, model: str) -> bool:
    return action.do == section.do and action.model == model

"""Alerts and sections to act on, and a desk that remembers."""

from typing import Any

from ferryman.core.acting import ActionSection
from ferryman.monitor.alerts.alert import Alert

NOW_S = 1_000_000.0
KEY = ("street", "2")


def an_alert(rule: str = "golden", *, episode: int = 1, **changed: Any) -> Alert:
    settings: dict[str, Any] = {"since_s": NOW_S - 10, "value": 0.0, "limit": 1.0, **changed}
    state, severity = settings.pop("state", "firing"), settings.pop("severity", "critical")
    return Alert(rule, *KEY, severity, state, f"street 2: {rule}", episode=episode, **settings)


def a_section(do: str = "roll-back", **settings: Any) -> ActionSection:
    return ActionSection.model_validate({"do": do, "on": ("golden", "performance"), **settings})

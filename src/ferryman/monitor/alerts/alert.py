"""An alert as it stands, and a notice: what a receiver is told of some of them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Self

from ferryman.core.receivers import Severity

State = Literal["pending", "firing", "resolved"]
JsonObject = dict[str, Any]  # JSON


@dataclass(frozen=True, slots=True)
class Alert:
    """Say what is wrong with what, since when (Unix times), and whether somebody wants to hear of it.

    `value` is beside `limit` where the rule compares a figure; `muted` says why nobody is told: a silence's id or a
    maintenance window. `episode` counts how often this alert began.
    """

    rule: str
    model: str
    version: str
    severity: Severity
    state: State
    summary: str
    description: str = ""
    value: float | None = None
    limit: float | None = None
    since_s: float = 0.0
    ended_s: float | None = None
    episode: int = 1
    muted: str = ""

    @property
    def id(self) -> str:
        """Give what this alert is called for ever: the same rule of the same version has the same."""
        return short_digest(self.rule, self.model, self.version)

    @property
    def labels(self) -> dict[str, str]:
        """Give what it is told apart by; without a model it is of the machine."""
        named = {"alertname": alert_name(self.rule), "rule": self.rule, "severity": self.severity}
        return named | {key: text for key, text in (("model", self.model), ("version", self.version)) if text}

    def to_json(self) -> JsonObject:
        """Give it as JSON: `/v1/monitor/alerts`, `--json`."""
        return {
            "id": self.id, "rule": self.rule, "model": self.model, "version": self.version, "severity": self.severity,
            "state": self.state, "summary": self.summary, "description": self.description, "value": self.value,
            "limit": self.limit, "since": self.since_s, "ended": self.ended_s, "episode": self.episode,
            "muted": self.muted,
        }  # fmt: skip

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; raises KeyError or TypeError for something else."""
        names = ("rule", "model", "version", "severity", "state", "summary", "description", "value", "limit", "episode")
        kept = {name: stored[name] for name in (*names, "muted")}
        return cls(**kept, since_s=stored["since"], ended_s=stored["ended"])


@dataclass(frozen=True, slots=True)
class Notice:
    """Hold what a receiver is to hear of a group: all that fires in it, and what is over since the last notice.

    `id` is the same for the same news, so that one which comes twice can be known; `at_s` is Unix time. `is_heartbeat`
    tells of no alert: it says that there would be one.
    """

    id: str
    receiver: str
    group: str
    at_s: float
    alerts: tuple[Alert, ...] = ()
    is_heartbeat: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)  # what the group has in common

    @property
    def status(self) -> Literal["firing", "resolved"]:
        """Tell whether anything still fires."""
        is_firing = self.is_heartbeat or any(alert.state == "firing" for alert in self.alerts)
        return "firing" if is_firing else "resolved"

    @property
    def title(self) -> str:
        """Say it in a line: a mail's subject."""
        if self.is_heartbeat:
            return "heartbeat: Ferryman watches"
        firing = sum(alert.state == "firing" for alert in self.alerts)
        shown = next((one for one in self.alerts if one.state == "firing"), self.alerts[0])
        more = f" (and {len(self.alerts) - 1} more)" if len(self.alerts) > 1 else ""
        return f"[{f'FIRING {firing}' if firing else 'RESOLVED'}] {shown.summary}{more}"

    def to_json(self) -> JsonObject:
        """Give it as JSON, as the outbox keeps it."""
        return {
            "id": self.id, "receiver": self.receiver, "group": self.group, "at": self.at_s,
            "alerts": [alert.to_json() for alert in self.alerts], "heartbeat": self.is_heartbeat,
            "labels": dict(self.labels),
        }  # fmt: skip

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; raises KeyError or TypeError for something else."""
        alerts = tuple(Alert.from_json(alert) for alert in stored["alerts"])
        told = (stored["id"], stored["receiver"], stored["group"], stored["at"])
        return cls(*told, alerts, stored["heartbeat"], stored["labels"])


def notice_id(receiver: str, group: str, sequence: int, alerts: tuple[Alert, ...]) -> str:
    """Name a notice by what it tells, not when: told again after a crash, it has the same name."""
    told = sorted(f"{alert.id} {alert.state} {alert.episode}" for alert in alerts)
    return short_digest(receiver, group, str(sequence), *told)


def short_digest(*parts: str) -> str:
    """Give 16 hexadecimal digits for some texts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def alert_name(rule: str) -> str:
    """Give a rule's name as Prometheus writes those of alerts: ErrorsSlow."""
    return "Ferryman" + "".join(word.capitalize() for word in rule.split("-"))


def rfc3339(at_s: float) -> str:
    """Write a Unix time as RFC 3339, in UTC, with milliseconds."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Silences: alerts that somebody knows of and wants to hear no more about, for a time."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

from ferryman.core.errors import InputError
from ferryman.monitor.alerts.alert import Alert

MATCHED = ("rule", "model", "version", "severity", "alertname", "id")
MOST = 1000
_LONGEST_S = 366 * 86400.0


@dataclass(frozen=True, slots=True)
class Silence:
    """Mute alerts whose labels fit all of `matchers` (`*` and `?` in them) until a Unix time."""

    id: str
    matchers: Mapping[str, str]
    until_s: float
    author: str
    comment: str
    made_s: float

    def mutes(self, alert: Alert) -> bool:
        """Tell whether it is about this alert."""
        said = {"version": "", "model": "", **alert.labels, "id": alert.id}
        return all(fnmatchcase(said[key], pattern) for key, pattern in self.matchers.items())

    def to_json(self) -> dict[str, Any]:  # JSON
        """Give it as JSON."""
        return {**asdict(self), "matchers": dict(self.matchers)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; raises TypeError for something else."""
        return cls(**stored)


def make_silence(matchers: Mapping[str, str], *, until_s: float, author: str, comment: str, now_s: float) -> Silence:
    """Make a silence; raises InputError where it would mute nothing, everything by accident, or for ever."""
    if not matchers:
        raise InputError("a silence without matchers would mute every alert", hint="rule = '*' says so, if you mean it")
    for key, pattern in matchers.items():
        if key not in MATCHED:
            raise InputError(f"an alert has no '{key}'", hint=f"it has {', '.join(MATCHED)}")
        if not pattern or len(pattern) > 200:
            raise InputError(f"the matcher of '{key}' must have 1 to 200 characters", hint="'*' fits everything")
    if not now_s < until_s <= now_s + _LONGEST_S:
        raise InputError("a silence ends in the future, within a year", hint="until: Unix time in seconds")
    if not author.strip() or not comment.strip():
        raise InputError("a silence needs an author and a comment", hint="who knows of it, and why it may be quiet")
    made = {key: str(matchers[key]) for key in MATCHED if key in matchers}
    return Silence(secrets.token_hex(8), made, until_s, author.strip()[:200], comment.strip()[:1000], now_s)


def muting(silences: Iterable[Silence], alert: Alert, now_s: float) -> Silence | None:
    """Give the silence that mutes an alert now, if one does."""
    return next((one for one in silences if now_s < one.until_s and one.mutes(alert)), None)

"""When which group of alerts is told: together, not too often, and again while it lasts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from ferryman.core.alerting import AlertsSection
from ferryman.monitor.alerts.alert import Alert, Notice, notice_id
from ferryman.monitor.alerts.pace import Moment

_MOST = 1000


@dataclass(slots=True)
class _Group:
    """Hold what a group's receivers know: alerts that they were told fire, and in which episode."""

    told: dict[str, int] = field(default_factory=dict)
    sequence: int = 0
    last_s: float | None = None
    news_s: float | None = None


class Groups:
    """Decide what is due to be told to one receiver; times are seconds of a `Pace`."""

    def __init__(self, section: AlertsSection, name: str) -> None:
        self._section, self._name = section, name
        self._receiver = section.notify[name]
        self._groups: dict[str, _Group] = {}

    def due(self, firing: Sequence[Alert], over: Mapping[str, Alert], when: Moment) -> list[Notice]:
        """Give what is to be told now. `over` holds by id the alerts that ended; muted ones begin nothing."""
        members: dict[str, list[Alert]] = {key: [] for key in self._groups}
        for alert in filter(self._wants, firing):
            members.setdefault(self._key(alert), []).append(alert)
        notices = []
        for key in sorted(members):
            group = self._groups.setdefault(key, _Group())
            if notice := self._of_group(key, group, members[key], over, when):
                notices.append(notice)
        self._prune(members)
        return notices

    def knows(self, alert_id: str) -> bool:
        """Tell whether somebody was told that an alert fires, and not yet that it is over."""
        return any(alert_id in group.told for group in self._groups.values())

    def _of_group(
        self, key: str, group: _Group, firing: Sequence[Alert], over: Mapping[str, Alert], when: Moment
    ) -> Notice | None:
        audible = [alert for alert in firing if not alert.muted]
        fresh = [alert for alert in audible if group.told.get(alert.id) != alert.episode]
        still = {alert.id for alert in firing}
        ended = [over[told] for told in group.told if told not in still and told in over]
        if fresh or ended:
            group.news_s = when.elapsed_s if group.news_s is None else group.news_s
            if when.elapsed_s < self._due_s(group, fresh):
                return None
        else:
            group.news_s = None
            knows = any(alert.id in group.told for alert in audible)
            if not knows or group.last_s is None or when.elapsed_s - group.last_s < self._section.repeat_s:
                return None
        return self._tell(key, group, [*audible, *ended], still, when)

    def _due_s(self, group: _Group, fresh: Sequence[Alert]) -> float:
        news_s = group.news_s or 0.0
        is_urgent = any(alert.severity == "critical" and alert.id not in group.told for alert in fresh)
        if not group.told or is_urgent or group.last_s is None:
            return news_s + self._section.group_wait_s
        return max(news_s, group.last_s + self._section.group_interval_s)

    def _wants(self, alert: Alert) -> bool:
        fits = any(fnmatchcase(alert.model, pattern) for pattern in self._receiver.models)
        return fits and alert.severity in self._receiver.severities

    def _tell(self, key: str, group: _Group, alerts: Sequence[Alert], still: set[str], when: Moment) -> Notice | None:
        told = tuple(sorted(alerts, key=lambda alert: (alert.state != "firing", alert.rule, alert.version)))
        group.sequence += 1
        kept = {alert_id: episode for alert_id, episode in group.told.items() if alert_id in still}
        group.told = kept | {alert.id: alert.episode for alert in told if alert.state == "firing"}
        group.last_s, group.news_s = when.elapsed_s, None
        if not self._receiver.resolved:
            told = tuple(alert for alert in told if alert.state == "firing")
        if not told:
            return None
        name = notice_id(self._name, key, group.sequence, told)
        return Notice(name, self._name, key, when.now_s, told, labels=self._labels(told[0]))

    def _key(self, alert: Alert) -> str:
        return ",".join(f"{name}={text}" for name, text in self._labels(alert).items())

    def _labels(self, alert: Alert) -> dict[str, str]:
        return {name: alert.labels.get(name, "") for name in self._section.group_by}

    def _prune(self, members: Mapping[str, Sequence[Alert]]) -> None:
        idle = [key for key, group in self._groups.items() if not group.told and not members.get(key)]
        idle.sort(key=lambda key: self._groups[key].last_s or 0.0)
        for key in idle[: max(len(self._groups) - _MOST, 0)]:
            del self._groups[key]

    def save(self) -> dict[str, Any]:  # JSON
        """Give it as JSON."""
        return {key: asdict(group) for key, group in self._groups.items()}

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Read what `save` gave; raises TypeError for something else."""
        self._groups = {str(key): _Group(**group) for key, group in stored.items()}

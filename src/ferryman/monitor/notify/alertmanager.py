"""Prometheus' Alertmanager, by its API v2."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ferryman.core.receivers import AlertmanagerSection
from ferryman.monitor.alerts.alert import Alert, Notice, rfc3339
from ferryman.monitor.notify.payload import heartbeat, labels
from ferryman.monitor.notify.post import post
from ferryman.monitor.notify.secret import authorization, read_address

_REFRESHES = 4  # so many may get lost before an alert that fires ends


@dataclass(frozen=True)
class Alertmanager:
    """Hand alerts over; each says when it ends unless it comes again, so that none outlives the one who tells."""

    name: str
    section: AlertmanagerSection
    environment: Mapping[str, str]
    instance: str
    clock: Callable[[], float] = time.time

    def send(self, notice: Notice) -> None:
        """Post all its alerts; the same alert twice is one alert there."""
        headers = authorization(self.section.token, self.environment)
        url = read_address(self.section.url, self.environment).rstrip("/")
        ends_s = self.clock() + _REFRESHES * self.section.refresh_s
        alerts = [self._alert(alert, ends_s) for alert in notice.alerts]
        if notice.is_heartbeat:
            beat = heartbeat(notice, self.instance)
            kept = {key: beat[key] for key in ("labels", "annotations", "startsAt")}
            alerts = [{**kept, "endsAt": rfc3339(ends_s)}]
        post(f"{url}/api/v2/alerts", alerts, headers, self.section.timeout_s)

    def _alert(self, alert: Alert, ends_s: float) -> dict[str, Any]:  # JSON
        return {
            "labels": labels(alert, self.instance),
            "annotations": {"summary": alert.summary, "description": alert.description},
            "startsAt": rfc3339(alert.since_s),
            "endsAt": rfc3339(ends_s if alert.ended_s is None else alert.ended_s),
        }

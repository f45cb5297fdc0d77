"""A notice as JSON: the form of Alertmanager's webhooks (version 4), which many programs read."""

from typing import Any

from ferryman.monitor.alerts.alert import Alert, Notice, rfc3339

_NEVER = "0001-01-01T00:00:00Z"


def webhook_body(notice: Notice, receiver: str, instance: str) -> dict[str, Any]:  # JSON
    """Give what a webhook gets; beside Alertmanager's keys there is `id`, the same however often it is sent."""
    alerts = [_alert(alert, instance) for alert in notice.alerts]
    if notice.is_heartbeat:
        alerts = [heartbeat(notice, instance)]
    return {
        "version": "4",
        "id": notice.id,
        "groupKey": notice.group,
        "truncatedAlerts": 0,
        "status": notice.status,
        "receiver": receiver,
        "groupLabels": dict(notice.labels),
        "commonLabels": _common([alert["labels"] for alert in alerts]),
        "commonAnnotations": _common([alert["annotations"] for alert in alerts]),
        "externalURL": "",
        "title": notice.title,
        "alerts": alerts,
    }


def heartbeat(notice: Notice, instance: str) -> dict[str, Any]:  # JSON
    """Give the alert that always fires."""
    return {
        "status": "firing",
        "labels": {"alertname": "FerrymanHeartbeat", "severity": "none", "instance": instance},
        "annotations": {"summary": notice.title, "description": "An alarm is due when this doesn't come any more."},
        "startsAt": rfc3339(notice.at_s),
        "endsAt": _NEVER,
        "generatorURL": "",
        "fingerprint": "heartbeat",
    }


def labels(alert: Alert, instance: str) -> dict[str, str]:
    """Give an alert's labels, and which machine tells of it."""
    return {**alert.labels, "instance": instance}


def _alert(alert: Alert, instance: str) -> dict[str, Any]:  # JSON
    return {
        "status": alert.state,
        "labels": labels(alert, instance),
        "annotations": {"summary": alert.summary, "description": alert.description},
        "startsAt": rfc3339(alert.since_s),
        "endsAt": _NEVER if alert.ended_s is None else rfc3339(alert.ended_s),
        "generatorURL": "",
        "fingerprint": alert.id,
        "value": alert.value,
        "limit": alert.limit,
    }


def _common(found: list[dict[str, str]]) -> dict[str, str]:
    shared = set.intersection(*(set(one.items()) for one in found)) if found else set()
    return dict(sorted(shared))


def plain_text(notice: Notice, instance: str) -> str:
    """Write a notice for people: a mail's body."""
    lines = [notice.title, ""]
    for alert in notice.alerts:
        ended = f", over since {rfc3339(alert.ended_s)}" if alert.ended_s is not None else ""
        lines += [f"{alert.state.upper()} {alert.severity}: {alert.summary}", f"  {alert.description}"]
        lines += [f"  since {rfc3339(alert.since_s)}{ended}", ""]
    return "\n".join([*lines, f"told by Ferryman on {instance}, notice {notice.id}", ""])

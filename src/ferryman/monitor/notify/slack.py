"""Slack, and what takes the same messages: Mattermost, Rocket.Chat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ferryman.core.receivers import SlackSection
from ferryman.monitor.alerts.alert import Notice
from ferryman.monitor.notify.payload import plain_text
from ferryman.monitor.notify.post import post
from ferryman.monitor.notify.secret import read_secret

_COLORS = {"critical": "#d62728", "warning": "#ff9f1c", "info": "#4c78a8"}
_OVER = "#2ca02c"
_MOST_SHOWN = 10
_LONGEST = 3000


@dataclass(frozen=True)
class Slack:
    """Post messages to an incoming webhook, whose address is the secret."""

    name: str
    section: SlackSection
    environment: Mapping[str, str]
    instance: str

    def send(self, notice: Notice) -> None:
        """Post it. Slack knows no id: after an unclear end the same message may be there twice."""
        message = slack_message(notice, self.instance)
        if self.section.channel is not None:
            message["channel"] = self.section.channel
        post(read_secret(self.section.url, self.environment), message, {}, self.section.timeout_s)


def slack_message(notice: Notice, instance: str) -> dict[str, Any]:  # JSON
    """Give the title as text, and an attachment in its colour for each alert."""
    shown = notice.alerts[:_MOST_SHOWN]
    attachments = [
        {
            "color": _OVER if alert.state == "resolved" else _COLORS[alert.severity],
            "fallback": _escaped(alert.summary),
            "title": _escaped(f"{alert.state}: {alert.summary}"),
            "text": _escaped(alert.description),
            "footer": _escaped(f"{alert.severity}, {instance}, {notice.id}"),
            "ts": int(alert.since_s if alert.ended_s is None else alert.ended_s),
        }
        for alert in shown
    ]
    left = f" ({len(notice.alerts) - len(shown)} of them not shown)" if len(notice.alerts) > len(shown) else ""
    text = notice.title + left if notice.alerts else plain_text(notice, instance)
    return {"text": _escaped(text), "attachments": attachments}


def _escaped(text: str) -> str:
    return text[:_LONGEST].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

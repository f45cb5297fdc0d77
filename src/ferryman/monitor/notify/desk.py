"""Alerts as a whole: rules in, receivers out, and all of it safe over a restart."""

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferryman.core.alerting import AlertsSection
from ferryman.core.durable import write_whole
from ferryman.core.receivers import AlertmanagerSection
from ferryman.monitor.alerts.alert import Alert, Notice
from ferryman.monitor.alerts.engine import AlertEngine
from ferryman.monitor.alerts.fact import Fact
from ferryman.monitor.alerts.rules import Rule
from ferryman.monitor.alerts.silences import Silence
from ferryman.monitor.notify.outbox import Outbox
from ferryman.monitor.notify.receivers import make_receivers

_STATE = "alerts.json"
_SAVE_S = 30.0


class AlertDesk:
    """Hold the engine, its state in a folder, and the outbox beside it; used by one thread.

    A notice is in the outbox before the state that knows of it is on the disk: killed in between, the engine makes it
    once more, with the same id, and the outbox knows it.
    """

    def __init__(
        self, folder: Path, section: AlertsSection, environment: Mapping[str, str], *, instance: str = ""
    ) -> None:
        self._section = section
        receivers = make_receivers(section, environment, instance or socket.gethostname())
        self.outbox = Outbox(folder / "outbox", receivers)
        self._file = folder / _STATE
        self.engine = AlertEngine([], section, state=self._read())
        self.unsaved = 0
        """How often the state could not be written."""
        self._saved_s = float("-inf")
        self._refreshed_s: dict[str, float] = {}
        self.outbox.start()

    def use(self, rules: Sequence[Rule]) -> None:
        """Go on with these rules."""
        self.engine.use(rules)

    def observe(self, facts: Sequence[Fact], now_s: float) -> list[Notice]:
        """Take facts, once a second or so, and tell whom it concerns; gives what is told, heartbeats left out."""
        due = self.engine.observe(facts, now_s)
        self.outbox.put([notice for notice in due if not notice.is_heartbeat])
        for notice in due:
            if notice.is_heartbeat:
                self.outbox.refresh(notice)
        self._refresh(now_s)
        told = [notice for notice in due if not notice.is_heartbeat]
        if told or not 0 <= now_s - self._saved_s < _SAVE_S:
            self.save(now_s)
        return told

    def alerts(self, now_s: float) -> list[Alert]:
        """Give all that is pending, fires, or was over within the hour."""
        return self.engine.alerts(now_s)

    def silences(self, now_s: float) -> dict[str, Any]:  # JSON
        """Give the silences that have not ended, and the contract's maintenance windows: who is told nothing, when."""
        windows = [
            {**window.model_dump(mode="json", by_alias=True), "active": window.covers(now_s)}
            for window in self._section.maintenance
        ]
        return {"silences": [one.to_json() for one in self.engine.silences(now_s)], "maintenance": windows}

    def silence(
        self, matchers: Mapping[str, str], *, until_s: float, author: str, comment: str, now_s: float
    ) -> Silence:
        """Mute alerts, from now and over a restart; raises as the engine's."""
        made = self.engine.silence(matchers, until_s=until_s, author=author, comment=comment, now_s=now_s)
        self.save(now_s)
        return made

    def unsilence(self, silence_id: str, now_s: float) -> Silence:
        """End a silence; raises NotFound where there is none of that id."""
        ended = self.engine.unsilence(silence_id)
        self.save(now_s)
        return ended

    def save(self, now_s: float) -> None:
        """Write the state, whole or not at all; a full disk is counted, and the alerts go on."""
        self._saved_s = now_s
        try:
            write_whole(self._file, json.dumps(self.engine.save(), separators=(",", ":")).encode())
        except OSError:
            self.unsaved += 1

    def close(self, now_s: float) -> None:
        """Save, and stop sending."""
        self.save(now_s)
        self.outbox.close()

    def _refresh(self, now_s: float) -> None:
        """Say again to Alertmanagers what fires, as alerts there end by themselves."""
        for name, section in self._section.notify.items():
            if not isinstance(section, AlertmanagerSection):
                continue
            if 0 <= now_s - self._refreshed_s.get(name, float("-inf")) < section.refresh_s:
                continue
            self._refreshed_s[name] = now_s
            if firing := self.engine.told(name, now_s):
                self.outbox.refresh(Notice(f"refresh-{name}", name, "refresh", now_s, tuple(firing)))

    def _read(self) -> Mapping[str, Any] | None:
        try:
            stored: Any = json.loads(self._file.read_bytes())  # JSON
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            stored = {"damaged": str(error)}
        return stored if isinstance(stored, dict) else {"damaged": "it is no object"}

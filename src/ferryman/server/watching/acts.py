"""Actions in the watch: what each version's bundle asks for, held against the alerts of now."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferryman.core.acting import ActionSection
from ferryman.monitor.actions.desk import ActionDesk
from ferryman.monitor.alerts.alert import Alert
from ferryman.monitor.alerts.fact import Reading
from ferryman.server.watching.diarist import Diarist

_log = logging.getLogger("ferryman.watch")

Key = tuple[str, str]


class Acts:
    """Hold the desk, which is opened when a bundle first asks for an action; without a folder there is none."""

    def __init__(self, folder: Path | None, diary: Diarist, clock: Callable[[], float]) -> None:
        self._folder, self._diary, self._clock = folder, diary, clock
        self._desk: ActionDesk | None = None
        self._sections: dict[Key, Mapping[str, ActionSection]] = {}
        self._digests: dict[Key, str] = {}
        if folder is not None and folder.exists():
            self._open()  # something may be under way

    def use(self, key: Key, digest: str, sections: Mapping[str, ActionSection]) -> None:
        """Have a version's alerts act as its bundle says."""
        self._digests[key] = digest
        self._sections[key] = sections
        if sections and self._desk is None:
            self._open()

    def forget(self, key: Key) -> None:
        """Act for a version no more; what is under way goes on."""
        self._sections.pop(key, None)
        self._digests.pop(key, None)

    def step(self, alerts: Sequence[Alert], figures: Sequence[Mapping[str, Any]]) -> None:  # JSON: watch_figures
        """Take the alerts of now."""
        if self._desk is not None:
            active = {each["model"]: each["version"] for each in figures if each.get("active")}
            self._desk.step(alerts, self._sections, self._digests, active=active, now_s=self._clock())

    def answered(self, told: Mapping[str, Any]) -> None:  # JSON
        """Take what the front says of an order."""
        if self._desk is not None:
            self._desk.answered(told, self._clock())

    def readings(self) -> list[Reading]:
        """Give by version whether more is asked for than may be done by itself: what the alert `actions` goes by."""
        stopped = self._desk.stopped if self._desk is not None else {}
        return [
            Reading("actions", float(key in stopped), *key, stopped.get(key, ""))
            for key, sections in self._sections.items() if sections
        ]  # fmt: skip

    def orders(self) -> list[dict[str, Any]]:  # JSON
        """Give what the front is to do."""
        return self._desk.orders() if self._desk is not None else []

    def state(self) -> dict[str, Any]:  # JSON
        """Give every action that is remembered."""
        return self._desk.state() if self._desk is not None else {"actions": [], "rolled_back": []}

    def counts(self) -> list[tuple[str, str, int]]:
        """Give how many actions ended, by what was done and how it ended."""
        return self._desk.counts() if self._desk is not None else []

    def _open(self) -> None:
        if self._folder is None:
            _log.error("no action is taken: what was done must be remembered; ferryman serve ... --monitor DIR")
            return
        try:
            self._desk = ActionDesk(self._folder, self._diary.acted)
        except OSError as error:
            _log.error("no action is taken: %s: %s", self._folder, error.strerror or error)

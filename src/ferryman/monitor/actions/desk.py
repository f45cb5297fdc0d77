"""Actions as a whole: alerts in, orders and retrainings out, and all of it written down before it is done."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ferryman.core.acting import ActionSection
from ferryman.core.durable import write_whole
from ferryman.monitor.actions.action import Action, Cause, Outcome
from ferryman.monitor.actions.policy import STOPPED, wants, why_not
from ferryman.monitor.actions.retraining import Retraining
from ferryman.monitor.alerts.alert import Alert, short_digest

_STATE, _FORM = "actions.json", 1
_MOST_KEPT, _MOST_TOLD = 500, 100
_LATE_S = 60.0  # a version may be loading still, after a restart
_log = logging.getLogger("ferryman.watch")

Key = tuple[str, str]


class ActionDesk:
    """Decide, keep what was decided in a folder, and follow it to its end; used by one thread.

    What changes who answers is ordered from the server's front (`orders`), again and again until it says what became
    of it (`answered`). An action is on the disk before it begins: a watch that is killed goes on with it, and begins
    none twice. `tell` hears of each that begins or ends. Raises OSError where the folder can't be made.
    """

    def __init__(self, folder: Path, tell: Callable[[Action], None]) -> None:
        self._folder, self._tell = folder, tell
        self.stopped: dict[Key, str] = {}
        """Why a person must look: what alerts ask for, and was done too often already."""
        folder.mkdir(parents=True, exist_ok=True)
        self._past: list[Action] = []
        self._rolled_back: list[str] = []
        self._made = 0
        self._counts: Counter[Key] = Counter()  # by do and outcome, of all time
        self._refusals: dict[tuple[str, str, int], str] = {}
        self._read()
        self._runs: dict[str, Retraining] = {}

    def step(
        self, alerts: Sequence[Alert], sections: Mapping[Key, Mapping[str, ActionSection]], digests: Mapping[Key, str],
        *, active: Mapping[str, str], now_s: float,
    ) -> None:  # fmt: skip
        """Take the alerts of now; `sections` and `digests` are by model and version, `active` by model."""
        self.stopped = {}
        for alert in alerts:
            key = (alert.model, alert.version)
            for name, section in sections.get(key, {}).items():
                if wants(section, alert, now_s) and not (
                    section.do == "retrain" and active.get(alert.model) not in (None, alert.version)
                ):  # a version that nobody is sent to needs no successor
                    self._judge(name, section, alert, digests.get(key, ""), now_s)
        for action in [each for each in self._past if not each.is_over and each.do == "retrain"]:
            wanted = sections.get((action.model, action.version), {}).get(action.name)
            self._follow(action, wanted, now_s)

    def orders(self) -> list[dict[str, Any]]:  # JSON
        """Give what the front is to do: roll back, or freeze; `not_to` are digests that nothing returns to."""
        return [
            {"id": each.id, "do": each.do, "model": each.model, "version": each.version, "digest": each.digest,
             "why": each.cause.summary, "not_to": self._rolled_back}
            for each in self._past if not each.is_over and each.do != "retrain"
        ]  # fmt: skip

    def answered(self, told: Mapping[str, Any], now_s: float) -> None:  # JSON: id, outcome, said
        """Take what became of an order; what is known to be over is passed over."""
        for action in self._past:
            if action.id == told["id"] and not action.is_over:
                self._end(action, told["outcome"], told["said"], now_s)

    def state(self) -> dict[str, Any]:  # JSON
        """Give the actions, the newest first, and the bundles that nothing returns to."""
        listed = [each.to_json() for each in reversed(self._past[-_MOST_TOLD:])]
        return {"actions": listed, "rolled_back": list(self._rolled_back)}

    def counts(self) -> list[tuple[str, str, int]]:
        """Give how many actions ended in which way: what was done, outcome, count."""
        return [(do, outcome, count) for (do, outcome), count in sorted(self._counts.items())]

    def _judge(self, name: str, section: ActionSection, alert: Alert, digest: str, now_s: float) -> None:
        reason = why_not(section, alert, digest, self._past, self._rolled_back, now_s=now_s)
        told = (name, alert.id, alert.episode)
        if reason:
            if STOPPED in reason:
                self.stopped[alert.model, alert.version] = f"{name} of rule {alert.rule}: {reason}"
            if self._refusals.get(told) != reason:
                self._refusals = {**dict(list(self._refusals.items())[-200:]), told: reason}
                _log.warning("action %s about %s is not taken: %s", name, alert.summary, reason)
            return
        self._refusals[told] = "it began"
        self._made += 1
        cause = Cause(alert.id, alert.rule, alert.episode, alert.summary, alert.value, alert.limit)
        known = short_digest(name, alert.id, str(self._made), f"{now_s:.0f}")
        action = Action(known, name, section.do, alert.model, alert.version, digest, cause, now_s)
        self._past = [*self._past[-_MOST_KEPT:], action]
        if not self._save():
            self._past.remove(action)  # done without a note, it could be done again and again
            return
        self._say(action)

    def _follow(self, action: Action, section: ActionSection | None, now_s: float) -> None:
        run = self._runs.setdefault(action.id, Retraining(self._folder / "retrain" / action.id))
        try:
            if section is not None and not run.is_begun:
                run.begin(action, section)
            end = run.look(now_s)
            if end is None and section is None and not run.is_begun and now_s - action.began_s > _LATE_S:
                end = ("skipped", f"version {action.version} is served no more")
        except OSError as error:
            end = ("failed", f"it can't be started: {error.strerror or error}")
        if end is not None:
            self._runs.pop(action.id, None)
            self._end(action, *end, now_s)

    def _end(self, action: Action, outcome: Outcome, said: str, now_s: float) -> None:
        ended = replace(action, ended_s=now_s, outcome=outcome, said=said)
        self._past = [ended if each.id == action.id else each for each in self._past]
        self._counts[action.do, outcome] += 1
        if action.do == "roll-back" and outcome == "done" and action.digest not in self._rolled_back:
            self._rolled_back = [*self._rolled_back[-_MOST_TOLD:], action.digest]
        self._save()
        self._say(ended)

    def _say(self, action: Action) -> None:
        _log.warning("%s", json.dumps({"event": "action", **action.to_json()}))
        self._tell(action)

    def _read(self) -> None:
        path = self._folder / _STATE
        try:
            kept = json.loads(path.read_bytes())
            if kept["form"] != _FORM:
                raise ValueError(f"its form is {kept['form']!r}, this version reads {_FORM}")
            self._past = [Action.from_json(each) for each in kept["actions"]]
            self._rolled_back = [str(each) for each in kept["rolled_back"]]
            self._counts = Counter({(do, outcome): int(count) for do, outcome, count in kept["counts"]})
            self._made = int(kept["made"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("%s can't be read (%s): what was done before is not known", path, error)

    def _save(self) -> bool:
        path = self._folder / _STATE
        kept = {
            "form": _FORM, "actions": [each.to_json() for each in self._past], "rolled_back": self._rolled_back,
            "counts": self.counts(), "made": self._made,
        }  # fmt: skip
        try:
            write_whole(path, json.dumps(kept, separators=(",", ":")).encode())
        except OSError as error:
            _log.error("no action is taken that can't be written down: %s: %s", path, error.strerror or error)
            return False
        return True

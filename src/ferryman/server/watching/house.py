"""All that is watched: versions with their baselines, the drift of each, and records."""

import logging
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ferryman.bundle.read import load_bundle
from ferryman.core.alerting import AlertsSection
from ferryman.core.errors import FerrymanError, NotReady, UserError
from ferryman.core.record import Record
from ferryman.core.recording import PayloadsSection, RecordsSection
from ferryman.monitor.alerts.rules import Rule, rules_of, rules_of_machine
from ferryman.monitor.baseline import Baseline
from ferryman.monitor.drift.change import DriftChange
from ferryman.monitor.drift.watch import DriftWatch
from ferryman.monitor.notify.desk import AlertDesk
from ferryman.monitor.performance.feedback import read_feedback
from ferryman.monitor.performance.promise import promise_of
from ferryman.monitor.performance.watch import Known, PerformanceWatch
from ferryman.monitor.store.keeper import RecordKeeper
from ferryman.server.watching.acts import Acts
from ferryman.server.watching.diarist import Diarist
from ferryman.server.watching.facts import free_share, hottest_c, of_drift, of_machine, of_versions
from ferryman.server.watching.letters import Seen, read_looks, read_records
from ferryman.server.watching.orders import Orders, Watched
from ferryman.server.watching.rows import Rows
from ferryman.server.watching.states import States

_SAVE_S = 10.0
_MOST_LOGGED = 1000
_log = logging.getLogger("ferryman.watch")

Key = tuple[str, str]


class House:
    """Take what the front tells. Use it from one thread; `tidy` may be another's."""

    def __init__(self, orders: Orders, *, clock: Callable[[], float] = time.time) -> None:
        self.records = 0
        self.rows = 0
        self.figures: Sequence[Mapping[str, Any]] = ()  # JSON: what the front counts of each version
        self.looking_s = 0.0  # CPU time that workers say they took to look
        self.taking_s = 0.0  # CPU time that records and their comparison took here
        self.lost: Counter[str] = Counter()
        self._lost_outside: Counter[str] = Counter()
        self._clock = clock
        self._drift: dict[Key, DriftWatch] = {}
        self._rows: dict[Key, Rows] = {}  # since the last tick: many at once are compared cheaply
        self._watched: dict[Key, Watched] = {}
        folder = Path(orders.folder) if orders.folder else None
        self._states = States(folder / "states") if folder is not None else None
        self.diary = Diarist(folder / "diary" if folder is not None else None, clock)
        self.actions = Acts(folder / "actions" if folder is not None else None, self.diary, clock)
        self._keeper: RecordKeeper | None = None
        self._section: AlertsSection | None = None
        self._passing = tempfile.TemporaryDirectory(prefix="ferryman-watch-")  # where nothing is to be kept
        self._logged: list[tuple[str, int, str]] = []
        self._told: list[dict[str, Any]] = []  # JSON
        self._desk: AlertDesk | None = None
        self._rules: dict[Key, list[Rule]] = {}
        self._saved_s = 0.0
        self._folder = folder
        self._performance: PerformanceWatch | None = None
        self._no_performance: FerrymanError | None = None  # why it couldn't be opened
        self._known: dict[Key, Known] = {}
        self._payloads: dict[Key, PayloadsSection] = {}
        self.watch(orders.watched)

    def watch(self, versions: Sequence[Watched]) -> None:
        """Watch these versions and no others."""
        wanted = {(each.model, each.version): each for each in versions}
        for key in [key for key in self._watched if wanted.get(key) != self._watched[key]]:
            self._save(key)
            self.diary.left(key)
            self._drift.pop(key, None)
            self._rows.pop(key, None)
            self._rules.pop(key, None)
            self._known.pop(key, None)
            self.actions.forget(key)
            del self._watched[key]
        for key, each in wanted.items():
            if key not in self._watched:
                self._watched[key] = each
                self._begin(key, each)
        if self._desk is not None:
            machine = rules_of_machine(self._section) if self._section is not None else []
            self._desk.use([*machine, *(rule for rules in self._rules.values() for rule in rules)])

    def take(self, letter: dict[str, Any]) -> None:  # JSON
        """Take what a message holds."""
        began_s = time.thread_time()
        if "records" in letter:
            self._keep(read_records(letter["records"]))
        for seen in read_looks(letter.get("looks", ())):
            self.looking_s += seen.looking_s
            self._keep(seen.records)
            self._compare(seen)
        self.taking_s += time.thread_time() - began_s

    def tick(self) -> None:
        """Compare what came since the last time with the baselines; save states now and then."""
        began_s = time.thread_time()
        rows_by_key, self._rows = self._rows, {}
        for key, rows in rows_by_key.items():
            self._find(key, rows)
        self.taking_s += time.thread_time() - began_s
        self._told = [
            {"model": model, "version": version, **watch.state()} for (model, version), watch in self._drift.items()
        ]
        if self._desk is not None:
            lost = sum(self.losses().values()) + sum(self._lost_outside.values())
            facts = [*of_versions(self.figures), *of_drift(self.drift()), *of_machine(self._folder, lost)]
            facts += self._performance.readings() if self._performance is not None else ()
            facts += self.actions.readings()
            self._desk.observe(facts, self._clock())
            self._log_alerts()
            self.actions.step(self._desk.alerts(self._clock()), self.figures)
        self.diary.count(self.figures, self.losses())
        now_s = time.monotonic()
        if now_s - self._saved_s > _SAVE_S:
            self._saved_s = now_s
            for key in self._drift:
                self._save(key)

    def tidy(self) -> None:
        """Seal records, delete old ones, join feedback; may take seconds, and be called beside everything else."""
        if self._keeper is not None:
            self._keeper.tick()
        if self._performance is not None:
            self._performance.step(dict(self._known), self._clock())

    def close(self, *, is_tidy: bool = True) -> None:
        """Save what is known; where `tidy` is still at work its files stay as after a kill, which loses nothing."""
        self.tick()
        self.diary.close(self.figures, self.losses())
        for key in self._drift:
            self._save(key)
        if self._keeper is not None and is_tidy:
            self._keeper.close()
        if self._performance is not None and is_tidy:
            self._performance.close()
        if self._desk is not None:
            self._desk.close(self._clock())
        self._passing.cleanup()

    def alerts(self) -> list[dict[str, Any]]:  # JSON
        """Give what is pending, fires, or was over within the hour."""
        return [alert.to_json() for alert in self._desk.alerts(self._clock())] if self._desk is not None else []

    def keep_payload(self, about: Mapping[str, Any], payload: bytes) -> None:  # JSON
        """Keep a payload, redacted; a version whose rules are not those of the store (the first bundle's) has none."""
        if self._keeper is None:
            self.lost["payload_unkept"] += 1
        elif self._payloads.get((about["model"], about["version"])) != self._keeper.payload_rules:
            self.lost["payload_other_rules"] += 1
        else:
            self._keeper.add_payload(
                about["id"], about["model"], about["version"], about["kind"], payload, about["why"]
            )

    def payloads_kept(self) -> int:
        """Give how many payloads were kept here."""
        return self._keeper.payloads_kept if self._keeper is not None else 0

    def silences(self) -> dict[str, Any]:  # JSON
        """Give what mutes alerts: silences, and maintenance windows."""
        return self._open_silences().silences(self._clock())

    def silence(self, asked: Mapping[str, Any]) -> dict[str, Any]:  # JSON
        """Mute alerts for `for_s` seconds, over a restart, too; raises InputError, Overloaded or NotReady."""
        now_s = self._clock()
        made = self._open_silences().silence(
            asked["matchers"], until_s=now_s + asked["for_s"], author=asked["author"], comment=asked["comment"],
            now_s=now_s,
        )  # fmt: skip
        return made.to_json()

    def unsilence(self, silence_id: str) -> dict[str, Any]:  # JSON
        """End a silence; raises NotFound or NotReady."""
        return self._open_silences().unsilence(silence_id, self._clock()).to_json()

    def take_feedback(self, rows: Sequence[Any]) -> dict[str, int]:  # JSON
        """Keep what was true of items, on the disk; raises UserError or NotReady."""
        now_s = self._clock()
        return self._watched_performance().take(read_feedback(rows, now_s), now_s)

    def performance(self) -> dict[str, Any]:  # JSON
        """Give how well each version does, as labels and confidences tell; raises UserError."""
        return self._watched_performance().tell()

    def performance_brief(self) -> list[dict[str, Any]]:  # JSON
        """Give the figures of it that metrics show."""
        return self._performance.brief() if self._performance is not None else []

    def machine(self) -> dict[str, float | None]:
        """Give the temperature, and the share of the records' disk that is free; None where it isn't known."""
        return {"temperature_c": hottest_c(), "disk_free": free_share(self._folder) if self._folder else math.nan}

    def notices(self) -> list[tuple[str, str, int]]:
        """Give what became of what receivers were told: receiver, result, count."""
        if self._desk is None:
            return []
        told = self._desk.outbox.status()
        return [
            (name, result, count)
            for name, figures in told.items()
            for result, count in figures.items()
            if type(count) is int and result != "waiting"
        ]

    def drift(self) -> list[dict[str, Any]]:  # JSON
        """Give the drift of each version, as it was at the last tick."""
        return self._told

    def lose(self, reasons: Mapping[str, int]) -> None:
        """Take that so many records more were lost outside: an alert and the diary are to tell of them."""
        self._lost_outside.update(reasons)
        self.diary.lose(reasons)

    def losses(self) -> dict[str, int]:
        """Give how many records were lost here, by reason."""
        kept: Counter[str] = Counter(self.lost)
        if self._keeper is not None:
            kept.update(self._keeper.losses)
        return dict(kept)

    def _begin(self, key: Key, each: Watched) -> None:
        try:
            bundle = load_bundle(Path(each.path))
        except FerrymanError as error:
            _log.warning("model '%s' version %s is not watched: %s", each.model, each.version, error)
            return
        self.diary.served(key, bundle)
        self.actions.use(key, each.digest, bundle.deployment.monitor.actions)
        self._open_keeper(bundle.deployment.monitor.records)
        self._payloads[key] = bundle.deployment.monitor.records.payloads
        self._rules[key] = rules_of(bundle.deployment, version=each.version)
        self._open_desk(bundle.deployment.monitor.alerts)
        baseline = Baseline.from_json(bundle.baseline) if bundle.manifest.digest == each.digest else None
        self._known[key] = Known(promise_of(bundle), baseline)
        if baseline is None or not baseline.signals:
            _log.warning("model '%s' version %s has no baseline to find drift by", each.model, each.version)
            return
        saved = self._states.read(key, each.digest) if self._states is not None else None
        policy = bundle.deployment.contract.drift
        self._drift[key] = (
            DriftWatch.restore(baseline, policy, saved) if saved is not None else DriftWatch(baseline, policy)
        )

    def _open_keeper(self, section: RecordsSection) -> None:
        """Keep records by the rules of the first bundle: a server has one store."""
        if self._keeper is not None or self._folder is None:
            return
        try:
            self._keeper = RecordKeeper(self._folder / "records", section)
        except FerrymanError as error:
            _log.error("nothing is kept: %s", error)
            self._folder = self._states = None
            return
        try:
            self._performance = PerformanceWatch(self._folder, keep_days=section.keep_days)
        except FerrymanError as error:
            self._no_performance = error
            _log.warning("no feedback is taken: %s; %s", error, error.hint)

    def _open_silences(self) -> AlertDesk:
        if self._desk is None:
            raise NotReady("no alerts are raised yet", hint="it begins two seconds after the first model is served")
        return self._desk

    def _watched_performance(self) -> PerformanceWatch:
        if self._performance is not None:
            return self._performance
        if self._no_performance is not None:
            raise self._no_performance
        raise UserError("labels are joined with records, and none are kept", hint="ferryman serve ... --monitor DIR")

    def _open_desk(self, section: AlertsSection) -> None:
        """Have somebody hear of alerts: the first bundle with receivers says who; a server has one desk."""
        if self._desk is not None and (not section.notify or (self._section is not None and self._section.notify)):
            return
        if self._desk is not None:
            self._desk.close(self._clock())
        self._section = section
        if self._folder is not None:
            try:
                (self._folder / "alerts").mkdir(parents=True, exist_ok=True)
                self._desk = AlertDesk(self._folder / "alerts", section, os.environ)
                self._logged = [_said(alert) for alert in self.alerts()]  # before a restart
                return
            except (OSError, FerrymanError) as error:
                _log.error("alerts are not remembered over a restart: %s", error)
        self._desk = AlertDesk(Path(self._passing.name), section, os.environ)

    def _save(self, key: Key) -> None:
        if self._states is not None and (watch := self._drift.get(key)) is not None:
            self._states.write(key, self._watched[key].digest, watch.save())

    def _keep(self, records: Sequence[Record]) -> None:
        self.records += len(records)
        if self._keeper is not None:
            self._keeper.add(records)

    def _log_alerts(self) -> None:
        """Say once of each alert that it fires, or no longer does."""
        for alert in self.alerts():
            known = _said(alert)
            if alert["state"] in ("firing", "resolved") and known not in self._logged:
                _log.warning("alert %s %s: %s", alert["rule"], alert["state"], alert["summary"])
                self.diary.alerted(alert)
                self._logged = [*self._logged[-_MOST_LOGGED:], known]

    def _compare(self, seen: Seen) -> None:
        if not seen.records or not seen.columns:
            return
        first = seen.records[0]
        key = (first.model, first.version)
        if key in self._drift:
            rows = self._rows.setdefault(key, Rows())
            self.rows += rows.add(seen.columns, first.at_s)

    def _find(self, key: Key, rows: Rows) -> None:
        """Look for drift; a version whose signals can't be compared is compared no more, and all others are."""
        try:
            for change in self._drift[key].add(rows.columns, rows.at_s):
                self._tell(key, change)
        except Exception:  # noqa: BLE001 - a plug-in's signals may be anything
            del self._drift[key]
            _log.exception("model '%s' version %s: signals can't be compared: its drift is not watched any more", *key)

    def _tell(self, key: Key, change: DriftChange) -> None:
        moved = "; ".join(each.text for each in change.signals[:3])
        _log.warning("model '%s' version %s: drift %s: %s", *key, change.kind, moved)
        self.diary.drifted(key, change)


def _said(alert: Mapping[str, Any]) -> tuple[str, int, str]:  # JSON
    return alert["id"], alert["episode"], alert["state"]

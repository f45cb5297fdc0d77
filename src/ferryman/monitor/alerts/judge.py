"""Hold rules against what is known: which condition holds, for which version, and in which figures."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ferryman.monitor.alerts.burn import History
from ferryman.monitor.alerts.fact import Fact, Reading, Traffic
from ferryman.monitor.alerts.rules import Rule
from ferryman.monitor.alerts.usual import Usual

_FRESH_S = 30.0
_RISING_S = 60.0
_FORGOTTEN_S = 3600.0


class Subject(NamedTuple):
    """Be what an alert is about: a rule by name, a model, a version ("" for all, or for the machine)."""

    rule: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say whether a rule's condition holds (None: unknown) and the figures that say so."""

    rule: Rule
    holds: bool | None
    value: float | None = None
    limit: float | None = None
    detail: str = ""


@dataclass(slots=True)
class _Known:
    reading: Reading
    at_s: float
    rose_s: float | None = None


class Knowledge:
    """Remember facts as far as rules need them; times are seconds of a `Pace`."""

    def __init__(self) -> None:
        self._readings: dict[tuple[str, str, str], _Known] = {}
        self._histories: dict[tuple[str, str], History] = {}
        self._seen_s: dict[tuple[str, str], float] = {}
        self._usual: dict[str, Usual] = {}
        self._silent: set[str] = set()  # models of which there is silence

    def learn(self, facts: Sequence[Fact], elapsed_s: float) -> None:
        """Take facts as they are now."""
        came: dict[str, int] = {}
        for fact in facts:
            if isinstance(fact, Traffic):
                key = (fact.model, fact.version)
                history = self._histories.setdefault(key, History())
                came[fact.model] = came.get(fact.model, 0) + history.add(fact, elapsed_s)
                self._seen_s[key] = elapsed_s
            else:
                self._read(fact, elapsed_s)
        for model, requests in came.items():
            self._usual.setdefault(model, Usual(elapsed_s)).saw(requests, elapsed_s)

    def judge(self, rules: Sequence[Rule], elapsed_s: float) -> dict[Subject, Verdict]:
        """Hold each rule against every version that it is about; a rule of one version goes before that of all."""
        found: dict[Subject, Verdict] = {}
        for rule in sorted(rules, key=lambda one: one.version):
            for model, version in self._about(rule):
                found[Subject(rule.name, model, version)] = self._verdict(rule, model, version, elapsed_s)
        return found

    def forget(self, kept: set[str], elapsed_s: float) -> None:
        """Let go of models that no rule names, and that were not seen for an hour: others may be loading again."""
        kept = kept | {model for (model, _), seen_s in self._seen_s.items() if elapsed_s - seen_s < _FORGOTTEN_S}
        self._readings = {key: known for key, known in self._readings.items() if key[1] in kept or not key[1]}
        self._histories = {key: history for key, history in self._histories.items() if key[0] in kept}
        self._seen_s = {key: seen for key, seen in self._seen_s.items() if key[0] in kept}
        self._usual = {model: usual for model, usual in self._usual.items() if model in kept}

    def _read(self, reading: Reading, elapsed_s: float) -> None:
        if not math.isfinite(reading.value):
            return
        key = (reading.kind, reading.model, reading.version)
        before = self._readings.get(key)
        known = _Known(reading, elapsed_s, before.rose_s if before else None)
        if before is not None and reading.value > before.reading.value:
            known.rose_s = elapsed_s
        self._readings[key] = known

    def _about(self, rule: Rule) -> Iterator[tuple[str, str]]:
        if rule.sort == "silence":
            if rule.model in self._usual:
                yield rule.model, ""
            return
        if rule.sort == "burn":
            known = list(self._histories)
        else:
            known = [(model, version) for kind, model, version in self._readings if kind == rule.fact]
        for model, version in known:
            if model == rule.model and rule.version in ("", version):
                yield model, version

    def _verdict(self, rule: Rule, model: str, version: str, elapsed_s: float) -> Verdict:
        if rule.sort == "burn":
            return self._burning(rule, model, version, elapsed_s)
        if rule.sort == "silence":
            return self._quiet(rule, model, elapsed_s)
        known = self._readings[rule.fact, model, version]
        if elapsed_s - known.at_s > _FRESH_S:
            return Verdict(rule, None)
        value = known.reading.value
        if rule.sort == "rising":
            rises = known.rose_s is not None and elapsed_s - known.rose_s < _RISING_S
            return Verdict(rule, rises, value, detail=known.reading.detail)
        holds = value > rule.limit if rule.sort == "above" else value < rule.limit
        return Verdict(rule, holds, value, rule.limit, known.reading.detail)

    def _burning(self, rule: Rule, model: str, version: str, elapsed_s: float) -> Verdict:
        key = (model, version)
        if elapsed_s - self._seen_s.get(key, -math.inf) > _FRESH_S:
            return Verdict(rule, None)
        history = self._histories[key]
        for window in rule.windows:
            least = window.factor * rule.budget
            short, _ = history.share(rule.fact, window.short_s, elapsed_s)
            if short <= least:  # the short window is quickly summed, and says no most of the time
                continue
            long, bad = history.share(rule.fact, window.long_s, elapsed_s)
            if bad >= rule.at_least and long > least:
                said = f"{long:.2%} in {span(window.long_s)} ({bad} requests), {short:.2%} in {span(window.short_s)}"
                return Verdict(rule, True, long, least, said)
        return Verdict(rule, False)

    def _quiet(self, rule: Rule, model: str, elapsed_s: float) -> Verdict:
        usual = self._usual[model]
        limit_s = rule.limit or usual.limit_s(elapsed_s)
        if limit_s is None or usual.last_s is None:
            return Verdict(rule, False)
        pause_s = usual.pause_s(elapsed_s)
        (self._silent.add if pause_s > limit_s else self._silent.discard)(model)
        return Verdict(rule, pause_s > limit_s, pause_s, limit_s)

    def save(self) -> dict[str, Any]:  # JSON
        """Give what must outlive a restart: histories and habits; readings come again by themselves."""
        return {
            "histories": [[*key, history.save()] for key, history in self._histories.items()],
            "usual": {model: usual.save() for model, usual in self._usual.items()},
            "silent": sorted(self._silent),
        }

    def restore(self, stored: Mapping[str, Any], elapsed_s: float) -> None:
        """Read what `save` gave; raises TypeError, KeyError or ValueError for something else."""
        for model, version, history in stored["histories"]:
            self._histories[model, version] = History.restore(history)
            self._seen_s[model, version] = elapsed_s
        self._usual = {model: Usual.restore(usual) for model, usual in stored["usual"].items()}
        self._silent = set(stored.get("silent", ()))
        for model, usual in self._usual.items():
            if usual.last_s is not None and model not in self._silent:
                usual.last_s = elapsed_s  # nobody could ask while no server was there


def span(seconds: float) -> str:
    """Say a length of time in its largest fitting unit: 5 min, 3 d."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"

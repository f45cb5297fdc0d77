"""From facts to notices: the one place where it is decided that somebody must hear of something."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from typing import Any

from ferryman.core.alerting import AlertsSection
from ferryman.core.errors import NotFound, Overloaded
from ferryman.monitor.alerts.alert import Alert, Notice, State, short_digest
from ferryman.monitor.alerts.fact import Fact
from ferryman.monitor.alerts.groups import Groups
from ferryman.monitor.alerts.judge import Knowledge, Subject, Verdict
from ferryman.monitor.alerts.pace import Moment, Pace
from ferryman.monitor.alerts.rules import Rule
from ferryman.monitor.alerts.silences import MOST, Silence, make_silence, muting
from ferryman.monitor.alerts.track import Track
from ferryman.monitor.alerts.words import describe

_FORM = 1
_SHOWN_S = 3600.0
_LOG = logging.getLogger(__name__)


class AlertEngine:
    """Hold rules against facts, once a second or so. Pure: it reads no clock and writes nothing.

    `state` is what `save` gave before a restart; one that can't be read is refused, told in `refused`, and all begins
    anew, silences too.
    """

    def __init__(
        self, rules: Sequence[Rule], section: AlertsSection, *, state: Mapping[str, Any] | None = None
    ) -> None:
        self._rules = list(rules)
        self._section = section
        self.refused = ""
        self._begin()
        if state is not None:
            try:
                self._restore(state)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self.refused = f"the saved state of alerts can't be read: {error!r}"
                _LOG.warning("%s; they begin anew", self.refused)
                self._begin()

    def _begin(self) -> None:
        self._pace = Pace()
        self._knowledge = Knowledge()
        self._tracks: dict[Subject, Track] = {}
        self._shown: dict[Subject, Alert] = {}
        self._over: dict[str, Alert] = {}
        self._groups = {name: Groups(self._section, name) for name in self._section.notify}
        self._silences: dict[str, Silence] = {}
        self._beat = -1

    @property
    def jumps(self) -> int:
        """Give how often the clock was set, or the machine slept."""
        return self._pace.jumps

    def use(self, rules: Sequence[Rule]) -> None:
        """Go on with other rules, as models come and go; what fires by one that is gone is over in five minutes."""
        self._rules = list(rules)
        self._knowledge.forget({rule.model for rule in rules}, self._pace.elapsed_s)

    def observe(self, facts: Sequence[Fact], now_s: float) -> list[Notice]:
        """Take facts as they are now, and give what is due to be told."""
        when = self._pace.advance(now_s)
        self._knowledge.learn(facts, when.elapsed_s)
        found = self._knowledge.judge(self._rules, when.elapsed_s)
        for subject, verdict in found.items():
            self._step(subject, verdict, when)
        for subject in [subject for subject in self._tracks if subject not in found]:
            self._unwatched(subject, when)
        self._over = {
            key: alert
            for key, alert in self._over.items()
            if any(groups.knows(key) for groups in self._groups.values()) or now_s - (alert.ended_s or now_s) < _SHOWN_S
        }
        firing = [alert for alert in self.alerts(now_s) if alert.state == "firing"]
        due = [notice for groups in self._groups.values() for notice in groups.due(firing, self._over, when)]
        return [*due, *self._heartbeat(now_s)]

    def alerts(self, now_s: float) -> list[Alert]:
        """Give all that is pending, fires, or was over within the hour; the gravest first."""
        current = [replace(alert, muted=self._muted(alert, now_s)) for alert in self._shown.values()]
        ids = {alert.id for alert in current}
        order = {"firing": 0, "pending": 1, "resolved": 2}
        grave = {"critical": 0, "warning": 1, "info": 2}
        listed = [*current, *(alert for key, alert in self._over.items() if key not in ids)]
        return sorted(listed, key=lambda one: (order[one.state], grave[one.severity], one.model, one.rule, one.version))

    def told(self, receiver: str, now_s: float) -> list[Alert]:
        """Give what fires and is not muted, of what a receiver was told."""
        groups = self._groups[receiver]
        firing = [alert for alert in self.alerts(now_s) if alert.state == "firing" and not alert.muted]
        return [alert for alert in firing if groups.knows(alert.id)]

    def silence(
        self, matchers: Mapping[str, str], *, until_s: float, author: str, comment: str, now_s: float
    ) -> Silence:
        """Mute alerts that fit until a Unix time; raises InputError for what makes no sense, Overloaded over 1000."""
        self._silences = {key: one for key, one in self._silences.items() if one.until_s > now_s}
        if len(self._silences) >= MOST:
            raise Overloaded(f"there are {MOST} silences", hint="one with a wider matcher, or remove some")
        made = make_silence(matchers, until_s=until_s, author=author, comment=comment, now_s=now_s)
        self._silences[made.id] = made
        return made

    def unsilence(self, silence_id: str) -> Silence:
        """End a silence; raises NotFound where there is none of that id."""
        try:
            return self._silences.pop(silence_id)
        except KeyError:
            raise NotFound(f"there is no silence '{silence_id}'", hint="it may have ended") from None

    def silences(self, now_s: float) -> list[Silence]:
        """Give those that are in force."""
        return [one for one in self._silences.values() if one.until_s > now_s]

    def save(self) -> dict[str, Any]:  # JSON
        """Give all that must outlive a restart, as JSON."""
        state = {
            "form": _FORM,
            "pace": asdict(self._pace),
            "knowledge": self._knowledge.save(),
            "tracks": [[*subject, track.save()] for subject, track in self._tracks.items()],
            "shown": [[*subject, alert.to_json()] for subject, alert in self._shown.items()],
            "over": [alert.to_json() for alert in self._over.values()],
            "groups": {name: groups.save() for name, groups in self._groups.items()},
            "silences": [one.to_json() for one in self._silences.values()],
            "beat": self._beat,
        }
        copy: dict[str, Any] = json.loads(json.dumps(state))  # JSON: nothing in it changes any more
        return copy

    def _restore(self, state: Mapping[str, Any]) -> None:
        if state["form"] != _FORM:
            raise ValueError(f"its form is {state['form']!r}, this version reads {_FORM}")
        self._pace = Pace(**state["pace"])
        self._knowledge.restore(state["knowledge"], self._pace.elapsed_s)
        self._tracks = {Subject(*subject): Track.restore(track) for *subject, track in state["tracks"]}
        self._shown = {Subject(*subject): Alert.from_json(alert) for *subject, alert in state["shown"]}
        over = [Alert.from_json(alert) for alert in state["over"]]
        self._over = {alert.id: alert for alert in over}
        for name in self._groups.keys() & state["groups"].keys():
            self._groups[name].restore(state["groups"][name])
        silences = [Silence.from_json(one) for one in state["silences"]]
        self._silences = {one.id: one for one in silences}
        self._beat = int(state["beat"])

    def _step(self, subject: Subject, verdict: Verdict, when: Moment) -> None:
        track = self._tracks.setdefault(subject, Track(seen_s=when.elapsed_s))
        change = track.step(verdict.holds, verdict.rule.for_s, verdict.rule.clear_s, when)
        if change == "ended":
            self._end(subject, track)
        elif track.state == "idle":
            self._shown.pop(subject, None)
        elif verdict.holds or subject not in self._shown:
            self._shown[subject] = _alert(subject, verdict, track, track.state)

    def _unwatched(self, subject: Subject, when: Moment) -> None:
        """Step what no rule asks about now: gone with its version, or not there yet after a restart."""
        track = self._tracks[subject]
        if track.step(None, 0, 0, when) == "ended":
            self._end(subject, track)
        if track.state == "idle":
            self._shown.pop(subject, None)
            if when.elapsed_s - track.seen_s > _SHOWN_S:
                del self._tracks[subject]

    def _end(self, subject: Subject, track: Track) -> None:
        alert = self._shown.pop(subject, None)
        if alert is not None:
            self._over[alert.id] = replace(alert, state="resolved", ended_s=track.ended_at)

    def _muted(self, alert: Alert, now_s: float) -> str:
        if silence := muting(self._silences.values(), alert, now_s):
            return f"silence {silence.id}"
        for window in self._section.maintenance:
            if window.covers(now_s) and any(fnmatchcase(alert.model, pattern) for pattern in window.models):
                return f"maintenance {window.why}".strip()
        return ""

    def _heartbeat(self, now_s: float) -> list[Notice]:
        beat = int(now_s // self._section.heartbeat_s)
        if beat == self._beat:
            return []
        self._beat = beat
        listeners = [name for name, receiver in self._section.notify.items() if receiver.heartbeat]
        said = short_digest("heartbeat", str(beat))
        return [Notice(said, name, "heartbeat", now_s, is_heartbeat=True) for name in listeners]


def _alert(subject: Subject, verdict: Verdict, track: Track, state: State | str) -> Alert:
    summary, description = describe(subject, verdict)
    return Alert(
        *subject, verdict.rule.severity, "firing" if state == "firing" else "pending", summary, description,
        verdict.value, verdict.limit, since_s=track.began_at, episode=track.episode,
    )  # fmt: skip

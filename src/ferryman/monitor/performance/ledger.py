"""Feedback and outcomes on the disk: one SQLite file beside the records, which survives a kill at any moment."""

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ferryman.core.errors import MissingExtra, NotReady
from ferryman.monitor.performance.feedback import Feedback
from ferryman.monitor.performance.outcome import Outcome

FILE = "feedback.sqlite"
_MOST_WAITING = 1_000_000
_MOST_OUTCOMES = 1_000_000
_BUSY_S = 10.0
_AGAIN_S = ((600.0, 60.0), (86_400.0, 3600.0))  # younger than this: tried again after so long; then never
_SCHEMA = """
create table if not exists waiting (id text, item integer, at_s real, truth text, received_s real, due_s real,
    primary key (id, item)) without rowid;
create index if not exists waiting_due on waiting (due_s);
create table if not exists outcomes (id text, item integer, model text, version text, at_s real, told_s real,
    body text, primary key (id, item, model, version)) without rowid;
create index if not exists outcomes_at on outcomes (model, version, at_s);
create table if not exists tally (name text primary key, count integer) without rowid;
"""


class Ledger:
    """Keep feedback until its record is found, then the outcome of both; may be used from several threads.

    Of one item the truth that was found out last counts; a truth that comes twice is counted as `replaced`. What finds
    no record within a day is given up as `unknown`. Every method raises NotReady where the file can't be used.
    """

    def __init__(self, folder: Path) -> None:
        """Open the file; raises MissingExtra where Python has no SQLite."""
        try:
            import sqlite3  # here, for a slim Python has none
        except ImportError:
            raise MissingExtra(
                "feedback is kept by SQLite, which this Python lacks",
                hint="join it elsewhere: ferryman feedback FILE --monitor DIR, with the server's folder",
            ) from None
        self._path, self._fault = folder / FILE, sqlite3.Error
        self._lock = threading.Lock()
        with self._told():
            folder.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(self._path, timeout=_BUSY_S, check_same_thread=False, isolation_level=None)
            self._base.execute("pragma journal_mode = wal")
            self._base.executescript(_SCHEMA)

    def take(self, feedback: Sequence[Feedback], now_s: float) -> dict[str, int]:
        """Keep feedback, all or none, on the disk before this returns."""
        counts: Counter[str] = Counter(taken=len(feedback))
        with self._together():
            [(waiting,)] = self._base.execute("select count(*) from waiting").fetchall()
            if waiting + len(feedback) > _MOST_WAITING:
                raise NotReady(f"{waiting} labels wait for their records already", hint="try again in an hour")
            for each in feedback:
                counts["replaced"] += self._put(each, now_s)
            self._count(counts)
        return {name: counts[name] for name in ("taken", "replaced")}

    def due(self, now_s: float, most: int) -> list[Feedback]:
        """Give what is to be looked for now, the oldest first."""
        asked = "select id, item, at_s, truth from waiting where due_s <= ? order by due_s limit ?"
        with self._told(), self._lock:
            rows = self._base.execute(asked, (now_s, most)).fetchall()
        return [Feedback(row[0], row[1], row[2], **json.loads(row[3])) for row in rows]

    def settle(
        self, looked_for: Sequence[Feedback], outcomes: Sequence[Outcome], refused: Mapping[str, str], now_s: float
    ) -> None:
        """Keep outcomes; what found none waits on, or is given up. `refused` says by id and item (`key_of`) why."""
        found = {key_of(each) for each in outcomes}
        counts: Counter[str] = Counter(joined=len(found))
        with self._together():
            for outcome in outcomes:
                self._keep(outcome)
            for each in looked_for:
                key = key_of(each)
                if key not in found and key in refused:
                    counts[refused[key]] += 1
                elif key not in found and self._postpone(each, now_s):
                    continue
                elif key not in found:
                    counts["unknown"] += 1
                # What was replaced meanwhile stays, to be looked for again.
                self._base.execute(
                    "delete from waiting where id = ? and item = ? and at_s = ?", (each.id, each.item, each.at_s)
                )
            self._count(counts)

    def versions(self) -> list[tuple[str, str]]:
        """Give each model and version that has outcomes."""
        with self._told(), self._lock:
            return self._base.execute("select distinct model, version from outcomes order by 1, 2").fetchall()

    def outcomes(self, model: str, version: str, most: int) -> list[Outcome]:
        """Give the outcomes of a version's latest requests, the newest first."""
        asked = (
            "select id, item, model, version, at_s, told_s, body from outcomes indexed by outcomes_at "
            "where model = ? and version = ? order by at_s desc limit ?"
        )
        with self._told(), self._lock:
            rows = self._base.execute(asked, (model, version, most)).fetchall()
        return [Outcome(*row[:6], **json.loads(row[6])) for row in rows]

    def trim(self, before_s: float) -> None:
        """Delete outcomes of requests before a Unix time, and the oldest beyond a million."""
        with self._together():
            self._base.execute("delete from outcomes where at_s < ?", (before_s,))
            [(count,)] = self._base.execute("select count(*) from outcomes").fetchall()
            if count > _MOST_OUTCOMES:
                newest = "select at_s from outcomes order by at_s desc limit 1 offset ?"
                self._base.execute(f"delete from outcomes where at_s < ({newest})", (_MOST_OUTCOMES,))  # noqa: S608

    def figures(self) -> dict[str, int]:
        """Count what was taken, replaced, joined and given up (by reason), and what waits."""
        with self._told(), self._lock:
            counts = dict(self._base.execute("select name, count from tally").fetchall())
            [(waiting,)] = self._base.execute("select count(*) from waiting").fetchall()
        return {**{str(name): int(count) for name, count in counts.items()}, "waiting": waiting}

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._base.close()

    def _put(self, each: Feedback, now_s: float) -> bool:
        """Keep one; tells whether there was a truth of this item before."""
        key = (each.id, each.item)
        before = self._base.execute("select at_s from waiting where id = ? and item = ?", key).fetchone()
        known = self._base.execute("select max(told_s) from outcomes where id = ? and item = ?", key).fetchone()[0]
        newest = max(before[0] if before else -1.0, known if known is not None else -1.0)
        if each.at_s >= newest:
            said = {"truth": each.truth, "right": each.right, "objects": each.objects}
            body = json.dumps({name: value for name, value in said.items() if value is not None})
            row = (*key, each.at_s, body, now_s, now_s)
            self._base.execute("insert or replace into waiting values (?, ?, ?, ?, ?, ?)", row)
        return newest >= 0

    def _keep(self, outcome: Outcome) -> None:
        said = {
            "right": outcome.right, "label": outcome.label, "value": outcome.value, "objects": outcome.objects,
            "confidence": outcome.confidence, "truth": outcome.truth, "signals": dict(outcome.signals),
        }  # fmt: skip
        row = (outcome.id, outcome.item, outcome.model, outcome.version, outcome.at_s, outcome.told_s)
        body = json.dumps({name: value for name, value in said.items() if name == "right" or value is not None})
        self._base.execute("insert or replace into outcomes values (?, ?, ?, ?, ?, ?, ?)", (*row, body))

    def _postpone(self, each: Feedback, now_s: float) -> bool:
        """Tell whether it is worth another try, and when."""
        key = (each.id, each.item)
        row = self._base.execute("select received_s from waiting where id = ? and item = ?", key).fetchone()
        age_s = now_s - row[0] if row else 0.0
        again_s = next((pause_s for oldest_s, pause_s in _AGAIN_S if age_s < oldest_s), None)
        if again_s is None:
            return False
        self._base.execute("update waiting set due_s = ? where id = ? and item = ?", (now_s + again_s, *key))
        return True

    def _count(self, counts: Mapping[str, int]) -> None:
        for name, count in counts.items():
            if count:
                self._base.execute(
                    "insert into tally values (?, ?) on conflict (name) do update set count = count + excluded.count",
                    (name, count),
                )

    @contextmanager
    def _together(self) -> Iterator[None]:
        with self._told(), self._lock:
            self._base.execute("begin immediate")
            try:
                yield
                self._base.execute("commit")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("rollback")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (self._fault, OSError) as error:
            raise NotReady(
                f"{self._path} can't be used: {error}",
                hint="look at its room, and who may write; a damaged file may be moved away",
            ) from None


def key_of(each: Feedback | Outcome) -> str:
    """Name an item of a request."""
    return f"{each.item} {each.id}"

"""Tell the collector how a box is: records from its spool, in order, each until the collector has it."""

import http.client
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferryman import __version__
from ferryman.client.access import Access
from ferryman.client.link import Link, read_url
from ferryman.core.errors import ConfigError, FerrymanError, NotReady
from ferryman.fleet.box import Box
from ferryman.fleet.slots import Slots
from ferryman.fleet.spool import Spool
from ferryman.fleet.update import Outcome

RECORDS = "/v1/records"
AT_ONCE = 100
_JSON = {"Content-Type": "application/json"}
_NEVER = (http.client.BAD_REQUEST, http.client.REQUEST_ENTITY_TOO_LARGE)
_FAMILIES = 64
_EPOCH_OF_NO_CLOCK_S = 1_704_067_200  # 2024: a clock before it was never set


class Reporter:
    """Spool what a box has to tell, and send it on."""

    def __init__(self, box: Box, slots: Slots) -> None:
        self._box, self._slots = box, slots
        self.spool = Spool(slots.root / "spool", limit_bytes=round(box.reports.spool_mb * 1e6))
        self._link = _link_of(box) if box.reports.url else None

    def tell(self, kind: str, words: Mapping[str, Any]) -> None:  # JSON
        """Spool a record; where no collector is named there is nobody to tell."""
        if self._link is None:
            return
        box, life = self._box, self._slots.journal.life
        about = {"box": box.box, "group": box.group, "fleet": box.fleet, "life": life, "at_s": round(time.time(), 3)}
        self.spool.add({**about, "kind": kind, **words})

    def tell_outcome(self, outcome: Outcome) -> None:
        """Spool what came of an update."""
        self.tell("update", {"outcome": outcome.kind, "bundle": outcome.source, "reason": outcome.reason[:1000]})

    def tell_status(self, *, trouble: str, unwell: str, figures: Mapping[str, float]) -> None:
        """Spool how the box stands; `trouble` is what the last look for a release came to, "" for well."""
        journal, serving = self._slots.journal, self._slots.serving
        words: dict[str, Any] = {
            "version": __version__,
            "release": journal.highest,
            "serving": serving.source if serving else "",
            "phase": journal.change.phase if journal.change else "",
            "failed": journal.bad,
            "trouble": trouble[:1000],
            "unwell": unwell[:1000],
            "figures": figures,
            "lost": self.spool.lost,
        }
        if time.time() < _EPOCH_OF_NO_CLOCK_S:
            words["clock"] = "not set: certificates look as if they were not good yet"
        self.tell("status", words)

    def send(self) -> bool:
        """Send what is spooled; gives whether the collector has it all. One that can't be reached is no error.

        A record that the collector can't take, as the disk has damaged it, is given up and counted: the others go on.
        """
        count = AT_ONCE
        try:
            while self._link is not None and (records := self.spool.oldest(count)):
                body = b"[" + b",".join(payload for _, payload in records) + b"]"
                reply = self._link.ask("POST", RECORDS, body, _JSON)
                if reply.status in _NEVER and len(records) > 1:
                    count = 1  # one of them is at fault, or all together are too much
                    continue
                if reply.status in _NEVER:
                    self.spool.lost += 1
                elif reply.status != http.client.OK:
                    return False
                self.spool.sent(records[-1][0])
        except (NotReady, ConfigError):
            return False
        finally:
            if self._link is not None:
                self._link.close()  # thousands of boxes would hold a connection each for nothing
        return True


def scrape(url: str) -> dict[str, float]:
    """Give the sums of a server's own counters, over their labels; none where it doesn't answer."""
    try:
        link = Link(read_url(url, "http://HOST:PORT"), timeout_s=10.0, access=Access())
        reply = link.ask("GET", "/metrics", b"", {})
        link.close()
    except FerrymanError:
        return {}
    sums: dict[str, float] = {}
    for line in reply.payload.decode("utf-8", "replace").splitlines() if reply.status == http.client.OK else ():
        name, _, rest = line.partition("{") if "{" in line else line.partition(" ")
        if name.startswith("ferryman_") and name.endswith(("_total", "_sum", "_count")):
            sums[name] = sums.get(name, 0.0) + _number(rest.rpartition(" ")[2])
    return dict(sorted(sums.items())[:_FAMILIES])


def read_token(file: Path) -> str:
    """Read a token's file; raises ConfigError."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"token {file} can't be read: {error}", hint="ferryman fleet token BOX gives one") from None


def read_records(payload: bytes) -> list[dict[str, Any]]:
    """Read what boxes send; raises ValueError for anything else."""
    records = json.loads(payload)
    if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
        raise ValueError("no list of records")
    return records


def _link_of(box: Box) -> Link:
    reports = box.reports
    access = Access(key=read_token(reports.token_file) if reports.token_file else "", ca_file=reports.ca)
    return Link(read_url(reports.url, "https://HOST:PORT", "a collector's address"), timeout_s=30.0, access=access)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if value == value and abs(value) != float("inf") else 0.0

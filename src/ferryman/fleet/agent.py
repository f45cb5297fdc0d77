"""What runs on a box: look for a release now and then, bring its bundle into service, and report."""

import logging
import random
import shutil
import time
from threading import Event

from ferryman.core.errors import ConfigError, FerrymanError, NotReady, Untrusted
from ferryman.core.progress import Progress, silent
from ferryman.fleet.box import Box
from ferryman.fleet.channel import Channel
from ferryman.fleet.release import Release
from ferryman.fleet.report import Reporter, scrape
from ferryman.fleet.service import Service, make_service, tell_error
from ferryman.fleet.slots import Slots
from ferryman.fleet.update import Outcome, Updater, Watch
from ferryman.supply.keys import load_public
from ferryman.supply.policy import make_policy

_log = logging.getLogger("ferryman.fleet")
_LONGEST = 8
"""How many times longer than usual a box waits before it looks again, at most, after looks that failed."""
_SOON_S = 30.0


class Agent:
    """Keep one box at the version that its fleet's release names."""

    def __init__(self, box: Box, *, service: Service | None = None, stopping: Event | None = None) -> None:
        self.box = box
        self.slots = Slots(box.root)
        self.stopping = stopping or Event()
        self.trouble = self.unwell = ""
        self.reporter = Reporter(box, self.slots)
        self._channel = Channel(box.releases, box.fleet, insecure=box.insecure, ca=box.ca)
        self._keys = [load_public(key) for key in box.keys]
        self._service = service or make_service(box.service.kind, url=box.service.url, admin=box.service.admin)
        self._updater = Updater(
            self.slots,
            self._service,
            self._channel.fetch,
            make_policy(box.policy),
            watch=Watch(for_s=box.watch_s),
            stopping=self.stopping,
        )
        self._seen = ""
        self._release: Release | None = None
        self._told: Outcome | None = None
        self._failures = 0

    def run(self, progress: Progress = silent) -> None:
        """Look and report until stopped; raises ConfigError where another agent runs on this box."""
        with self.slots.locked("agent") as is_ours:
            if not is_ours:
                raise ConfigError(f"an agent runs already with {self.slots.root}", hint="one is enough")
            look_s = report_s = 0.0
            while not self.stopping.is_set():
                now_s = time.monotonic()
                if now_s >= look_s:
                    self.look(progress)
                    look_s = time.monotonic() + self._pause_s()
                if now_s >= report_s:
                    self.report()
                    report_s = time.monotonic() + self.box.reports.every_s * random.uniform(0.8, 1.2)  # noqa: S311 - nothing secret
                self.stopping.wait(max(min(look_s, report_s) - time.monotonic(), 0.05))

    def look(self, progress: Progress = silent) -> Outcome | None:
        """Go on with what a cut ended, else look for a release and follow it; gives what came of it, None for nothing.

        What goes wrong is told and never raised: a box goes on with what it has.
        """
        try:
            outcome = self._updater.resume(progress) or self._follow(progress)
            self.trouble = outcome.reason if outcome else ""
        except Untrusted as error:
            self.trouble = tell_error(error)
            outcome = Outcome("refused", "", self.trouble)
        except Exception as error:  # noqa: BLE001 - the boundary of the box: whatever it is, it looks again later
            outcome = None
            self.trouble = tell_error(error) if isinstance(error, FerrymanError) else f"{type(error).__name__}: {error}"
            _log.log(logging.INFO if isinstance(error, FerrymanError) else logging.ERROR, "%s", self.trouble)
        self._failures = self._failures + 1 if self.trouble else 0
        if outcome is not None and outcome.kind != "unchanged" and outcome != self._told:
            self._told = outcome
            _log.info("%s %s %s", outcome.kind, outcome.source, outcome.reason)
            self.reporter.tell_outcome(outcome)
        self._look_after()
        return outcome

    def report(self) -> bool:
        """Spool how the box stands, and send what is spooled; gives whether the collector has it all."""
        figures = scrape(self.box.service.url) if self.box.service.kind == "server" else {}
        try:
            self.reporter.tell_status(trouble=self.trouble, unwell=self.unwell, figures=figures)
            return self.reporter.send()
        except (FerrymanError, OSError) as error:
            _log.warning("nothing is reported: %s", error)
            return False

    def _follow(self, progress: Progress) -> Outcome | None:
        digest = self._channel.look()
        if digest != self._seen or self._release is None:
            release = self._channel.read(self._keys, digest)
            self.slots.believe(release.number)
            self._seen, self._release = digest, release
        release, serving = self._release, self.slots.serving
        wanted = release.choose(self.box.box, self.box.group, serving.source if serving else "")
        if not wanted:
            return None
        if not self.slots.has(wanted):
            self._check_room(release)
        return self._updater.update(wanted, release.number, progress)

    def _check_room(self, release: Release) -> None:
        free_mb, need_mb = shutil.disk_usage(self.slots.root).free / 1e6, release.size_bytes / 1e6 + self.box.spare_mb
        if free_mb < need_mb:
            raise NotReady(
                f"{self.slots.root} has {free_mb:.0f} MB left, and an update wants {need_mb:.0f}",
                hint="free space, or set spare_mb lower",
            )

    def _look_after(self) -> None:
        """See that what serves is well, and say so where it hadn't been said since its start."""
        serving = self.slots.serving
        self.unwell = "nothing serves" if serving is None else ""
        if serving is None:
            return
        try:
            self._service.check(serving.model, serving.digest)
            self.slots.confirm()
        except (FerrymanError, OSError) as error:
            self.unwell = str(error)

    def _pause_s(self) -> float:
        spread: float = random.uniform(0.75, 1.25)  # noqa: S311 - nothing secret
        if not self._failures:
            return self.box.poll_s * spread
        first_s = min(self.box.poll_s, _SOON_S)
        longest_s = self.box.poll_s * _LONGEST
        return min(first_s * float(2 ** min(self._failures, 16)), longest_s) * spread

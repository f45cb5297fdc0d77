"""What an operator does with a fleet: publish a release, look how it stands, let it go on, halt it, take it back."""

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ferryman.client.access import Access
from ferryman.client.link import Link, read_url
from ferryman.core.errors import ConfigError, NotReady, RegistryError, Unauthorized, UserError
from ferryman.fleet.box import Name, Positive, read_settings
from ferryman.fleet.channel import Channel
from ferryman.fleet.collect import BOXES, OPERATOR, read_secret, token_of
from ferryman.fleet.judge import Limits, Standing, judge
from ferryman.fleet.release import Release, Stage
from ferryman.supply.keys import PrivateKey, load_private

Share = Annotated[float, Field(ge=0, le=1)]


class Fleet(BaseModel):
    """Be a `fleet.toml`: what the operator of a fleet has on his machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fleet: Name
    releases: str = Field(description="where the fleet's releases lie: HOST/NAME:TAG")
    key: Path = Field(description="private key that signs releases")
    stages: tuple[Stage, ...] = Field((100,), min_length=1, description='groups and shares: ["canary", 10, 100]')
    collector: str = Field("", description="the collector's address")
    secret_file: Path | None = Field(None, description="the collector's secret")
    collector_ca: Path | None = Field(None, description="PEM file with the authority of its certificate")
    max_failed: Share = Field(0.0, description="share of the boxes that are due whose failing doesn't halt a release")
    min_done: Share = Field(0.9, description="share of the boxes that are due and not silent that a stage waits for")
    silent_s: Positive = Field(900.0, description="seconds after which a box counts as silent")
    insecure: bool = Field(False, description="take a registry without TLS")
    ca: Path | None = Field(None, description="PEM file with authorities to trust besides the system's")


@dataclass(frozen=True, slots=True)
class Done:
    """Say which release is out now, what it replaced, and how it stands with the boxes where they were asked."""

    release: Release
    what: str
    standing: Standing | None = None


class Operator:
    """Steer one fleet. Every change is a new signed release; with `dry_run` it is told and not published."""

    def __init__(self, fleet: Fleet, *, dry_run: bool = False) -> None:
        self._fleet, self._dry_run = fleet, dry_run
        self._channel = Channel(fleet.releases, fleet.fleet, insecure=fleet.insecure, ca=fleet.ca)
        self._key: PrivateKey = load_private(fleet.key)

    @classmethod
    def of(cls, file: Path, *, dry_run: bool = False) -> "Operator":
        """Read a fleet.toml; raises ConfigError."""
        return cls(read_settings(file, Fleet), dry_run=dry_run)

    def current(self) -> Release | None:
        """Read the release that is out; None before the first."""
        try:
            return self._channel.read([self._key.public])
        except RegistryError as error:
            if "have it" in str(error):  # 404: neither the tag nor, before the first push, the repository
                return None
            raise

    def release(self, bundle: str, *, note: str = "") -> Done:
        """Publish a bundle, for the first stage; the other boxes keep what they have.

        Raises UserError while another release is on its way: it ends, or is halted or taken back first.
        """
        source, size_bytes = self._channel.resolve(bundle)
        before = self.current()
        if before is not None and before.bundle == source and not before.is_halted:
            return Done(before, "it is out already")
        if before is not None and not before.is_complete and not before.is_halted:
            raise UserError(
                f"release {before.number} is at stage {before.stage + 1} of {len(before.stages)}",
                hint="ferryman fleet advance, halt or rollback ends it",
            )
        kept = before.before if before is not None and before.is_halted else before.bundle if before else ""
        made = Release(
            fleet=self._fleet.fleet, number=before.number + 1 if before else 1, bundle=source, before=kept,
            stages=self._fleet.stages, size_bytes=size_bytes, note=note,
        )  # fmt: skip
        return self._publish(made, f"stage 1 of {len(made.stages)}")

    def status(self) -> Done:
        """Tell how the release that is out stands with the boxes."""
        release = self._known()
        return Done(release, "", self._judge(release))

    def advance(self) -> Done:
        """Let the release go on to its next stage where the boxes of this one are well; halt it where they fail."""
        release = self._known()
        standing = self._judge(release)
        if standing is None:
            raise ConfigError("advance asks the collector how the boxes are", hint="set collector in fleet.toml")
        if standing.verdict == "halt":
            return Done(self.halt().release, f"halted: {standing.failed} of {standing.due} failed", standing)
        if standing.verdict != "go on":
            return Done(release, standing.verdict, standing)
        stage = release.stage + 1
        done = self._publish(_next(release, stage=stage), f"stage {stage + 1} of {len(release.stages)}")
        return Done(done.release, done.what, standing)

    def halt(self) -> Done:
        """Have no further box begin with the release; those that run it keep it."""
        release = self._known()
        return Done(release, "it is halted already") if release.is_halted else self._publish(
            _next(release, is_halted=True), "halted"
        )  # fmt: skip

    def rollback(self, *, note: str = "") -> Done:
        """Have every box run the bundle from before the release, as a release of its own."""
        release = self._known()
        if not release.before:
            raise UserError(f"release {release.number} is the first: there is no bundle before", hint="halt ends it")
        made = _next(release, bundle=release.before, before=release.before, stages=(100,), stage=0, note=note)
        return self._publish(made.model_copy(update={"is_halted": False}), "rolled back, on all boxes at once")

    def boxes(self) -> list[dict[str, Any]]:
        """Ask the collector for each box's last status; raises NotReady, ConfigError, Unauthorized."""
        fleet = self._fleet
        if not fleet.collector or fleet.secret_file is None:
            raise ConfigError("nobody says how the boxes are", hint="set collector and secret_file in fleet.toml")
        access = Access(key=token_of(read_secret(fleet.secret_file), OPERATOR), ca_file=fleet.collector_ca)
        link = Link(read_url(fleet.collector, "https://HOST:PORT"), timeout_s=30.0, access=access)
        try:
            reply = link.ask("GET", BOXES, b"", {})
        finally:
            link.close()
        if reply.status == http.client.UNAUTHORIZED:
            raise Unauthorized(f"{fleet.collector} doesn't know us", hint="secret_file must be the collector's")
        if reply.status != http.client.OK:
            raise NotReady(f"{fleet.collector} answers {reply.status}", hint="look at its log")
        found: list[dict[str, Any]] = json.loads(reply.payload)["boxes"]
        return [box for box in found if box.get("fleet") == fleet.fleet]

    def _judge(self, release: Release) -> Standing | None:
        if not self._fleet.collector:
            return None
        fleet = self._fleet
        limits = Limits(max_failed=fleet.max_failed, min_done=fleet.min_done, silent_s=fleet.silent_s)
        return judge(release, self.boxes(), limits)

    def _known(self) -> Release:
        release = self.current()
        if release is None:
            raise UserError(f"{self._channel.reference} holds no release yet", hint="ferryman fleet release BUNDLE")
        return release

    def _publish(self, release: Release, what: str) -> Done:
        if not self._dry_run:
            self._channel.publish(release, self._key)
        return Done(release, what)


def _next(release: Release, **changed: Any) -> Release:  # of Release
    return release.model_copy(update={"number": release.number + 1, **changed})

"""How Container Apps takes a new revision: beside the old one without traffic, healthy first, then with its share."""

import time
from dataclasses import dataclass

from ferryman.core.errors import DeployError
from ferryman.core.target import Change
from ferryman.targets.azure.app_objects import OWNER
from ferryman.targets.azure.arm import Arm
from ferryman.targets.compare import compare_text
from ferryman.targets.shares import divided, share_lines
from ferryman.targets.wanted import Json, compare_json, is_named_for, like

_LOOK_S = 2.0
_HOPELESS = ("Failed", "Degraded", "Stopped")


@dataclass(frozen=True)
class App:
    """Be one Container App, there or not."""

    arm: Arm
    name: str
    limit_s: float

    @property
    def id(self) -> str:
        """Give its resource id."""
        return f"{self.arm.group}/providers/Microsoft.App/containerApps/{self.name}"

    @property
    def what(self) -> str:
        """Give its name for people."""
        return f"container app {self.name}"

    def read(self) -> Json | None:
        """Give what is there; raises DeployError where somebody else made it."""
        found = self.arm.find(self.id, self.what)
        if found is not None and found.get("tags", {}).get(OWNER) != "ferryman":
            raise DeployError(
                f"{self.what} is not one of ferryman's", hint='set service = "another-name" in the target\'s section'
            )
        return found

    def revisions(self) -> dict[str, Json]:
        """Give its revisions by name."""
        found = self.arm.items(f"{self.id}/revisions", f"revisions of {self.name}")
        return {one["name"]: one["properties"] for one in found}

    def create(self, body: Json) -> None:
        """Make it, with the first revision."""
        self.arm.change("PUT", self.id, body, self.what)

    def patch(self, body: Json) -> None:
        """Merge a change into it."""
        self.arm.change("PATCH", self.id, body, self.what)

    def delete(self) -> None:
        """Take it away, with all its revisions."""
        self.arm.change("DELETE", self.id, None, self.what)

    def end(self, revision: str) -> None:
        """Let a revision's copies go."""
        self.arm.ask(f"{self.id}/revisions/{revision}/deactivate", None, f"revision {revision}")

    def wait(self, revision: str) -> None:
        """Wait until a revision's copies are healthy; raises DeployError where they don't become so."""
        end_s = time.monotonic() + self.limit_s
        while True:
            one = self.revisions().get(revision, {})
            if is_healthy(one):
                return
            states = [str(one.get(key, "")) for key in ("provisioningState", "runningState")]
            is_over = time.monotonic() > end_s
            if set(states) & set(_HOPELESS) or one.get("healthState") == "Unhealthy" or is_over:
                why = one.get("provisioningError") or ", ".join(filter(None, [*states, one.get("healthState", "")]))
                raise DeployError(
                    f"revision {revision} doesn't come up: {why}",
                    hint="what answered before still does; see `ferryman deploy logs`",
                )
            self.arm.progress(f"waiting for revision {revision}")
            time.sleep(_LOOK_S)


def is_healthy(revision: Json) -> bool:
    """Tell whether a revision's copies answer, or it sleeps until somebody asks."""
    if revision.get("provisioningState") != "Provisioned":
        return False
    return revision.get("healthState") == "Healthy" or revision.get("runningState") == "ScaledToZero"


def shares(live: Json) -> dict[str, int]:
    """Give the percent of the requests that each revision answers."""
    properties, found = live["properties"], dict[str, int]()
    for one in _traffic(live) or [{"latestRevision": True, "weight": 100}]:
        name = properties.get("latestReadyRevisionName") if one.get("latestRevision") else one.get("revisionName")
        if name and one.get("weight"):
            found[name] = found.get(name, 0) + one["weight"]
    return found


def roll_out(app: App, wanted: Json, *, percent: int, dry_run: bool) -> list[Change]:
    """Bring an app to what is wanted; what fails leaves the traffic where it was, and ends the new copies."""
    live = app.read()
    base = wanted["properties"]["template"]["revisionSuffix"]
    if live is None:
        then = {f"{app.name}--{base}": 100}
        changes = [compare_json(app.what, None, wanted), compare_text("traffic", None, share_lines(then))]
        if not dry_run:
            app.arm.progress(f"making {app.what}")
            app.create(_with_traffic(wanted, None))
            app.wait(f"{app.name}--{base}")
            _shift(app, then)
        return changes
    there = app.revisions()
    current = live["properties"].get("latestRevisionName", "")
    newest = there.get(current, {})
    is_same = is_named_for(current, f"{app.name}--{base}") and is_healthy(newest) and newest.get("active")
    suffix = current.rpartition("--")[2] if is_same else _free(there, app.name, base)
    body = _renamed(wanted, suffix)
    now, name = shares(live), f"{app.name}--{suffix}"
    then = divided(now, name, percent)
    changes = [
        compare_json(app.what, _templated(live, body) if is_same else live, body),
        compare_text("traffic", share_lines(now), share_lines(then)),
        *(Change("remove", f"revision {one}") for one in _idle(there, then) if one != name),
    ]
    if dry_run or all(change.move == "keep" for change in changes):
        return changes
    if not is_same or like(_templated(live, body), body) != body:
        _bring(app, body, name, now)
    _shift(app, then)
    return changes


def _templated(live: Json, body: Json) -> Json:
    """Give what is there with the template that is wanted: a revision of that name has no other."""
    return {**live, "properties": {**live["properties"], "template": body["properties"]["template"]}}


def _bring(app: App, body: Json, name: str, now: dict[str, int]) -> None:
    app.arm.progress(f"starting revision {name}")
    try:
        app.patch(_with_traffic(body, now or None))
        app.wait(name)
    except DeployError:
        if now and name not in now:
            _take_back(app, name)
        raise


def _take_back(app: App, name: str) -> None:
    """Let the copies of a revision that failed go; what goes wrong with that is no news beside why it failed."""
    try:
        if app.revisions().get(name, {}).get("active"):
            app.end(name)
    except DeployError as error:
        app.arm.progress("cleaning up", note=str(error))


def _shift(app: App, then: dict[str, int]) -> None:
    """Give the new revision its share, and let go of the copies of those that have none any more."""
    app.arm.progress("giving the new revision its share")
    live = app.read() or {}
    ingress = {**live["properties"]["configuration"]["ingress"], "traffic": _targets(then)}
    if shares(live) != then or any(one.get("latestRevision") for one in _traffic(live)):
        app.patch({"properties": {"configuration": {"ingress": ingress}}})
    for name in _idle(app.revisions(), then):
        app.end(name)


def _idle(revisions: dict[str, Json], then: dict[str, int]) -> list[str]:
    return [name for name, one in revisions.items() if one.get("active") and name not in then]


def _traffic(live: Json) -> list[Json]:
    ingress = live["properties"]["configuration"].get("ingress") or {}  # null, where somebody has closed it
    return list(ingress.get("traffic") or ())


def _targets(then: dict[str, int]) -> list[Json]:
    return [{"revisionName": name, "weight": value} for name, value in then.items()]


def _with_traffic(body: Json, now: dict[str, int] | None) -> Json:
    """Give the app with its traffic where it is; with that of the newest revision where there is none yet."""
    traffic = _targets(now) if now else [{"latestRevision": True, "weight": 100}]
    properties = body["properties"]
    ingress = {**properties["configuration"]["ingress"], "traffic": traffic}
    return {**body, "properties": {**properties, "configuration": {**properties["configuration"], "ingress": ingress}}}


def _renamed(body: Json, suffix: str) -> Json:
    properties = body["properties"]
    template = {**properties["template"], "revisionSuffix": suffix}
    return {**body, "properties": {**properties, "template": template}}


def _free(there: dict[str, Json], app: str, base: str) -> str:
    """Give a suffix that no revision has had: what once failed is not tried again under its name."""
    suffix, number = base, 1
    while f"{app}--{suffix}" in there:
        number += 1
        suffix = f"{base}-{number}"
    return suffix

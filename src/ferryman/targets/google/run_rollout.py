"""How Cloud Run takes a new revision: beside the old one without traffic, asked for its health, then with its share."""

import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from ferryman.core.errors import DeployError
from ferryman.core.progress import Progress
from ferryman.core.target import Change
from ferryman.targets.compare import compare_text
from ferryman.targets.google.api import Api
from ferryman.targets.google.run_service import OWNER, READY
from ferryman.targets.shares import divided, share_lines
from ferryman.targets.wanted import Json, compare_json, is_named_for, like

_TAG = "next"
_BY_NAME = "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
_NEWEST = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST"
_SETTINGS = ("labels", "ingress", "invokerIamDisabled")
_ASK_S, _LOOK_S = 5.0, 1.0


@dataclass(frozen=True)
class Service:
    """Be one Service of Cloud Run, there or not."""

    api: Api
    name: str
    limit_s: float
    progress: Progress

    @property
    def full_name(self) -> str:
        """Give its name in the API."""
        return f"{self.api.parent}/services/{self.name}"

    @property
    def what(self) -> str:
        """Give its name for people."""
        return f"service {self.name}"

    def read(self) -> Json | None:
        """Give what is there; raises DeployError where somebody else made it."""
        found = self.api.find(self._services.get(name=self.full_name), self.what)
        if found is not None and found.get("labels", {}).get(OWNER) != "ferryman":
            raise DeployError(
                f"{self.what} in {self.api.region} is not one of ferryman's",
                hint='set service = "another-name" in the target\'s section',
            )
        return found

    def revision(self, name: str) -> Json | None:
        """Give one of its revisions."""
        revisions = self.api.resource("services", "revisions")
        return self.api.find(revisions.get(name=f"{self.full_name}/revisions/{name}"), f"revision {name}")

    def create(self, body: Json) -> None:
        """Make it, with the first revision."""
        self.progress(f"making {self.what}")
        self._finish(self._services.create(parent=self.api.parent, serviceId=self.name, body=body))

    def patch(self, body: Json, *fields: str) -> None:
        """Change some of its fields, unless somebody has changed it since it was read (its etag)."""
        self._finish(self._services.patch(name=self.full_name, updateMask=",".join(fields), body=body))

    def delete(self) -> None:
        """Take it away, with all its revisions."""
        self._finish(self._services.delete(name=self.full_name))

    def _finish(self, request: Any) -> None:  # a request of the client
        operation = self.api.call(request, self.what)
        self.api.finish(operation, self.what, limit_s=self.limit_s, progress=self.progress)

    @property
    def _services(self) -> Any:  # a resource of the client
        return self.api.resource("services")


def shares(live: Json) -> dict[str, int]:
    """Give the percent of the requests that each revision answers."""
    found: dict[str, int] = {}
    for one in live.get("traffic", [{"type": _NEWEST, "percent": 100}]):
        latest = last(live.get("latestReadyRevision"))
        name = one.get("revision") if one.get("type") == _BY_NAME else latest
        if name and one.get("percent"):
            found[name] = found.get(name, 0) + one["percent"]
    return found


def last(name: str | None) -> str:
    """Give the last part of a full name."""
    return (name or "").rpartition("/")[2]


def roll_out(service: Service, wanted: Json, *, percent: int, dry_run: bool) -> list[Change]:
    """Bring a Service to what is wanted; gives what changed. What fails leaves the traffic where it was."""
    live = service.read()
    if live is None:
        return _begin(service, wanted, dry_run=dry_run)
    inner = dict(wanted["template"])
    base = inner.pop("revision")
    current = live["template"].get("revision") or last(live.get("latestCreatedRevision"))
    is_same = is_named_for(current, base) and live["template"].get("revision") == current
    name = current if is_same and _is_ready(service.revision(current)) else _free(service, base)
    now, template = shares(live), {**inner, "revision": name}
    then = divided(now, name, percent)
    there = {**live, "template": template if name == current else {**live["template"], "revision": current}}
    changes = [
        compare_json(service.what, there, {**wanted, "template": template}),
        compare_text("traffic", share_lines(now), share_lines(then)),
    ]
    if dry_run or all(change.move == "keep" for change in changes):
        return changes
    settings = {key: wanted[key] for key in _SETTINGS}
    settings["labels"] = {**live["labels"], **wanted["labels"]}  # a patch replaces them all
    if name != current:
        _add_revision(service, live, {**settings, "template": template}, now)
    elif like(live, settings) != settings:
        service.progress(f"changing {service.what}")
        service.patch({**settings, "etag": live.get("etag")}, *_SETTINGS)
    _shift(service, then)
    return changes


def _begin(service: Service, wanted: Json, *, dry_run: bool) -> list[Change]:
    then = {wanted["template"]["revision"]: 100}
    changes = [compare_json(service.what, None, wanted), compare_text("traffic", None, share_lines(then))]
    if not dry_run:
        service.create({**wanted, "traffic": [{"type": _NEWEST, "percent": 100}]})
        _shift(service, then)
    return changes


def _add_revision(service: Service, live: Json, body: Json, now: dict[str, int]) -> None:
    """Put a revision beside those that answer, with an address of its own but without traffic."""
    name = body["template"]["revision"]
    service.progress(f"starting revision {name}")
    held = _targets(now) if now else [{"type": _NEWEST, "percent": 100}]
    beside = [{"type": _BY_NAME, "revision": name, "tag": _TAG}] if now else []
    try:
        service.patch({**body, "traffic": held + beside, "etag": live.get("etag")}, *_SETTINGS, "template", "traffic")
        _ask(service, name)
    except DeployError:
        if now:
            _take_back(service, held)
        raise


def _take_back(service: Service, held: list[Json]) -> None:
    """Leave no address of a revision that failed; what goes wrong with that is no news beside why it failed."""
    try:
        service.patch({"traffic": held}, "traffic")
    except DeployError as error:
        service.progress("cleaning up", note=str(error))


def _shift(service: Service, then: dict[str, int]) -> None:
    live = service.read() or {}
    if shares(live) == then and all(one.get("type") == _BY_NAME for one in live.get("traffic", ())):
        return
    service.progress("giving the new revision its share")
    service.patch({"traffic": _targets(then), "etag": live.get("etag")}, "traffic")


def _ask(service: Service, name: str) -> None:
    """Ask the revision at its own address; raises DeployError where it answers that it isn't ready.

    Where it can't be asked from here (no right, no way in), Cloud Run's startup probe has asked the same.
    """
    statuses = (service.read() or {}).get("trafficStatuses", ())
    address = next((one.get("uri") for one in statuses if one.get("tag") == _TAG), None)
    if not address:
        return
    end_s = time.monotonic() + min(service.limit_s, 60.0)
    while (code := _answer(f"{address}{READY}")) >= 500 and time.monotonic() < end_s:
        time.sleep(_LOOK_S)
    if code >= 500:
        raise DeployError(
            f"revision {name} runs, but {address}{READY} answers {code}",
            hint="what answered before still does; see `ferryman deploy logs`",
        )
    if code != 200:
        why = f"it answered {code}" if code else "no way there"
        service.progress("asking for its health", note=f"{address} was not asked from here: {why}")


def _answer(url: str) -> int:
    """Give the status of an answer, 0 where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=_ASK_S) as answer:  # noqa: S310 - an address that Cloud Run gave
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def _free(service: Service, base: str) -> str:
    """Give a name that no revision has had: what once failed is not tried again under its name."""
    name, number = base, 1
    while service.revision(name) is not None:
        number += 1
        name = f"{base}-{number}"
    return name


def _is_ready(revision: Json | None) -> bool:
    found = {one["type"]: one.get("state") for one in (revision or {}).get("conditions", ())}
    return found.get("Ready") == "CONDITION_SUCCEEDED"


def _targets(then: dict[str, int]) -> list[Json]:
    return [{"type": _BY_NAME, "revision": name, "percent": value} for name, value in then.items()]

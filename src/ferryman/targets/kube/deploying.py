"""Bring objects to a cluster, take them away, and say how they stand; the same for every kind of target there."""

import time
from collections.abc import Iterator, Sequence

from ferryman.core.errors import DeployError
from ferryman.core.progress import Progress
from ferryman.core.target import Change
from ferryman.targets.compare import compare_text
from ferryman.targets.kube.cluster import MANAGER, Cluster, essence, title
from ferryman.targets.kube.workload import OWNER, Manifest
from ferryman.targets.yaml import write_yaml

Kinds = Sequence[tuple[str, str]]
_LOOK_S = 0.5


def owned(name: str) -> dict[str, str]:
    """Give the labels of all that was put there under a name."""
    return {OWNER: "ferryman", "app.kubernetes.io/instance": name}


def bring(
    cluster: Cluster, wanted: Sequence[Manifest], kinds: Kinds, *, name: str, dry_run: bool, force: bool
) -> list[Change]:
    """Apply what differs and take away what is no longer wanted, in this order; gives every object's change.

    What would come of it is asked of the server first, for all of them, so that one that is refused stops the rest.
    """
    before = [cluster.read(one) for one in wanted]
    wanted = [keep_copies(one, there) for one, there in zip(wanted, before, strict=True)]
    changes = [_compare(cluster, one, there, name=name, force=force) for one, there in zip(wanted, before, strict=True)]
    stale = _stale(cluster, wanted, kinds, name)
    if not dry_run:
        for one, change in zip(wanted, changes, strict=True):
            if change.move != "keep":
                cluster.apply(one, dry_run=False, force=force)
        for one in stale:
            cluster.delete(one)
    return [*changes, *(compare_text(title(one), _text(one), None) for one in stale)]


def take_away(
    cluster: Cluster, kinds: Kinds, name: str, *, dry_run: bool, limit_s: float, progress: Progress
) -> list[Change]:
    """Delete all that was put there under a name, and wait until it is gone: with it go its pods, which drain."""
    found = _stale(cluster, (), kinds, name)
    if not dry_run:
        for one in found:
            cluster.delete(one)
            progress("deploy", note=f"remove {title(one)}")
        end_s = time.monotonic() + limit_s
        while left := _stale(cluster, (), kinds, name):
            progress(f"waiting until {name} is gone", done=len(found) - len(left), total=len(found))
            if time.monotonic() > end_s:
                there = ", ".join(map(title, left))
                raise DeployError(
                    f"{there}: still there after {limit_s:g} s", hint="kubectl describe says what holds it"
                )
            time.sleep(_LOOK_S)
    return [Change("remove", title(one)) for one in found]


def keep_copies(wanted: Manifest, there: Manifest | None) -> Manifest:
    """Leave a Deployment that something begins to scale the copies that it has, until that has set another number.

    Where only we have set their number, the server takes one that we leave out for 1: copies would end under load
    (Kubernetes' docs, server-side apply, transferring ownership).
    """
    if there is None or wanted["kind"] != "Deployment" or "replicas" in wanted["spec"]:
        return wanted
    fields = [
        entry.get("fieldsV1", {}).get("f:spec", {})
        for entry in there["metadata"].get("managedFields", ())
        if (entry.get("manager"), entry.get("operation")) == (MANAGER, "Apply")
    ]
    if not any("f:replicas" in one for one in fields):
        return wanted
    return {**wanted, "spec": {**wanted["spec"], "replicas": there["spec"]["replicas"]}}


def _compare(cluster: Cluster, one: Manifest, before: Manifest | None, *, name: str, force: bool) -> Change:
    if before is not None and not owned(name).items() <= (before["metadata"].get("labels") or {}).items():
        raise DeployError(
            f"there is a {title(one)} in {cluster.namespace} that Ferryman didn't make",
            hint='set service = "another-name" in the target\'s section, or remove it',
        )
    if before is not None and before["metadata"].get("deletionTimestamp"):
        raise DeployError(
            f"{title(one)} is being removed", hint="apply again once it is gone; kubectl describe says what holds it"
        )
    after = cluster.apply(one, dry_run=True, force=force)
    return compare_text(title(one), None if before is None else _text(before), _text(after))


def _text(one: Manifest) -> str:
    return write_yaml(_sorted(essence(one)))


def _sorted(one: Manifest) -> Manifest:
    """Order the keys: two servers, or two versions of one, need not give them in the same order."""
    return {
        key: _sorted(value) if isinstance(value, dict) else value for key, value in sorted(one.items())
    }  # within lists the server keeps its order


def _stale(cluster: Cluster, wanted: Sequence[Manifest], kinds: Kinds, name: str) -> list[Manifest]:
    kept = {(one["kind"], one["metadata"]["name"]) for one in wanted}
    found = [one for version, kind in reversed(kinds) for one in cluster.find(version, kind, owned(name))]
    return [one for one in found if (one["kind"], one["metadata"]["name"]) not in kept]


def pods(cluster: Cluster, name: str) -> list[Manifest]:
    """Give the pods of a name."""
    chosen = {"app.kubernetes.io/name": "ferryman", "app.kubernetes.io/instance": name}
    return sorted(cluster.find("v1", "Pod", chosen), key=lambda pod: str(pod["metadata"]["name"]))


def read_logs(cluster: Cluster, name: str, *, container: str, lines: int) -> Iterator[str]:
    """Yield the last lines of each copy, begun with its pod's name."""
    for pod in pods(cluster, name):
        called = pod["metadata"]["name"]
        for line in cluster.log(called, container, lines=lines):
            yield f"{called}: {line}"


def tell(changes: Sequence[Change], progress: Progress) -> None:
    """Tell of each change that was made."""
    for change in changes:
        if change.move != "keep":
            progress("deploy", note=f"{change.move} {change.what}")

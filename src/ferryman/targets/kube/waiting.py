"""Wait until every copy answers, and say why one doesn't: in the kubelet's words, with the container's last lines."""

import contextlib
import time
from collections.abc import Iterator, Sequence

from ferryman.core.errors import DeployError
from ferryman.core.progress import Progress
from ferryman.core.target import Standing
from ferryman.targets.kube.cluster import REVISION, Cluster
from ferryman.targets.kube.deploying import owned, pods
from ferryman.targets.kube.workload import Manifest

_LOOK_S = 1.0
_LAST_LINES = 5
_HASH = "pod-template-hash"
_HOPELESS = {
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError",
    "CreateContainerError", "RunContainerError", "CrashLoopBackOff",
}  # fmt: skip
"""What the kubelet says of a container that will not come up by waiting."""


def standing(cluster: Cluster, name: str) -> Standing:
    """Say how all Deployments of a name stand, and what is wrong with their pods."""
    found = cluster.find("apps/v1", "Deployment", owned(name))
    images = [one["spec"]["template"]["spec"]["containers"][0]["image"] for one in found]
    notes = [*_conditions(found), *troubles(cluster, name)]
    return Standing(
        name=name,
        is_there=bool(found),
        ready=sum(_ready_new(one) for one in found),
        wanted=sum(one["spec"].get("replicas", 1) for one in found),
        image=images[0] if images else "",
        notes=tuple(dict.fromkeys(notes)),
    )


def wait(cluster: Cluster, name: str, deployments: Sequence[str], *, limit_s: float, progress: Progress) -> None:
    """Wait until these Deployments have only new copies, and all of them answer.

    Raises DeployError when the time is over, and at once for what no waiting mends (an image that isn't there, a
    process that ends again and again, a quota).
    """
    end_s = time.monotonic() + limit_s
    while True:
        found = cluster.find("apps/v1", "Deployment", owned(name))
        if gone := sorted(set(deployments) - {one["metadata"]["name"] for one in found}):
            raise DeployError(
                f"Deployment {gone[0]} is gone: somebody has removed it meanwhile",
                hint="apply again",
            )
        left = [one for one in found if one["metadata"]["name"] in deployments and not _is_done(one)]
        if not left:
            return
        ready, wanted = sum(map(_ready, left)), sum(one["spec"].get("replicas", 1) for one in left)
        progress(f"waiting for {name}", done=ready, total=wanted)
        seen = [one for one in left if _is_seen(one)]  # of others the cluster still tells what was before
        hopeless = [*_failures(seen), *(troubles(cluster, name, only_hopeless=True) if len(seen) == len(left) else ())]
        is_over = time.monotonic() > end_s
        if hopeless or is_over:
            why = hopeless or [f"{ready} of {wanted} copies answer after {limit_s:g} s", *troubles(cluster, name)]
            raise DeployError(
                f"{name} doesn't come up: " + "\n".join(why),
                hint="the copies from before still answer; apply what worked, or see `ferryman deploy logs`",
            )
        time.sleep(_LOOK_S)


def _is_done(one: Manifest) -> bool:
    status, wanted = one.get("status", {}), one["spec"].get("replicas", 1)
    counts = (status.get("updatedReplicas", 0), status.get("availableReplicas", 0), status.get("replicas", 0))
    return _is_seen(one) and counts == (wanted, wanted, wanted)


def _is_seen(one: Manifest) -> bool:
    """Tell whether the cluster has begun with what was applied last."""
    seen = one.get("status", {}).get("observedGeneration", 0)
    return bool(seen >= one["metadata"].get("generation", 0))


def _ready(one: Manifest) -> int:
    return int(one.get("status", {}).get("readyReplicas", 0))


def _ready_new(one: Manifest) -> int:
    """Count the copies of the newest version that answer; older ones that still do are not what is wanted."""
    status = one.get("status", {})
    older = int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))
    return max(0, _ready(one) - older)


def _failures(found: Sequence[Manifest]) -> Iterator[str]:
    """Yield what keeps the cluster from making pods at all: a quota, a policy that refuses them."""
    for one in found:
        for condition in one.get("status", {}).get("conditions", ()):
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                yield f"{one['metadata']['name']}: {condition.get('message', condition.get('reason', ''))}"


def _conditions(found: Sequence[Manifest]) -> Iterator[str]:
    yield from _failures(found)
    for one in found:
        for condition in one.get("status", {}).get("conditions", ()):
            if condition["type"] == "Progressing" and condition["status"] == "False":
                yield f"{one['metadata']['name']}: {condition.get('message', '')}"


def troubles(cluster: Cluster, name: str, *, only_hopeless: bool = False) -> Iterator[str]:
    """Yield a line for each pod that doesn't answer, with the last lines of a container that ended.

    Pods of an earlier version are on their way out: what ails them is no matter any more.
    """
    newest = _newest(cluster, name)
    for pod in pods(cluster, name):
        version = pod["metadata"].get("labels", {}).get(_HASH)
        if version is not None and newest and version not in newest:
            continue
        called, status = pod["metadata"]["name"], pod.get("status", {})
        states = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
        for state in states:
            waiting = state.get("state", {}).get("waiting") or {}
            if waiting.get("reason") in _HOPELESS:
                yield f"{called}: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
                yield from _last_words(cluster, called, state)
        if not states and not only_hopeless:
            yield from _unscheduled(called, status)


def _newest(cluster: Cluster, name: str) -> set[str]:
    """Give what the pods of each Deployment's newest version are labelled with."""
    deployments = cluster.find("apps/v1", "Deployment", owned(name))
    wanted = {(one["metadata"]["uid"], _revision(one)) for one in deployments}
    sets = cluster.find("apps/v1", "ReplicaSet", owned(name))
    return {
        one["metadata"]["labels"][_HASH]
        for one in sets
        for owner in one["metadata"].get("ownerReferences", ())
        if (owner["uid"], _revision(one)) in wanted
    }


def _revision(one: Manifest) -> str:
    return str(one["metadata"].get("annotations", {}).get(REVISION, ""))


def _last_words(cluster: Cluster, pod: str, state: Manifest) -> Iterator[str]:
    ended = (state.get("lastState") or {}).get("terminated")
    if not ended:
        return
    yield f"  it ended with {ended.get('exitCode')} ({ended.get('reason', 'no reason given')})"
    said: list[str] = []
    with contextlib.suppress(DeployError):  # who may not read logs still hears how it ended
        said = cluster.log(pod, state["name"], lines=_LAST_LINES, previous=True)
    yield from (f"  {line}" for line in said or str(ended.get("message") or "").splitlines()[-_LAST_LINES:])


def _unscheduled(pod: str, status: Manifest) -> Iterator[str]:
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"{pod}: no node takes it: {condition.get('message', '')}"

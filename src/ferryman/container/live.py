"""Checks of how a container starts, as whom and how far shut it runs, and whether it starts the same way again."""

import time

from ferryman.container import proc
from ferryman.container.container import SHUT, Posture
from ferryman.container.engine import EngineFailed
from ferryman.container.outcome import Fails, Figure, Finding, NotChecked, with_busy
from ferryman.container.visit import Begun, Visit

_MOST_NAMED = 4
_HEALTHY_S = 20.0


def start(visit: Visit) -> Finding:
    """Start it, and tell how long the first answer took from when its process began."""
    if visit.begun is None:
        visit.open()
    begun = visit.begun
    assert begun is not None  # noqa: S101 - just opened
    if begun.cannot_be_asked:
        raise NotChecked(begun.reason, hint="--bundle DIR or --request FILE has inputs that fit")
    if begun.first_answer_s is None:
        told = "; ".join(dict.fromkeys(one.reason for _, one in visit.tries))
        raise Fails(told[:600], hint="look at what it says: --env, --args and --port must fit; --start-s waits longer")
    figures: dict[str, Figure] = {"first_answer_s": round(begun.first_answer_s, 2),
                                  "ready_s": round(begun.ready_s or 0.0, 2)}  # fmt: skip
    limit = visit.promises.max_start_s
    told = f"first answer after {begun.first_answer_s:.2f} s"
    if limit is None:
        raise NotChecked(f"{told}; nobody promised a time", hint="--max-start-s promises one", figures=figures)
    figures["promised_s"] = limit
    return _within(visit, told, begun.first_answer_s, limit, figures)


def _within(visit: Visit, told: str, first_s: float, limit: float, figures: dict[str, Figure]) -> Finding:
    if first_s > limit:
        visit.open()  # once more: the first start of an image on a machine also reads it from the disk
        again_s = visit.tries[-1][1].first_answer_s
        figures["again_s"] = None if again_s is None else round(again_s, 2)
        told = f"{told}, {_seconds(again_s)} when started again"
        if again_s is None or again_s > limit:
            raise Fails(
                f"{told}: over {limit:g} s",
                hint=with_busy("fewer imports, more --cpus"),
                figures=figures,
            )
    return Finding(f"{told}, of at most {limit:g} s", figures)


def _seconds(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f} s"


def read_only(visit: Visit) -> Finding:
    """Tell whether it lives with a root file system that can't be written to, and no memory laid over /tmp."""
    _ = visit.live
    if visit.posture.is_read_only:
        return Finding("everything works while nothing can be written but /dev/shm")
    named = ", ".join(visit.changed[-_MOST_NAMED:])
    raise Fails(
        f"it is not ready with a read-only root file system: {_first_reason(visit)[:200]}",
        hint=f"it writes to {named}" if named else "write to /dev/shm, or nowhere",
        figures={"files_written": len(visit.changed)},
    )


def privileges(visit: Visit) -> Finding:
    """Tell whether it lives without any capability, and can't gain more than it has (no_new_privs)."""
    _ = visit.live
    if not visit.posture.is_unprivileged:
        raise Fails(f"it is not ready without capabilities: {_first_reason(visit)[:200]}",
                    hint="a port over 1024, no chown, no change of user at its start")  # fmt: skip
    seen = proc.processes(visit.live.pid)
    if not seen:
        return Finding("it works with every capability dropped and no_new_privs (not seen in /proc: another machine's)")
    wrong = [one.name for one in seen if one.capabilities or not one.has_no_new_privileges]
    if wrong:
        raise Fails(f"{', '.join(wrong)}: with capabilities, although all were dropped", hint="does the engine obey?")
    return Finding(f"{len(seen)} processes, none with a capability or a way to gain one", {"processes": len(seen)})


def user(visit: Visit) -> Finding:
    """Tell as whom it runs: by its config, and by /proc for each of its processes."""
    said = visit.facts.user.partition(":")[0]
    is_root = said in ("", "0", "root")
    hint = "USER 65532:65532 in a Dockerfile"
    if is_root:
        raise Fails("it runs as root: the image names no user" if not said else f"it runs as {said}", hint=hint)
    seen = proc.processes(visit.live.pid)
    if not seen:
        raise NotChecked(f"the image says user {said}; /proc of the engine's machine can't be read here")
    roots = [f"{one.name} ({one.pid})" for one in seen if one.uid == 0]
    if roots:
        raise Fails(f"{', '.join(roots[:_MOST_NAMED])} run as root, although the image says {said}", hint=hint)
    uids = sorted({one.uid for one in seen})
    numeric = "" if said.isdigit() else "; Kubernetes' runAsNonRoot wants a number in the image's USER"
    return Finding(f"user {said}, in /proc {', '.join(map(str, uids))}{numeric}", {"uid": uids[0]})


def health(visit: Visit) -> Finding:
    """Have the engine do the image's own health check."""
    test = visit.health.get("Test") or []
    if not test or test == ["NONE"]:
        raise NotChecked("the image has no health check; its platform must ask /v2/health/ready",
                         hint="HEALTHCHECK in a Dockerfile; podman keeps it only with --format docker")  # fmt: skip
    container = visit.live
    if visit.engine.program == "podman":
        try:
            visit.engine.call("healthcheck", "run", container.name)
        except EngineFailed as error:
            raise Fails(f"it answers, and {error}", hint=f"its health check: {' '.join(test[1:])[:120]}") from None
    else:
        deadline_s = time.monotonic() + _HEALTHY_S
        while (state := container.state().health) != "healthy":
            if time.monotonic() > deadline_s:
                raise Fails(f"it answers, and the engine says {state or 'nothing'}", hint=f"its health check: {test}")
            time.sleep(0.1)
    kind = "without a shell" if test[0] == "CMD" else "through a shell"
    return Finding(f"healthy, {kind}: {' '.join(test[1:])[:120]}")


def again(visit: Visit) -> Finding:
    """Start a second container, and compare its answers with the first one's."""
    if visit.begun is None:
        visit.open()
    first, asker = visit.begun, visit.asker
    if first is None or first.first_answer_s is None or asker is None:
        raise NotChecked("it gave no answer the first time: see start")
    visit.open()
    second = visit.tries[-1][1]
    if second.first_answer_s is None:
        raise Fails(f"started a second time it is not ready: {second.reason}", hint="does it keep state somewhere?")
    figures: dict[str, Figure] = {"first_answer_s": round(second.first_answer_s, 2)}
    if wrong := asker.wrong(second.answers):
        raise Fails(f"the second container answers otherwise: {wrong[0]}", hint="what does its answer depend on?",
                    figures=figures)  # fmt: skip
    same = _are_equal(first, second)
    told = "the same answers" if same else "the same answers within tolerance, not to the last digit"
    return Finding(f"{told}, the first after {second.first_answer_s:.2f} s", {**figures, "equal": int(same)})


def _are_equal(first: Begun, second: Begun) -> bool:
    return repr(first.answers) == repr(second.answers)


def _first_reason(visit: Visit) -> str:
    tries: list[tuple[Posture, Begun]] = visit.tries
    return next((begun.reason for posture, begun in tries if posture == SHUT), "")

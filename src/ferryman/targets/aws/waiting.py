"""How an endpoint stands, and waiting until what it does is done."""

import time
from collections.abc import Iterator

from ferryman.core.errors import DeployError
from ferryman.core.progress import Progress
from ferryman.core.target import Standing
from ferryman.targets.aws.account import Account
from ferryman.targets.aws.inventory import Inventory, running
from ferryman.targets.aws.wanted import Request

CHANGING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_ANSWERING = ("InService", "SystemUpdating")
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.25, 10.0
_GROUP = "/aws/sagemaker/Endpoints/{}"
_STREAMS = 20


def settle(inventory: Inventory, *, limit_s: float, progress: Progress) -> Request | None:
    """Wait until the endpoint changes no more, and give it, or None where it is gone; DeployError after the limit."""
    end_s, pause_s = time.monotonic() + limit_s, _FIRST_LOOK_S
    found = inventory.endpoint()
    while found is not None and found["EndpointStatus"] in CHANGING:
        progress(
            f"{inventory.name}: {found['EndpointStatus']}",
            done=_count(found, "Current"),
            total=_count(found, "Desired"),
        )
        if time.monotonic() > end_s:
            raise DeployError(
                f"{inventory.name} is still {found['EndpointStatus']} after {limit_s:g} s",
                hint="AWS goes on; `ferryman deploy status` tells how it stands, and apply waits again",
            )
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_LOOK_S)
        found = inventory.look()
    return found


def standing(inventory: Inventory) -> Standing:
    """Tell how many instances answer; a serverless endpoint counts as one."""
    found = inventory.endpoint()
    if found is None:
        return Standing(inventory.name, is_there=False, ready=0, wanted=1)
    model, _ = running(inventory, found)
    status, reason = found["EndpointStatus"], found.get("FailureReason")
    is_well = status in _ANSWERING
    notes = [f"{status}: {reason}" if reason else status] if not is_well or reason else []
    return Standing(
        name=inventory.name,
        is_there=True,
        ready=_count(found, "Current") if is_well else 0,
        wanted=_count(found, "Desired"),
        image=_image(found) or (model or {}).get("PrimaryContainer", {}).get("Image", ""),
        notes=tuple(notes),
    )


def read_logs(account: Account, name: str, *, lines: int) -> Iterator[str]:
    """Yield the last lines of each container, from CloudWatch Logs; raises DeployError where there are none."""
    group = _GROUP.format(name)
    latest = {"logGroupName": group, "orderBy": "LastEventTime", "descending": True, "limit": _STREAMS}
    found = account.find("logs", "describe_log_streams", **latest)
    if found is None:
        raise DeployError(
            f"{name} has written nothing: there is no log group {group}", hint="see `ferryman deploy status`"
        )
    for stream in sorted(one["logStreamName"] for one in found["logStreams"]):
        told = account.ask(
            "logs", "get_log_events", logGroupName=group, logStreamName=stream, limit=lines, startFromHead=False
        )
        yield from (f"{stream}: {line}" for one in told["events"] for line in one["message"].rstrip("\n").split("\n"))


def _count(endpoint: Request, which: str) -> int:
    """Count instances; one where AWS counts none."""
    variants = endpoint.get("ProductionVariants", ())
    return sum(int(one.get(f"{which}InstanceCount", 1)) for one in variants) or (1 if which == "Desired" else 0)


def _image(endpoint: Request) -> str:
    images = [image for one in endpoint.get("ProductionVariants", ()) for image in one.get("DeployedImages", ())]
    return str(images[0].get("ResolvedImage") or images[0].get("SpecifiedImage") or "") if images else ""

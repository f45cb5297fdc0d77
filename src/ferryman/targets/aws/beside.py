"""What stands beside an endpoint: the alarms that bring its old version back, and what scales it."""

from functools import cached_property

from ferryman.core.target import Change
from ferryman.targets.aws.account import Account
from ferryman.targets.aws.inventory import Inventory, essence
from ferryman.targets.aws.wanted import Request, Wanted, policy_name, scaled_by, tag_list
from ferryman.targets.compare import compare_text
from ferryman.targets.yaml import write_yaml

_CLOUDWATCH, _SCALING = "cloudwatch", "application-autoscaling"


class Beside:
    """Compare and put; without `wanted` all of it is to go."""

    def __init__(self, account: Account, wanted: Wanted | None, *, name: str = "") -> None:
        self._account = account
        self._name = wanted.name if wanted else name
        self._tags = tag_list(wanted.tags) if wanted else []
        self._alarms = {str(one["AlarmName"]): one for one in wanted.alarms} if wanted else {}
        self._bounds = wanted.scaling if wanted else None
        self._policy = wanted.policy if wanted else None
        self._inventory = Inventory(account, self._name)

    def compare_alarms(self) -> list[Change]:
        """Tell what `put_alarms` would do."""
        found = self._alarms_there
        names = [*self._alarms, *(name for name in found if name not in self._alarms)]
        return [_compare(f"alarm {name}", found.get(name), self._alarms.get(name)) for name in names]

    def put_alarms(self) -> None:
        """Make the alarms that are missing or differ, and delete those that nothing asks for."""
        found = self._alarms_there
        for name, wanted in self._alarms.items():
            if _compare(name, found.get(name), wanted).move != "keep":
                self._account.ask(_CLOUDWATCH, "put_metric_alarm", **wanted, Tags=self._tags)
        if stale := [name for name in found if name not in self._alarms]:
            self._account.ask(_CLOUDWATCH, "delete_alarms", AlarmNames=stale)

    def compare_scaling(self) -> list[Change]:
        """Tell what `put_scaling` would do."""
        policy, _ = self._policies_there
        if not policy and not self._policy:
            return []
        after = {**essence(self._bounds or {}, _BOUNDS), **essence(self._policy, _POLICY)} if self._policy else None
        before = {**essence(self._bounds_there, _BOUNDS), **essence(policy, after or _POLICY)} if policy else None
        return [_compare(f"scaling of {self._name}", before, after)]

    def put_scaling(self) -> None:
        """Register what scales the endpoint, which must be there; or take it off, unless others scale it too."""
        _, others = self._policies_there
        if all(change.move == "keep" for change in self.compare_scaling()):
            return
        if self._bounds and self._policy:
            self._account.ask(_SCALING, "register_scalable_target", **self._bounds)
            self._account.ask(_SCALING, "put_scaling_policy", **self._policy)
            return
        named = scaled_by(self._name)
        self._account.ask(_SCALING, "delete_scaling_policy", PolicyName=policy_name(self._name), **named)
        if not others:
            self._account.ask(_SCALING, "deregister_scalable_target", **named)

    @cached_property
    def _alarms_there(self) -> dict[str, Request]:
        return self._inventory.alarms()

    @cached_property
    def _bounds_there(self) -> Request:
        return self._inventory.scaling() or {}

    @cached_property
    def _policies_there(self) -> tuple[Request | None, int]:
        return self._inventory.policies()


_BOUNDS: Request = dict.fromkeys(("MinCapacity", "MaxCapacity"))
_POLICY: Request = dict.fromkeys(("PolicyType", "TargetTrackingScalingPolicyConfiguration"))


def ringing(account: Account, name: str) -> list[str]:
    """Give a line for each of an endpoint's alarms that rings, with what it saw."""
    rings = [one for one in Inventory(account, name).alarms().values() if one.get("StateValue") == "ALARM"]
    return [f"{one.get('AlarmDescription') or one['AlarmName']}: {one.get('StateReason', '')}" for one in rings]


def _compare(what: str, found: Request | None, wanted: Request | None) -> Change:
    if wanted is None or found is None:
        return Change("keep" if wanted is found else "create" if found is None else "remove", what)
    return compare_text(what, _text(essence(found, wanted)), _text(wanted))


def _text(said: Request) -> str:
    return write_yaml({key: _ordered(said[key]) for key in sorted(said)})


def _ordered(value: object) -> object:
    """Put tables' keys in order, and lists of dimensions too: AWS gives them back in another."""
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return sorted((_ordered(one) for one in value), key=str)
    return value

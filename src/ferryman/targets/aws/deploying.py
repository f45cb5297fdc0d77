"""Bring an endpoint to SageMaker, change it without a lost request, and take it away."""

from collections.abc import Sequence
from dataclasses import dataclass

from ferryman.core.errors import DeployError
from ferryman.core.progress import Progress
from ferryman.core.target import Change
from ferryman.targets.aws import ecr
from ferryman.targets.aws.account import Account
from ferryman.targets.aws.beside import Beside, ringing
from ferryman.targets.aws.inventory import CONFIGS, MODELS, Inventory, Kind, running
from ferryman.targets.aws.waiting import settle
from ferryman.targets.aws.wanted import Request, Wanted, tag_list
from ferryman.targets.compare import compare_text
from ferryman.targets.yaml import write_yaml

_SAGEMAKER = "sagemaker"
_FAILED, _WELL = "Failed", "InService"
_VERSION = (
    "ExecutionRoleArn", "PrimaryContainer", "EnableNetworkIsolation", "VpcConfig", "ProductionVariants", "KmsKeyId",
    "DataCaptureConfig",
)  # fmt: skip
_CONTAINER = ("Image", "Environment")
_VARIANT = (
    "VariantName", "InstanceType", "InitialInstanceCount", "InitialVariantWeight", "ServerlessConfig",
    "ContainerStartupHealthCheckTimeoutInSeconds",
)  # fmt: skip
# What scales an endpoint has chosen its instances; the rest comes from the new configuration.
_KEEP_COUNT = {
    "RetainAllVariantProperties": True,
    "ExcludeRetainedVariantProperties": [
        {"VariantPropertyType": "DesiredWeight"}, {"VariantPropertyType": "DataCaptureConfig"},
    ],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _There:
    """Hold what is there before anything is done."""

    endpoint: Request | None
    has_model: bool
    has_config: bool

    @property
    def is_failed(self) -> bool:
        return self.endpoint is not None and self.endpoint["EndpointStatus"] == _FAILED

    @property
    def config(self) -> str:
        """Give the configuration to go back to, "" where none ever worked."""
        return "" if self.endpoint is None or self.is_failed else str(self.endpoint["EndpointConfigName"])


def bring(account: Account, wanted: Wanted, *, dry_run: bool, limit_s: float, progress: Progress) -> list[Change]:
    """Make what is missing, go over to it, wait, and let go what isn't needed to go back once.

    Raises DeployError where AWS refuses, where the endpoint doesn't come up, and where an alarm brought the old
    version back.
    """
    inventory, beside = Inventory(account, wanted.name), Beside(account, wanted)
    endpoint = inventory.endpoint() if dry_run else settle(inventory, limit_s=limit_s, progress=progress)
    there = _There(
        endpoint,
        inventory.versioned(MODELS, wanted.model["ModelName"]) is not None,
        inventory.versioned(CONFIGS, wanted.config["EndpointConfigName"]) is not None,
    )
    switch = _compare_endpoint(inventory, wanted, there)
    images = ecr.compare(account, wanted.place)
    versions = [
        Change("keep" if there.has_model else "create", f"model {wanted.model['ModelName']}"),
        Change("keep" if there.has_config else "create", f"endpoint configuration {_config_name(wanted)}"),
    ]
    tags = _missing_tags(inventory, wanted, there)
    retag = [Change("change", f"tags of {wanted.name}", "\n".join(f"+{key}={tags[key]}" for key in sorted(tags)))]
    is_switch = switch[-1].move != "keep"
    stale = _stale(inventory, wanted, there) if is_switch else []
    changes = [
        *images, *versions, *beside.compare_alarms(), *switch, *(retag if tags and not is_switch else ()),
        *beside.compare_scaling(), *(Change("remove", f"{kind.called} {name}") for kind, name in stale),
    ]  # fmt: skip
    if dry_run or all(change.move == "keep" for change in changes):
        return changes
    ecr.bring(account, wanted.place, dict(wanted.tags), progress)
    _make_versions(account, wanted, there)
    beside.put_alarms()
    if is_switch:
        _switch(inventory, wanted, there, limit_s=limit_s, progress=progress)
    if tags and endpoint is not None and not there.is_failed:
        account.ask(_SAGEMAKER, "add_tags", ResourceArn=endpoint["EndpointArn"], Tags=tag_list(tags))
    beside.put_scaling()
    _delete_versions(account, stale)
    return changes


def take_away(account: Account, name: str, *, dry_run: bool, limit_s: float, progress: Progress) -> list[Change]:
    """Delete what was made under a name, in the order in which one thing hangs on another."""
    inventory, beside = Inventory(account, name), Beside(account, None, name=name)
    endpoint = inventory.endpoint() if dry_run else settle(inventory, limit_s=limit_s, progress=progress)
    versions = [(kind, one) for kind in (CONFIGS, MODELS) for one in inventory.versions(kind)]
    changes = [
        *beside.compare_scaling(),
        *([Change("remove", f"endpoint {name}")] if endpoint else ()),
        *(Change("remove", f"{kind.called} {one}") for kind, one in versions),
        *beside.compare_alarms(),
    ]
    if not dry_run:
        beside.put_scaling()
        if endpoint:
            _delete_endpoint(inventory, limit_s=limit_s, progress=progress)
        _delete_versions(account, versions)
        beside.put_alarms()
    return changes


def _config_name(wanted: Wanted) -> str:
    return str(wanted.config["EndpointConfigName"])


def _compare_endpoint(inventory: Inventory, wanted: Wanted, there: _There) -> list[Change]:
    what, endpoint = f"endpoint {wanted.name}", there.endpoint
    if endpoint is None:
        return [Change("create", what)]
    if there.is_failed:
        reason = f"{what}, which has failed: {endpoint.get('FailureReason', 'no reason given')}"
        return [Change("remove", reason), Change("create", what)]
    if there.config == _config_name(wanted) and endpoint["EndpointStatus"] == _WELL:
        return [Change("keep", what)]
    model, config = running(inventory, endpoint)
    change = compare_text(what, _text(model or {}, config or {}), _text(wanted.model, wanted.config))
    return [change if change.move == "change" else Change("change", what, f"it is {endpoint['EndpointStatus']}")]


def _text(model: Request, config: Request) -> str:
    """Write what requests can say of both, without the names that come of their digests."""
    variants = [_said(one, _VARIANT) for one in config.get("ProductionVariants", ())]
    container = _said(model.get("PrimaryContainer", {}), _CONTAINER)
    whole = {**model, **config, "ProductionVariants": variants, "PrimaryContainer": container}
    return write_yaml(_said(whole, _VERSION))


def _said(found: Request, keys: Sequence[str]) -> Request:
    return {key: found[key] for key in sorted(keys) if found.get(key)}


def _missing_tags(inventory: Inventory, wanted: Wanted, there: _There) -> dict[str, str]:
    if there.endpoint is None or there.is_failed:
        return {}
    found = inventory.tags(there.endpoint["EndpointArn"])
    return {key: value for key, value in wanted.tags.items() if found.get(key) != value}


def _stale(inventory: Inventory, wanted: Wanted, there: _There) -> list[tuple[Kind, str]]:
    """Give what is left of earlier versions, but for the one to go back to."""
    model, _ = running(inventory, there.endpoint) if there.config else (None, None)
    kept = {
        CONFIGS: {_config_name(wanted), there.config},
        MODELS: {wanted.model["ModelName"], (model or {}).get("ModelName")},
    }
    return [(kind, name) for kind in kept for name in inventory.versions(kind) if name not in kept[kind]]


def _make_versions(account: Account, wanted: Wanted, there: _There) -> None:
    tags = tag_list(wanted.tags)
    if not there.has_model:
        account.ask(_SAGEMAKER, "create_model", **wanted.model, Tags=tags)
    if not there.has_config:
        account.ask(_SAGEMAKER, "create_endpoint_config", **wanted.config, Tags=tags)


def _delete_versions(account: Account, versions: Sequence[tuple[Kind, str]]) -> None:
    for kind, name in versions:
        account.ask(_SAGEMAKER, f"delete_{kind.word}", **{f"{kind.key}Name": name})


def _delete_endpoint(inventory: Inventory, *, limit_s: float, progress: Progress) -> None:
    inventory.account.ask(_SAGEMAKER, "delete_endpoint", EndpointName=inventory.name)
    if left := settle(inventory, limit_s=limit_s, progress=progress):
        raise DeployError(
            f"endpoint {inventory.name} is {left['EndpointStatus']} rather than gone: {left.get('FailureReason', '')}",
            hint="look at it in the console, then remove again",
        )


def _switch(inventory: Inventory, wanted: Wanted, there: _There, *, limit_s: float, progress: Progress) -> None:
    account = inventory.account
    if there.is_failed:
        _delete_endpoint(inventory, limit_s=limit_s, progress=progress)
    if there.config:
        count = _KEEP_COUNT if wanted.scaling else {}
        account.ask(_SAGEMAKER, "update_endpoint", **wanted.endpoint, **count, DeploymentConfig=wanted.deployment)
    else:
        account.ask(_SAGEMAKER, "create_endpoint", **wanted.endpoint, Tags=tag_list(wanted.tags))
    found = settle(inventory, limit_s=limit_s, progress=progress)
    if found is None:
        raise DeployError(f"endpoint {wanted.name} is gone: somebody deleted it meanwhile", hint="apply again")
    status, reason = found["EndpointStatus"], found.get("FailureReason", "")
    if status == _WELL and found["EndpointConfigName"] == _config_name(wanted):
        return
    if status == _WELL:
        _forget(account, wanted, there)
        raise DeployError(
            f"{wanted.name}: the new version was taken back, and the old one answers\n"
            + "\n".join(_why(ringing(account, wanted.name), reason)),
            hint="`ferryman deploy logs` shows what its containers wrote; then apply what is mended",
        )
    raise DeployError(
        f"{wanted.name} doesn't come up: {status}: {reason or 'no reason given'}",
        hint="`ferryman deploy logs` shows what its containers wrote; apply begins anew when that is mended",
    )


def _forget(account: Account, wanted: Wanted, there: _There) -> None:
    """Delete what was made for a version that nothing runs."""
    made = [
        *([] if there.has_config else [(CONFIGS, _config_name(wanted))]),
        *([] if there.has_model else [(MODELS, str(wanted.model["ModelName"]))]),
    ]
    _delete_versions(account, made)


def _why(ringing: Sequence[str], reason: str) -> list[str]:
    return [*([reason] if reason else ()), *ringing] or ["AWS gives no reason"]

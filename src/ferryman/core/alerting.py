"""What is an alert, and who hears of it: `[monitor.alerts]` of ferryman.toml."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ferryman.core.maintenance import MaintenanceSection
from ferryman.core.receivers import (
    AlertmanagerSection,
    CommandSection,
    EmailSection,
    NotifySection,
    Severity,
    SlackSection,
    WebhookSection,
)

RuleName = Literal[
    "errors", "errors-slow", "latency", "latency-slow", "down", "golden", "drift", "performance", "memory", "disk",
    "temperature", "slowed", "quota", "silence", "records", "actions",
]  # fmt: skip
"""What may be alerted of. `-slow` ones burn the error budget slowly, and are not urgent."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_KINDS: dict[str, type[NotifySection]] = {
    "webhook": WebhookSection,
    "slack": SlackSection,
    "email": EmailSection,
    "alertmanager": AlertmanagerSection,
    "command": CommandSection,
}


def _as_receiver(value: Any) -> Any:  # raw TOML
    if not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    cls = _KINDS.get(str(kind))
    if cls is None:
        raise ValueError(f"it needs kind = one of {', '.join(_KINDS)}")
    for key in value:
        if key not in cls.model_fields:
            nearest = difflib.get_close_matches(str(key), cls.model_fields, n=1)
            meant = f"; did you mean '{nearest[0]}'?" if nearest else ""
            raise ValueError(
                f"a receiver of kind {kind} takes no '{key}'{meant} (it takes {', '.join(cls.model_fields)})"
            )
    try:
        return cls.model_validate(value)
    except ValidationError as error:  # told here, without the value, which may be a secret in the wrong place
        said = [": ".join([*map(str, one["loc"]), one["msg"].removeprefix("Value error, ")]) for one in error.errors()]
        raise ValueError("; ".join(said)) from None


AnyReceiver = Annotated[
    WebhookSection | SlackSection | EmailSection | AlertmanagerSection | CommandSection, BeforeValidator(_as_receiver)
]
ReceiverName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]


class RuleSection(BaseModel):
    """Change one rule; what is left out stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Severity | None = Field(None, description="critical, warning or info.")
    for_s: NotNegative | None = Field(None, description="It must hold for so long, in seconds, before it is an alert.")
    clear_s: NotNegative | None = Field(None, description="It must be gone for so long before the alert is over.")
    limit: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        None,
        description="What it is compared with: bytes (memory), share of the disk that is free, degrees Celsius, "
        "seconds without a request (silence), drop of the metric (performance).",
    )


class AlertsSection(BaseModel):
    """Say what is alerted of, and how. The promises themselves are in `[contract]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(True, description="Alert at all.")
    off: tuple[RuleName, ...] = Field((), description="Rules that are not wanted.")
    availability: Annotated[float, Field(ge=0.95, lt=1)] = Field(
        0.999, description="Share of requests that must be answered; those that the caller got wrong don't count."
    )
    punctuality: Annotated[float, Field(ge=0.95, lt=1)] = Field(
        0.99, description="Share of answers that must come within contract.p99_ms."
    )
    at_least: Annotated[int, Field(ge=1)] = Field(
        5, description="So many requests must have gone wrong within a rule's long window, however few came."
    )
    group_by: tuple[Literal["model", "version", "rule", "severity"], ...] = Field(
        ("model",), description="Alerts that have these in common are told in one message."
    )
    group_wait_s: NotNegative = Field(10.0, description="A group's first message waits so long for more alerts.")
    group_interval_s: NotNegative = Field(120.0, description="A group's next message comes no sooner than this.")
    repeat_s: Positive = Field(14400.0, description="What still fires is told again after so long.")
    heartbeat_s: Positive = Field(
        300.0, description="How often receivers with `heartbeat = true` hear that all is well."
    )
    rules: dict[RuleName, RuleSection] = Field(
        default_factory=dict, description="Changes of single rules: [monitor.alerts.rules.memory]."
    )
    maintenance: tuple[MaintenanceSection, ...] = Field(
        (), description="Times when nobody is told: [[monitor.alerts.maintenance]]."
    )
    notify: dict[ReceiverName, AnyReceiver] = Field(
        default_factory=dict, description="Who is told: [monitor.alerts.notify.NAME]."
    )

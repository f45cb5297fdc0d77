"""Say how a new version takes over: in which steps, and what it must keep on the way."""

import difflib
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ferryman.core.contract import NotNegative, Positive, Share
from ferryman.core.errors import ConfigError

Step = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


class Plan(BaseModel):
    """Hold the steps of a rollout and the limits that end it; every limit is against the active version."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    shadow: Share = Field(
        0.1, description="Share of the active version's requests that the new one answers too, unseen; 0: none."
    )
    steps: Annotated[tuple[Step, ...], Field(max_length=20)] = Field(
        (0.01, 0.05, 0.25, 0.5), description="Shares of the requests that the new version gets, one step after another."
    )
    step_s: NotNegative = Field(60.0, description="Seconds that a step lasts at least.")
    min_requests: Annotated[int, Field(ge=1)] = Field(
        200, description="Requests that the new version answers in a step at least."
    )
    max_step_s: Positive = Field(3600.0, description="Seconds after which a step with too few requests is paused.")
    max_error_rate: Share = Field(
        0.01, description="How much larger its share of failed requests may be than the active version's."
    )
    max_p99_ratio: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        1.5, description="Its 99th percentile of latency over the active version's."
    )
    p99_slack_ms: NotNegative = Field(2.0, description="Milliseconds over the active version's p99 that never matter.")
    max_disagreement: Share = Field(
        0.01, description="Share of the requests that both answered where the answers may differ by more than agreed."
    )
    agreement: dict[str, NotNegative] | None = Field(
        None,
        description="How far two answers may be apart: the task's figures, as unmatched or label_changed; {}: any way. "
        "By default the tolerance of the bundle's golden samples: the same answers.",
    )
    max_crashes: Annotated[int, Field(ge=1)] = Field(1, description="Lost workers that end the rollout.")
    false_rollback: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.01,
        description="About the largest probability that a version which keeps every limit is rolled back by chance.",
    )
    auto_promote: bool = Field(True, description="Promote after the last step; else wait to be told.")
    keep_s: NotNegative = Field(600.0, description="Seconds that the old version stays loaded after the promotion.")
    drain_s: Positive = Field(
        30.0, description="Seconds that requests may take to finish before a version is unloaded."
    )

    @model_validator(mode="after")
    def _has_steps_that_grow(self) -> Self:
        if not self.stages:
            raise ValueError("a plan needs a shadow or a step: to switch at once, activate the version")
        if any(later <= earlier for earlier, later in zip(self.steps, self.steps[1:], strict=False)):
            raise ValueError(f"steps must grow, not {list(self.steps)}")
        if self.max_step_s < self.step_s:
            raise ValueError(f"max_step_s ({self.max_step_s:g}) is under step_s ({self.step_s:g})")
        return self

    @property
    def stages(self) -> int:
        """Count the steps, the shadow's among them."""
        return len(self.steps) + (self.shadow > 0)


def read_plan(text: bytes | str) -> Plan:
    """Check a plan given as a JSON object; raises ConfigError with every mistake and the nearest known key."""
    try:
        return Plan.model_validate_json(text or b"{}")
    except ValidationError as error:
        lines = [_explain(detail["loc"], detail["type"], detail["msg"]) for detail in error.errors(include_url=False)]
        raise ConfigError("; ".join(lines), hint=f"a plan has {', '.join(Plan.model_fields)}") from None


def _explain(where: tuple[int | str, ...], kind: str, message: str) -> str:
    key = ".".join(str(part) for part in where)
    if kind == "extra_forbidden":
        nearest = difflib.get_close_matches(key, Plan.model_fields, n=1)
        return f"unknown key '{key}'" + (f"; did you mean '{nearest[0]}'?" if nearest else "")
    message = message.removeprefix("Value error, ")
    return f"key '{key}': {message}" if key else message

"""Remember how far a rollout has come: what is written down, and what happened on the way."""

import json
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ferryman.core.errors import ConfigError
from ferryman.server.control.rollout_plan import Plan

_MOST_EVENTS = 60
KEY = "rollouts"  # of an object: model to record

Phase = Literal["loading", "shadow", "canary", "promoted", "rolled back", "aborted"]
RUNNING: frozenset[Phase] = frozenset({"loading", "shadow", "canary"})


class Event(BaseModel):
    """Hold one thing that happened, when, why, and the figures it was decided on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: str
    kind: str
    reason: str
    figures: dict[str, Any] = Field(default_factory=dict)  # JSON


class Record(BaseModel):
    """Hold one rollout. `step` counts the plan's canary steps from 0; `stable` is the version that it replaces."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    stable: str
    candidate: str
    plan: Plan
    phase: Phase = "loading"
    step: int = Field(0, ge=0)
    is_paused: bool = False
    is_old_kept: bool = False
    events: tuple[Event, ...] = ()

    @property
    def is_running(self) -> bool:
        """Tell whether it is still to be decided."""
        return self.phase in RUNNING

    @property
    def weight(self) -> float:
        """Give the share of the requests that the candidate gets by this record, before its promotion."""
        return self.plan.steps[self.step] if self.phase == "canary" else 0.0

    def with_event(self, time_s: float, kind: str, reason: str, figures: dict[str, object] | None = None) -> "Record":
        """Give this record with one more event, the oldest forgotten where there are too many."""
        when = datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = Event(time=when, kind=kind, reason=reason, figures=figures or {})
        return self.model_copy(update={"events": (*self.events, event)[-_MOST_EVENTS:]})

    def as_json(self) -> dict[str, Any]:  # JSON
        """Give what is remembered."""
        return self.model_dump(mode="json")


def read_record(value: object) -> Record:
    """Read what was remembered; raises ConfigError for what no rollout of this version wrote."""
    try:
        # As JSON text, since there a list is a tuple also to the strict plan.
        record = Record.model_validate_json(json.dumps(value))
    except (ValidationError, ValueError, TypeError) as error:
        raise ConfigError(f"a remembered rollout can't be read: {error}", hint="start it again") from None
    if record.step and record.step >= len(record.plan.steps):
        raise ConfigError(f"a remembered rollout of '{record.model}' is at a step that its plan lacks")
    return record

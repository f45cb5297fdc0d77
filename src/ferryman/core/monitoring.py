"""How a model is watched while it serves: `[monitor]` of ferryman.toml."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ferryman.core.acting import ActionName, ActionSection
from ferryman.core.alerting import AlertsSection
from ferryman.core.recording import RecordsSection


class MonitorSection(BaseModel):
    """Say how a model is watched; what may be promised of it is in `[contract]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cost: Annotated[float, Field(ge=0, le=1)] = Field(
        0.03, description="Largest share of a request's CPU time that watching takes; 0: none is looked into."
    )
    records: RecordsSection = RecordsSection()
    alerts: AlertsSection = AlertsSection()
    actions: dict[ActionName, ActionSection] = Field(
        default_factory=dict, description="What alerts do by themselves: [monitor.actions.NAME]."
    )

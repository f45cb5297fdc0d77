"""What is an alert, and who hears of it: `[monitor.alerts]` of ferryman.toml."""

from pydantic import BaseModel, ConfigDict


class AlertsSection(BaseModel):
    """Say what is alerted of, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

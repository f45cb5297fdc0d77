"""What is kept of requests, and for how long: `[monitor.records]` of ferryman.toml."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class RecordsSection(BaseModel):
    """Say what a server that is given a place for records keeps there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_days: Annotated[float, Field(gt=0)] = Field(30.0, description="Records that are older are deleted.")
    max_mb: Annotated[float, Field(gt=0)] = Field(1000.0, description="Largest size of all records, in 10^6 bytes.")

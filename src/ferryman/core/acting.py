"""What an alert may do by itself: `[monitor.actions.NAME]` of ferryman.toml."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ferryman.core.receivers import Address, Secret, Severity

ActionName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
Do = Literal["roll-back", "freeze", "retrain"]
ActingRule = Literal[
    "errors", "errors-slow", "latency", "latency-slow", "down", "golden", "drift", "performance", "memory"
]
"""Rules that may act: those of one served version. A full disk, or nobody who asks, is no version's fault."""


class JobSection(BaseModel):
    """Make a Job in Kubernetes, and follow it to its end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest: str = Field(
        min_length=1, description="File of a Job as JSON (`kubectl create --dry-run=client -o json`)."
    )
    namespace: str = Field("", description="Where it is made; the pod's own by default.")
    server: Address | None = Field(None, description="The API's address; the cluster's own by default.")
    token: Secret | None = Field(None, description="The pod's service account by default; else env: or file:.")
    ca: str = Field("", description="File of certificates that vouch for the API; the pod's by default.")


class ActionSection(BaseModel):
    """Say which alerts act, and what they do; nothing acts unless it is asked for here."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    do: Do = Field(description="roll-back, freeze or retrain.")
    on: tuple[ActingRule, ...] = Field(min_length=1, description="Alerts of these rules act.")
    severities: tuple[Severity, ...] = Field(("critical", "warning"), description="Alerts of these act.")
    after_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="The alert must have been there for so long, in seconds."
    )
    pause_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        86400.0, description="From the end of one to the next, of the same model, at least so many seconds pass."
    )
    most_per_day: Annotated[int, Field(ge=1)] = Field(
        3, description="After so many in 24 hours of one model no more is done: a person must look."
    )
    command: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
        None, min_length=1, description="retrain: a program and its arguments; no shell reads them."
    )
    url: Address | None = Field(None, description="retrain: POST a CloudEvent there; env: or file: may name it.")
    token: Secret | None = Field(None, description="Sent to `url` as `Authorization: Bearer`: env: or file:.")
    job: JobSection | None = Field(None, description="retrain: make a Job in Kubernetes.")
    timeout_s: Annotated[float, Field(gt=0, le=7 * 86400)] = Field(
        21600.0, description="A retraining that takes longer is ended, with all that it started."
    )

    @model_validator(mode="after")
    def _has_one_way(self) -> Self:
        given = [name for name in ("command", "url", "job") if getattr(self, name) is not None]
        if self.do == "retrain" and len(given) != 1:
            raise ValueError(f"retrain needs one of command, url and job; it has {', '.join(given) or 'none'}")
        if self.do != "retrain" and given:
            raise ValueError(f"{self.do} takes no {given[0]}: that is for retrain")
        if self.token is not None and self.url is None:
            raise ValueError("a token goes with url")
        return self

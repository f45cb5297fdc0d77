"""One thing that was done because of an alert: what, why, since when, and how it ended."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from ferryman.core.acting import Do

Outcome = Literal["", "done", "failed", "skipped"]
"""How it ended; "" while it is under way. `skipped`: there was nothing to be done any more."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Name the alert, as it was then: its id and episode, the figure, and the limit that it broke."""

    alert: str
    rule: str
    episode: int
    summary: str
    value: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """Hold one action about a version of a model; times are Unix times, `digest` is the version's bundle's.

    `id` is its name for ever: who is told of it twice can know it.
    """

    id: str
    name: str
    do: Do
    model: str
    version: str
    digest: str
    cause: Cause
    began_s: float
    ended_s: float | None = None
    outcome: Outcome = ""
    said: str = ""

    @property
    def is_over(self) -> bool:
        """Tell whether it has ended."""
        return self.ended_s is not None

    def to_json(self) -> dict[str, Any]:  # JSON
        """Give it as JSON: `/v1/monitor/actions`."""
        told = asdict(self)
        began_s, ended_s = told.pop("began_s"), told.pop("ended_s")
        return {**told, "began": began_s, "ended": ended_s}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `to_json` gave; raises KeyError or TypeError for something else."""
        known = {**stored, "cause": Cause(**stored["cause"])}
        began_s, ended_s = known.pop("began"), known.pop("ended")
        return cls(**known, began_s=began_s, ended_s=ended_s)

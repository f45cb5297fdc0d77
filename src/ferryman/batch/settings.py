"""How a table or folder is scored."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from ferryman.core.runtime import available_cores

ROWS = 10_000
PICTURES = 64


class ScoreChoices(TypedDict, total=False):
    """Be the keywords of `ferryman.api.score`: fields of ScoreSettings."""

    keys: tuple[str, ...] | None
    chunk: int
    limit: int
    processes: int
    threads: int
    max_refused: float
    patience_s: float
    monitor: Path | None
    again: bool
    allow_broken: bool


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """Say how; 0 stands for "as it fits".

    `keys` are the input's columns that go along, by default those that the model doesn't take. A chunk has at most
    `chunk` rows. More than a share `max_refused` of refused rows stops the work. A worker that is silent for
    `patience_s` seconds is taken for dead. `again` throws away what an earlier run left.
    """

    keys: tuple[str, ...] | None = None
    chunk: int = 0
    limit: int = 0
    processes: int = 0
    threads: int = 1
    max_refused: float = 0.5
    patience_s: float = 600.0
    monitor: Path | None = None
    again: bool = False
    allow_broken: bool = False

    @property
    def workers(self) -> int:
        """Give the number of processes: as asked, else as many as the cores of this control group feed."""
        return self.processes or max(1, available_cores() // max(self.threads, 1))

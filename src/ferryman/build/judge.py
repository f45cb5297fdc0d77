"""Judge one artifact's accuracy by the contract; what has no measurement to stand on is not accepted."""

from ferryman.core.contract import Clause, Contract, broken, judge, tolerated
from ferryman.core.proof import Accuracy
from ferryman.core.task import Samples
from ferryman.verify.examine import Examination
from ferryman.verify.figures import is_number, significant, word

_ACCURACY = ("max_drop", "max_score_shift")
_HOPELESS = 4
"""A score shift that is so many times what is promised on a part of the samples holds on no whole."""


def accuracy_clauses(contract: Contract, examined: Examination, *, precision: str, samples: Samples) -> list[Clause]:
    """Set the promises on accuracy beside what was measured.

    A candidate in the source's own precision also has to give the same tensors (`max_error`). The metric is unmeasured
    without labels, and then boxes have to stay in their places; the score shift where the task has no scores.
    """
    measured: dict[str, float | None] = {"max_drop": _drop(examined.accuracy)}
    if "score_shift" in examined.agreement:
        measured["max_score_shift"] = examined.agreement["score_shift"]
    if measured["max_drop"] is None and "mean_iou_loss" in examined.agreement:
        measured["max_box_shift"] = examined.agreement["mean_iou_loss"]
    if examined.calibration is not None:
        measured["max_calibration_shift"] = examined.calibration.shift
    if precision == "fp32" and samples.items:
        # a changed label is as wrong as a changed number, and parity sees only the first calls
        errors = [*examined.parity.max_rel.values(), examined.agreement.get("label_changed", 0.0)]
        measured["max_error"] = max(errors)
    return judge(contract, measured)


def _drop(accuracy: Accuracy | None) -> float | None:
    """Give the drop where it tells something: a source that itself measures nothing has nothing to lose."""
    if accuracy is None or (accuracy.higher_is_better and accuracy.source_value == 0):
        return None
    return accuracy.drop


def is_lost(contract: Contract, seen: Examination, *, precision: str) -> bool:
    """Tell whether what a part of the samples shows breaks the contract beyond doubt.

    That is: a tensor is off (the rest can't mend it), the drop is over the promise by twice its 95 % interval, which
    leaves room for looking twice, or confidences are shifted out of all proportion.
    """
    if precision == "fp32" and max(seen.parity.max_rel.values(), default=0.0) > tolerated(contract.max_error):
        return True
    if seen.agreement.get("score_shift", 0.0) > _HOPELESS * max(contract.max_score_shift, 0.01):
        return True
    drop, accuracy = _drop(seen.accuracy), seen.accuracy
    if drop is None or accuracy is None:
        return False
    # resampled drops needn't lie around the drop: their interval may be over it
    most = tolerated(contract.max_drop)
    return drop > most and 2 * accuracy.drop_low - drop > most


def why_refused(clauses: list[Clause], *, precision: str) -> str:
    """Say in a line why these clauses refuse a candidate; empty where they don't."""
    if failing := broken(clauses):
        return ", ".join(f"{word(clause)} {_shown(clause)}" for clause in failing)
    if precision != "fp32" and not any(clause.holds for clause in clauses if clause.name in _ACCURACY):
        return "nothing measures what the lower precision costs: give data.evaluation with labels"
    return ""


def is_measured(clauses: list[Clause]) -> bool:
    """Tell whether anything tells how accurate a candidate of lower precision is."""
    return any(clause.holds is not None for clause in clauses if clause.name in _ACCURACY)


def _shown(clause: Clause) -> str:
    if clause.name == "p99_ms" and clause.measured == float("inf"):
        return "has no bound: requests come faster than they are answered"
    if not is_number(clause.measured):
        return "is not a number"
    return f"{significant(clause.measured)} > {significant(clause.promised, unit=clause.unit)}"


def badness(clauses: list[Clause]) -> float:
    """Give how far the worst clause is over its promise, as a ratio: at most 1 where all hold."""
    ratios = [
        (clause.measured if clause.measured == clause.measured else float("inf")) / max(clause.promised, 1e-9)
        for clause in clauses
        if clause.measured is not None
    ]
    return max(ratios, default=0.0)

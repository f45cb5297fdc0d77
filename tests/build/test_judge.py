"""The verdict on accuracy: what has nothing to stand on is not accepted."""

from ferryman.build.judge import accuracy_clauses, why_refused
from ferryman.core.contract import Contract
from ferryman.core.proof import Accuracy, Parity
from ferryman.core.task import Samples
from ferryman.verify.examine import Examination

SAMPLES = Samples(items=[b""], names=["one"])


def _examined(
    *, accuracy: Accuracy | None = None, agreement: dict[str, float] | None = None, max_rel: float = 0.0
) -> Examination:
    parity = Parity(max_abs={"out": max_rel}, max_rel={"out": max_rel}, samples=1)
    return Examination(parity=parity, agreement=agreement or {}, accuracy=accuracy, score_histogram=None)


def _accuracy(value: float, source_value: float) -> Accuracy:
    drop = source_value - value
    return Accuracy(
        metric="map", value=value, source_value=source_value, drop=drop, drop_low=drop, drop_high=drop, samples=9
    )


def _why(examined: Examination, *, precision: str) -> str:
    clauses = accuracy_clauses(Contract(), examined, precision=precision, samples=SAMPLES)
    return why_refused(clauses, precision=precision)


def test_a_lower_precision_that_nothing_measures_is_refused() -> None:
    assert "nothing measures" in _why(_examined(), precision="int8")
    assert _why(_examined(), precision="fp32") == ""


def test_a_source_that_measures_zero_has_no_drop_to_stand_on() -> None:
    assert "nothing measures" in _why(_examined(accuracy=_accuracy(0.0, 0.0)), precision="int8")


def test_confidences_that_collapse_are_refused_though_the_metric_holds() -> None:
    why = _why(_examined(accuracy=_accuracy(0.5, 0.5), agreement={"score_shift": 0.3}), precision="int8")
    assert "score shift 0.3" in why


def test_a_changed_label_is_an_error_of_an_exact_candidate() -> None:
    assert _why(_examined(agreement={"label_changed": 0.01}), precision="fp32") != ""
    assert _why(_examined(agreement={"label_changed": 0.0}), precision="fp32") == ""

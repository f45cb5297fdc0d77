"""The verdict on accuracy: what has nothing to stand on is not accepted."""

import numpy as np

from ferryman.build.judge import accuracy_clauses, is_lost, why_refused
from ferryman.core.contract import Contract, broken, judge
from ferryman.core.proof import Accuracy, Calibration, Parity, Reliability
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


def test_boxes_that_moved_are_refused_where_no_labels_tell_the_drop() -> None:
    moved = {"score_shift": 0.01, "mean_iou_loss": 0.3}
    assert _why(_examined(agreement=moved), precision="int8") == "box shift 0.3 > 0.15"
    assert _why(_examined(agreement={**moved, "mean_iou_loss": 0.1}), precision="int8") == ""
    assert _why(_examined(accuracy=_accuracy(0.5, 0.5), agreement=moved), precision="int8") == ""


def test_a_changed_label_is_an_error_of_an_exact_candidate() -> None:
    assert _why(_examined(agreement={"label_changed": 0.01}), precision="fp32") != ""
    assert _why(_examined(agreement={"label_changed": 0.0}), precision="fp32") == ""


def test_confidences_that_promise_too_much_are_refused_where_that_is_promised() -> None:
    calibration = Calibration(source=Reliability(error=0.02), candidate=Reliability(error=0.12))
    examined = _examined(accuracy=_accuracy(0.5, 0.5)).model_copy(update={"calibration": calibration})

    def why(contract: Contract) -> str:
        return why_refused(accuracy_clauses(contract, examined, precision="int8", samples=SAMPLES), precision="int8")

    assert why(Contract(max_calibration_shift=0.05)) == "calibration 0.1 > 0.05"
    assert why(Contract()) == ""


def _seen(drop: float, spread: float) -> Examination:
    accuracy = _accuracy(0.5 - drop, 0.5).model_copy(update={"drop_low": drop - spread, "drop_high": drop + spread})
    return _examined(accuracy=accuracy)


def test_a_part_of_the_samples_refuses_only_what_is_over_the_promise_by_twice_its_interval() -> None:
    assert is_lost(Contract(), _seen(0.05, 0.01), precision="int8")
    assert not is_lost(Contract(), _seen(0.05, 0.03), precision="int8"), "it may still be within 0.01"
    assert not is_lost(Contract(max_drop=0.04), _seen(0.05, 0.01), precision="int8")


def test_a_drop_within_the_promise_is_not_lost_though_its_interval_lies_over_it() -> None:
    seen = _seen(0.005, 0.01)
    assert seen.accuracy is not None
    skewed = seen.accuracy.model_copy(update={"drop_low": 0.02, "drop_high": 0.03})
    assert not is_lost(Contract(max_drop=0.01), seen.model_copy(update={"accuracy": skewed}), precision="int8")


def test_what_is_lost_on_a_part_breaks_the_contract_on_that_part() -> None:
    random = np.random.default_rng(0)
    for precision, drop, low, shift, error in zip(["fp32", "int8"] * 500, *random.random((4, 1000)) ** 3, strict=True):
        accuracy = _accuracy(0.5 - drop, 0.5).model_copy(update={"drop_low": low})
        seen = _examined(accuracy=accuracy, agreement={"score_shift": shift}, max_rel=error / 10)
        contract = Contract(max_drop=0.1, max_score_shift=0.2, max_error=0.05)
        if is_lost(contract, seen, precision=precision):
            assert broken(accuracy_clauses(contract, seen, precision=precision, samples=SAMPLES)), seen


def test_a_tensor_that_is_off_loses_an_exact_candidate_alone() -> None:
    assert is_lost(Contract(), _examined(max_rel=0.1), precision="fp32")
    assert not is_lost(Contract(), _examined(max_rel=0.1), precision="fp16")


def test_confidences_shifted_out_of_all_proportion_are_lost() -> None:
    assert is_lost(Contract(), _examined(agreement={"score_shift": 0.25}), precision="int8")
    assert not is_lost(Contract(), _examined(agreement={"score_shift": 0.15}), precision="int8")


def test_a_figure_at_its_limit_keeps_the_promise_whatever_noise_floats_add() -> None:
    contract = Contract(max_drop=0.01, max_error=0.3, max_size_mb=0.3)
    noisy = 0.1 + 0.2
    at_limit = _examined(accuracy=_accuracy(1 - 0.01 - 1e-16, 1.0), max_rel=noisy)
    assert at_limit.accuracy is not None
    assert at_limit.accuracy.drop > contract.max_drop
    assert noisy > 0.3
    assert not broken(accuracy_clauses(contract, at_limit, precision="fp32", samples=SAMPLES))
    assert not is_lost(contract, at_limit, precision="fp32")
    assert not broken(judge(contract, {"max_size_mb": noisy}))
    assert broken(judge(contract, {"max_size_mb": 0.3001}))
    assert broken(judge(contract, {"max_size_mb": float("nan")}))

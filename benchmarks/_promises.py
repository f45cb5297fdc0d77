"""What each case must show, beside what it showed and what the bare libraries had shown in an earlier study."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Figures = dict[str, Any]  # JSON
Measure = Callable[[Figures], float]


@dataclass(frozen=True, slots=True)
class Promise:
    """Hold one expectation: a figure of a case and the range that it must lie in."""

    case: str
    says: str
    known_before: str
    measure: Measure
    low: float = float("-inf")
    high: float = float("inf")
    unit: str = ""

    def row(self, case: Figures) -> list[str]:
        """Give the line of the table."""
        value = self.measure(case)
        holds = "yes" if self.low <= value <= self.high else "**no**"
        if self.measure is _speed and not _is_clear(case, self.low):
            holds = "unclear: noise"
        shown = f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
        return [self.case, self.says, self.known_before, f"{shown}{self.unit}", holds]


def promise_rows(cases: Figures) -> list[list[str]]:
    """Set each promise beside its case, where that was run."""
    rows = [promise.row(cases[promise.case]) for promise in PROMISES if promise.case in cases]
    for name, case in cases.items():
        again = Promise(name, "second build, new process, < 3 s", "-", _again_s, high=3.0, unit=" s")
        rows.append(again.row(case))
    return rows


def _again_s(case: Figures) -> float:
    return float(case["again"]["wall_s"])


def _value(case: Figures) -> float:
    return float(case["source"]["value"])


def _map50(case: Figures) -> float:
    return float(case["figures"]["map50"])


def _speed(case: Figures) -> float:
    return 1 / float(case["against_onnx_runtime"]["min_ratio"])


def _is_clear(case: Figures, low: float) -> bool:
    """Tell whether least and median times agree on a speed's side of `low`, by more than the control is off 1."""
    against = case["against_onnx_runtime"]
    speeds = [1 / against["min_ratio"], 1 / against["median_ratio"]]
    noise = max(abs(1 - against["control_min_ratio"]), abs(1 - against["control_median_ratio"]))
    return bool(min(speeds) > low * (1 + noise) or max(speeds) < low * (1 - noise))


def _quantized(case: Figures) -> list[Figures]:
    return [candidate for candidate in case["candidates"] if candidate["name"] in ("onnx-int8", "openvino-int8")]


def _int8_drop(case: Figures) -> float:
    """Give the least drop of an INT8 candidate that holds; infinite where none does."""
    drops = [one["drop"] for one in _quantized(case) if one["status"] in ("accepted", "repaired")]
    return min(drops, default=float("inf"))


def _naive_value(case: Figures) -> float:
    naive = next(one for one in _quantized(case) if one["name"] == "onnx-int8")
    return float(naive["first_try"].get(case["source"]["metric"], float("nan")))


PROMISES = (
    Promise("yolox-nano", "source mAP50-95 .339 ± .005", ".339", _value, 0.334, 0.344),
    Promise("yolox-nano", "naive static INT8 falls to .14 to .25, and is refused", ".138", _naive_value, 0.0, 0.25),
    Promise("yolox-nano", "an INT8 candidate within .005", "drop .001", _int8_drop, high=0.005),
    Promise("yolox-nano", "the winner is no slower than ORT FP32", "1.0x", _speed, 0.97, unit="x"),
    Promise("deeppcb-nano", "source mAP50 .716 ± .005", ".716", _map50, 0.711, 0.721),
    Promise("deeppcb-nano", "an INT8 candidate within .005", "drop -.02", _int8_drop, high=0.005),
    Promise("deeppcb-nano", "the winner is faster than ORT FP32", "1.1x to 1.4x", _speed, 1.0, unit="x"),
    Promise("squeezenet", "source top-1 .675", ".675", _value, 0.674, 0.676),
    Promise("squeezenet", "an INT8 candidate within .010", "drop .005", _int8_drop, high=0.01),
    Promise("squeezenet", "the winner is faster than ORT FP32", "1.25x", _speed, 1.0, unit="x"),
    Promise(
        "torch-detector", "the winner is at least twice as fast as ORT FP32", "2.4x to 2.6x", _speed, 2.0, unit="x"
    ),
)

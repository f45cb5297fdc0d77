"""Write a bundle's baseline for a terminal: what its signals were on the samples of the build."""

import numpy as np

from ferryman.monitor.baseline import Baseline, CategoryBaseline, NumberBaseline
from ferryman.verify.columns import Cell, Column, Paint, fit, rows, wrap
from ferryman.verify.figures import plain, significant

_MOST_NAMED = 3
_MOST_LINES = 60


def render_baseline(baseline: Baseline | None, *, width: int, color: bool) -> str:
    """Write a line for each signal: quantiles of a number, the most frequent categories; empty where there is none."""
    if baseline is None or not baseline.signals:
        return ""
    paint = Paint(color)
    numbers = {name: signal for name, signal in baseline.signals.items() if isinstance(signal, NumberBaseline)}
    categories = {name: signal for name, signal in baseline.signals.items() if isinstance(signal, CategoryBaseline)}
    lines = [paint(f"baseline of {len(baseline.signals)} signals on {baseline.count} samples", "bold")]
    if numbers:
        shown = dict(list(numbers.items())[:_MOST_LINES])
        lines += ["", *rows(fit(_number_columns(shown), width)[0], paint)]
    if categories:
        told = [_told(name, signal) for name, signal in list(categories.items())[:_MOST_LINES]]
        lines += ["", *(line for text in told for line in wrap(text, width))]
    if len(numbers) > _MOST_LINES or len(categories) > _MOST_LINES:
        lines += ["", paint("--json shows all", "dim")]
    return "\n".join(lines) + "\n"


def _number_columns(signals: dict[str, NumberBaseline]) -> list[Column]:
    def quantile(signal: NumberBaseline, rank: float) -> float:
        return float(np.quantile(signal.quantiles, rank))

    def column(heading: str, gives_way: int, values: list[float]) -> Column:
        return Column(heading, tuple(Cell(significant(value)) for value in values), gives_way)

    every = list(signals.values())
    return [
        Column("signal", tuple(Cell(plain(name)) for name in signals), is_text=True),
        column("least", 3, [signal.low for signal in every]),
        column("5 %", 2, [quantile(signal, 0.05) for signal in every]),
        column("median", 0, [quantile(signal, 0.5) for signal in every]),
        column("95 %", 1, [quantile(signal, 0.95) for signal in every]),
        column("largest", 3, [signal.high for signal in every]),
        Column("missing", tuple(Cell(f"{signal.missing:.1%}" if signal.missing else "") for signal in every), 4),
    ]


def _told(name: str, signal: CategoryBaseline) -> str:
    ranked = sorted(signal.shares.items(), key=lambda entry: -entry[1])[:_MOST_NAMED]
    named = ", ".join(f"{plain(category)} {share:.1%}" for category, share in ranked)
    more = f", and {signal.distinct - len(ranked)} more" if signal.distinct > len(ranked) else ""
    missing = f"; missing {signal.missing:.1%}" if signal.missing else ""
    return f"{plain(name)}  {named}{more}{missing}"

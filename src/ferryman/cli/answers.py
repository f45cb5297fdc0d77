"""Write a task's answers as tidy tables."""

import json
from collections.abc import Sequence
from typing import Any

from ferryman.core.task import Answer
from ferryman.verify.columns import Cell, Column, Paint, fit, rows
from ferryman.verify.figures import figure, is_number, plain, significant


def tabulate(named: Sequence[tuple[str, Answer]], *, min_score: float, width: int, paint: Paint) -> str:
    """Write one table an answer, or one table of all answers where each is a row."""
    if named and all("label" in answer or "value" in answer for _, answer in named):
        return "\n".join(_write(_prediction_columns(named), width, paint)) + "\n"
    blocks = []
    for name, answer in named:
        columns, remark = _columns(answer, min_score)
        body = _write(columns, width, paint) if columns and columns[0].cells else []
        blocks.append(
            [paint(plain(name), "bold"), *(f"  {line}" for line in body), *([f"  {remark}"] if remark else [])]
        )
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _write(columns: Sequence[Column], width: int, paint: Paint) -> list[str]:
    return rows(fit(columns, width)[0], paint)


def _columns(answer: Answer, min_score: float) -> tuple[list[Column], str]:
    if "boxes" in answer:
        return _box_columns(answer, min_score)
    if "scores" in answer:
        return [_words("label", _labels(answer)), _figures("score", answer["scores"])], ""
    if "outputs" in answer:
        return _tensor_columns(answer["outputs"]), ""
    return [], plain(json.dumps(answer))


def _box_columns(answer: Answer, min_score: float) -> tuple[list[Column], str]:
    every = list(zip(_labels(answer), answer["scores"], answer["boxes"], strict=True))
    shown = [one for one in every if one[1] >= min_score]
    columns = [_words("label", [label for label, _, _ in shown]), _figures("score", [score for _, score, _ in shown])]
    for index, heading in enumerate(("x1", "y1", "x2", "y2")):
        columns.append(_figures(heading, [box[index] for _, _, box in shown], digits=1))
    hidden = len(every) - len(shown)
    remark = f"{hidden} more under score {min_score:g}" if hidden else ("" if shown else "nothing found")
    return columns, remark


def _labels(answer: Answer) -> list[str]:
    return [str(label) for label in answer.get("labels") or answer.get("classes", [])]


def _tensor_columns(outputs: dict[str, Any]) -> list[Column]:  # the task's own JSON
    names = list(outputs)
    return [
        _words("output", names),
        _words("dtype", [outputs[name]["dtype"] for name in names]),
        _words("shape", [str(outputs[name]["shape"]) for name in names]),
        _words("values", [_preview(outputs[name]["data"]) for name in names]),
    ]


def _preview(values: Any) -> str:  # nested lists of numbers or texts
    flat: list[str] = []
    pending = [values]
    while pending and len(flat) < 7:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(reversed(value))
        else:
            flat.append(significant(value) if is_number(value) else plain(value))
    return " ".join(flat[:6]) + (" …" if len(flat) > 6 else "")


def _prediction_columns(named: Sequence[tuple[str, Answer]]) -> list[Column]:
    first = "label" if "label" in named[0][1] else "value"
    values = [answer.get(first) for _, answer in named]
    columns = [
        _words("row", [name for name, _ in named]),
        _words(first, [significant(value) if isinstance(value, float) else str(value) for value in values]),
    ]
    classes = dict.fromkeys(label for _, answer in named for label in answer.get("probabilities") or {})
    for number, label in enumerate(classes, start=1):
        shares = [(answer.get("probabilities") or {}).get(label) for _, answer in named]
        columns.append(_figures(f"p({plain(label)})", shares, gives_way=number))
    return columns


def _words(heading: str, texts: Sequence[str]) -> Column:
    return Column(heading, tuple(Cell(plain(text)) for text in texts), is_text=True)


def _figures(heading: str, values: Sequence[float | None], *, digits: int = 3, gives_way: int = 0) -> Column:
    return Column(heading, tuple(Cell(figure(value, digits)) for value in values), gives_way)

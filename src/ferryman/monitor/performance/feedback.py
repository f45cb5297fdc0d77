"""What was true of an item that was answered: read from outside, held to its shape."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ferryman.core.errors import InputError

Truth = str | float | None

KEYS = ("id", "item", "truth", "right", "objects", "at")
_MOST_CHARACTERS = 1024
_MOST_ITEM = 2**31 - 1
_LAST_S = 4102444800.0  # 2100-01-01
_FORM = '{"id": "REQUEST", "truth": "car"}; also item, right, objects, at'


@dataclass(frozen=True, slots=True)
class Feedback:
    """Hold what is known of one item of a request, `item` being its place there.

    One of three is set: `truth` (the label, or the value of a regression), `right` (somebody's word on the answer) or
    `objects` (how many there were to be found). `at_s` is when that was found out, Unix time.
    """

    id: str
    item: int
    at_s: float
    truth: Truth = None
    right: bool | None = None
    objects: float | None = None


def read_feedback(rows: Sequence[Any], now_s: float) -> list[Feedback]:  # JSON
    """Read rows, all or none; raises InputError that names the row and what is wrong with it."""
    return [each for place, row in enumerate(rows) for each in _read(row, f"row {place}", now_s)]


def write_feedback(feedback: Sequence[Feedback]) -> list[dict[str, Any]]:  # JSON
    """Give rows that `read_feedback` takes."""
    return [
        {
            "id": each.id,
            "item": each.item,
            "at": each.at_s,
            **({"truth": each.truth} if each.truth is not None else {}),
            **({"right": each.right} if each.right is not None else {}),
            **({"objects": each.objects} if each.objects is not None else {}),
        }
        for each in feedback
    ]


def name_label(truth: object) -> str:
    """Write a label as answers do: whole numbers without a point."""
    if isinstance(truth, float) and truth.is_integer():
        truth = int(truth)
    return re.sub(r"^(-?\d+)\.0+$", r"\1", str(truth))


def _read(row: Any, where: str, now_s: float) -> list[Feedback]:  # JSON
    if not isinstance(row, Mapping):
        raise InputError(f"{where} is no object", hint=_FORM)
    known = {key: value for key, value in row.items() if value is not None and value != ""}
    if unknown := [key for key in known if key not in KEYS]:
        raise InputError(f"{where}: unknown key '{unknown[0]!s:.80}'", hint=f"keys: {', '.join(KEYS)}")
    given = [key for key in ("truth", "right", "objects") if key in known]
    if len(given) != 1:
        said = " and ".join(f"'{key}'" for key in given)
        raise InputError(f"{where}: one of 'truth', 'right', 'objects' is needed, not {said or 'none'}", hint=_FORM)
    name = _identity(known.get("id"), where)
    item, at_s = _place(known.get("item", 0), where), _time(known.get("at", now_s), where)
    if given == ["right"]:
        return [Feedback(name, item, at_s, right=_judgement(known["right"], where))]
    if given == ["objects"]:
        return [Feedback(name, item, at_s, objects=_count(known["objects"], where))]
    truths = known["truth"] if isinstance(known["truth"], list) else [known["truth"]]
    if not truths or (len(truths) > 1 and item):
        raise InputError(f"{where}: a list of truths is of all items from the first on", hint="leave 'item' out")
    return [Feedback(name, item + place, at_s, truth=_truth(truth, where)) for place, truth in enumerate(truths)]


def _identity(value: Any, where: str) -> str:  # JSON
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not _is_text(value):
        wanted = f"the request's id (1 to {_MOST_CHARACTERS} characters)"
        raise InputError(f"{where}: 'id' must be {wanted}, not {_said(value)}", hint=_FORM)
    return str(value)


def _place(value: Any, where: str) -> int:  # JSON
    number = _number(value)
    if number is None or not number.is_integer() or not 0 <= number <= _MOST_ITEM:
        raise InputError(f"{where}: 'item' must be 0, 1, 2 ..., not {_said(value)}", hint="the first item is 0")
    return int(number)


def _count(value: Any, where: str) -> float:  # JSON
    number = _number(value)
    if number is None or not number.is_integer() or number < 0:
        raise InputError(f"{where}: 'objects' must be a whole number, not {_said(value)}", hint="how many there were")
    return number


def _judgement(value: Any, where: str) -> bool:  # JSON
    word = str(value).strip().lower()
    if word not in ("true", "false", "1", "0"):
        raise InputError(f"{where}: 'right' must be true or false, not {_said(value)}", hint="was the answer right?")
    return word in ("true", "1")


def _truth(value: Any, where: str) -> Truth:  # JSON
    if _is_text(value):
        return str(value)
    if isinstance(value, bool):
        return str(value)
    number = _number(value)
    if number is None:
        raise InputError(f"{where}: 'truth' must be a label or a number, not {_said(value)}", hint=_FORM)
    return number


def _time(value: Any, where: str) -> float:  # JSON
    at_s = _number(value)
    if at_s is None and isinstance(value, str):
        try:
            read = datetime.fromisoformat(value)
            at_s = (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            at_s = None
    elif isinstance(value, datetime):
        at_s = (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()
    if at_s is None or not 0 <= at_s < _LAST_S:
        raise InputError(
            f"{where}: 'at' must be a time, not {_said(value)}", hint="2026-11-23T18:00:00Z, or seconds since 1970"
        )
    return at_s


def _number(value: Any) -> float | None:  # JSON
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _is_text(value: Any) -> bool:  # JSON
    """Tell whether it is text of a length that can be kept; half a pair of surrogates is no text."""
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_CHARACTERS:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _said(value: Any) -> str:  # JSON
    return "missing" if value is None else f"{json.dumps(value, default=str)[:80]}"

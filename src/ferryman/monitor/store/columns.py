"""Records as columns: what DuckDB takes in one piece, one row for each item."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferryman.monitor.store.layout import day_of
from ferryman.monitor.store.rows import Raw, value_of

Table = dict[str, NDArray[Any]]
"""Columns by name, all of one length: float64, int32 or object (texts and None)."""
Part = tuple[str, str, str]
"""What records of one file have in common: model, version, date."""
TEXTS = ("id", "model", "version", "outcome", "transport", "trace")
NUMBERS = ("at_s", "total_s", "queue_s", "prepare_s", "infer_s", "finish_s")
COUNTS = ("asks", "rows")
FIXED = {
    **dict.fromkeys(TEXTS, "VARCHAR"), **dict.fromkeys(NUMBERS, "DOUBLE"),
    **dict.fromkeys(COUNTS, "INTEGER"), "item": "INTEGER",
}  # fmt: skip
"""The columns that every file has, and their types; `item` is -1 here and NULL there where nothing was looked into."""
_PLACES = {"id": 0, "model": 1, "version": 2, "at_s": 3, "outcome": 4, "transport": 5, "trace": 6, "total_s": 7,
           "queue_s": 8, "prepare_s": 9, "infer_s": 10, "finish_s": 11, "asks": 12, "rows": 13}  # fmt: skip
_MOST_SECONDS = 1e11
_MOST_COUNT = 2**31 - 1


def parts(raws: Iterable[Raw], most: int, *, today: str, known: Collection[Part] = ()) -> dict[Part, list[Raw]]:
    """Sort records by (model, version, day), `today` without a time; what is beyond `most` goes under ("", "", "").

    `known` are those that there are already.
    """
    sorted_: dict[Part, list[Raw]] = {}
    days: dict[int, str] = {}
    fresh = 0
    for raw in raws:
        at_s = float("nan") if raw[3] is None else raw[3]
        hour = int(at_s // 3600) if 0 <= at_s < _MOST_SECONDS else -1
        day = days.get(hour) or days.setdefault(hour, day_of(at_s) if hour >= 0 else today)
        key = (str(raw[1]), str(raw[2]), day)
        if key not in sorted_ and key not in known:
            if len(known) + fresh >= most:
                key = ("", "", "")
            else:
                fresh += 1
        sorted_.setdefault(key, []).append(raw)
    return sorted_


def table(raws: Sequence[Raw]) -> Table:
    """Turn records into columns: Record's own, `item`, then `s_NAME` (numbers) and `c_NAME` (categories)."""
    items = np.array([max(map(len, raw[14].values()), default=0) for raw in raws], dtype=np.int64)
    repeats = np.maximum(items, 1)
    total = int(repeats.sum())
    starts = np.cumsum(repeats) - repeats
    made: Table = {}
    for name, kind in FIXED.items():
        if name != "item":
            made[name] = np.repeat(_fixed(name, [raw[_PLACES[name]] for raw in raws], kind), repeats)
    made["item"] = np.where(np.repeat(items, repeats) == 0, -1, np.arange(total) - np.repeat(starts, repeats)).astype(
        np.int32
    )
    return made | _signals(raws, starts.tolist(), total)


def signal_column(kind: str, signal: str) -> str:
    """Name the column of a signal's numbers (`s`) or categories (`c`)."""
    return f"{kind}_{signal}".replace("\0", "\N{REPLACEMENT CHARACTER}")


def _fixed(name: str, values: list[Any], kind: str) -> NDArray[Any]:  # JSON
    if kind == "VARCHAR":
        texts = np.empty(len(values), dtype=object)
        texts[:] = [str(value) for value in values]
        return texts
    numbers = np.array([_number(value) for value in values], dtype=np.float64)
    if name == "at_s":
        numbers[~((numbers >= 0) & (numbers < _MOST_SECONDS))] = np.nan
    if kind == "DOUBLE":
        return numbers
    return np.clip(np.nan_to_num(numbers), 0, _MOST_COUNT).astype(np.int32)


def _number(value: Any) -> float:  # JSON
    return float(value) if isinstance(value, int | float) else float("nan")


def _signals(raws: Sequence[Raw], starts: list[int], total: int) -> Table:
    numbers: dict[str, NDArray[np.float64]] = defaultdict(lambda: np.full(total, np.nan))
    texts: dict[str, NDArray[np.object_]] = defaultdict(lambda: np.full(total, None, dtype=object))
    for start, raw in zip(starts, raws, strict=True):
        for name, values in raw[14].items():
            for at, coded in enumerate(values, start):
                if coded is None:
                    continue
                if isinstance(coded, str):
                    texts[name][at] = coded
                else:
                    numbers[name][at] = value_of(coded)
    named: list[tuple[str, NDArray[Any]]] = [
        (signal_column("s", name), column) for name, column in sorted(numbers.items())
    ]
    named += [(signal_column("c", name), column) for name, column in sorted(texts.items())]
    return dict(_distinct(named))


def _distinct(named: Sequence[tuple[str, NDArray[Any]]]) -> Iterable[tuple[str, NDArray[Any]]]:
    """Number names that differ only in case, which SQL takes for one."""
    taken: set[str] = set()
    for name, column in named:
        distinct, number = name, 2
        while distinct.lower() in taken:
            distinct, number = f"{name}~{number}", number + 1
        taken.add(distinct.lower())
        yield distinct, column

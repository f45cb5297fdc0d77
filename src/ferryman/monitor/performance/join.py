"""Feedback beside the records that it is of, and the confidences of all records: asked of DuckDB."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferryman.monitor.performance.feedback import Feedback
from ferryman.monitor.performance.ledger import key_of
from ferryman.monitor.performance.outcome import CONFIDENCE, LABEL, Outcome, meet
from ferryman.monitor.store.query import Scope, query

Floats = NDArray[np.float64]

_MOST_CELLS = 100
_FOUND = "SELECT * FROM records WHERE id IN (SELECT unnest($1::VARCHAR[]))"


def join(records: Path, feedback: Sequence[Feedback]) -> tuple[list[Outcome], dict[str, str]]:
    """Give the outcomes of what has a record, one for each version that answered, and why others have none.

    Those, by `key_of`: `ambiguous` (several requests had this id), `no_such_item`, `unanswered` (it failed), `unfit` (a
    label for a value, a number for boxes). What is in neither has no record. Raises UserError and MissingExtra.
    """
    rows = query(records, _FOUND, [sorted({each.id for each in feedback})]).as_dicts()
    by_item: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))  # rows of records
    for row in rows:
        by_item[row["id"]][row["item"] or 0].append(row)
    outcomes: list[Outcome] = []
    refused: dict[str, str] = {}
    for each in feedback:
        if each.id not in by_item:
            continue
        met = _meet(each, by_item[each.id].get(each.item, []))
        if isinstance(met, str):
            refused[key_of(each)] = met
        else:
            outcomes += met
    return outcomes, refused


def confidences(records: Path, since_s: float) -> Mapping[tuple[str, str], tuple[Floats, Floats]]:
    """Give confidences [N] of labels by model and version, and how often each came [N], in hundredths of [0, 1]."""
    scope = Scope(since_s=since_s)
    known = query(records, "SELECT * FROM records LIMIT 0", scope=scope).columns
    if f"s_{CONFIDENCE}" not in known or f"c_{LABEL}" not in known:
        return {}
    column = f'"s_{CONFIDENCE}"'
    cell = f"least(greatest(floor({column} * {_MOST_CELLS}), 0), {_MOST_CELLS - 1})"
    sql = (
        f"SELECT model, version, avg({column}), count(*) FROM records "  # noqa: S608 - of our own words
        f'WHERE {column} IS NOT NULL AND NOT isnan({column}) AND "c_{LABEL}" IS NOT NULL '
        f"GROUP BY model, version, {cell} ORDER BY ALL"
    )
    cells: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for model, version, mean, count in query(records, sql, scope=scope).rows:
        cells[model, version].append((mean, count))
    arrays = {key: np.asarray(listed, np.float64) for key, listed in cells.items()}
    return {key: (array[:, 0], array[:, 1]) for key, array in arrays.items()}


def _meet(feedback: Feedback, rows: Sequence[Mapping[str, Any]]) -> list[Outcome] | str:  # rows of records
    if not rows:
        return "no_such_item"
    rows = list({_answer(row): row for row in rows}.values())
    versions = {(row["model"], row["version"]) for row in rows}
    if len(versions) < len(rows):
        return "ambiguous"
    met = [meet(feedback, row) for row in rows]
    outcomes = [each for each in met if isinstance(each, Outcome)]
    return outcomes or next(each for each in met if isinstance(each, str))


def _answer(row: Mapping[str, Any]) -> str:  # a row of the table `records`
    """Give all that a row says but when, and how fast: a batch that was killed keeps some records twice."""
    said = {name: value for name, value in row.items() if name[:2] in ("s_", "c_")}
    return repr((row["model"], row["version"], row["transport"], row["outcome"], said))

"""Run by the peers' own Python: each peer on each stream that stands in a file; answers with rows of alarms as JSON."""

import json
import sys
import warnings
from typing import Any

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402, TID253 - of the peers' own environment

CHUNK = 100
CONFIDENCE = "answer.confidence"


def main() -> None:
    """Answer one line for each line that comes in."""
    answers, sys.stdout = sys.stdout, sys.stderr  # a library may print
    for line in sys.stdin:
        asked = json.loads(line)
        reference, rows = pd.DataFrame(asked["reference"]), pd.DataFrame(asked["rows"])
        for name in rows:
            if rows[name].dtype != object and reference[name].dtype != object:
                rows[name], reference[name] = rows[name].astype(float), reference[name].astype(float)
        found = {}
        if any(tool.startswith("Evidently") for tool in asked["tools"]):
            found |= evidently(reference, rows, asked["change"])
        for tool in asked["tools"]:
            if tool in TOOLS:
                found[tool] = TOOLS[tool](reference, rows, asked["change"])
        print(json.dumps(found), file=answers, flush=True)


def evidently(reference: pd.DataFrame, rows: pd.DataFrame, change: int | None) -> dict[str, Any]:
    """Compare each hundred rows with the reference as the drift preset does: its default is half of the columns.

    This is the preset's count of columns, without its plots of each, which take 25 times as long.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount

    numbers = [name for name in rows if rows[name].dtype != object]
    kinds = DataDefinition(numerical_columns=numbers, categorical_columns=[n for n in rows if n not in numbers])
    before = Dataset.from_pandas(reference, data_definition=kinds)
    shares = []
    for start in range(0, len(rows) - CHUNK + 1, CHUNK):
        if change is not None and start + CHUNK <= change - CHUNK:
            shares.append(0.0)  # windows are compared one by one: the last before the change tells what was on
            continue
        now = Dataset.from_pandas(rows[start : start + CHUNK].reset_index(drop=True), data_definition=kinds)
        shares.append(Report([DriftedColumnsCount()]).run(now, before).dict()["metrics"][0]["value"]["share"])
        if shares[-1] >= 0.5 and change is not None:
            break
    return {
        "Evidently, half of the columns": flags_to_rows([share >= 0.5 for share in shares]),
        "Evidently, any column": flags_to_rows([share > 0 for share in shares]),
    }


def nannyml(reference: pd.DataFrame, rows: pd.DataFrame, change: int | None) -> dict[str, Any]:
    """Compare chunks of a hundred rows by the univariate drift calculator, with its defaults."""
    import nannyml as nml

    calculator = nml.UnivariateDriftCalculator(column_names=list(rows), chunk_size=CHUNK)
    calculator.fit(reference)
    frame = calculator.calculate(rows).to_df(multilevel=False)
    alerts = frame[[name for name in frame if name.endswith("_alert")]].to_numpy().astype(bool)
    return flags_to_rows(list(map(bool, alerts.any(axis=1)[: len(rows) // CHUNK])))


def river(reference: pd.DataFrame, rows: pd.DataFrame, change: int | None, *, make: Any) -> dict[str, Any]:
    """Follow the confidence row by row."""
    detector = make()
    found = []
    for value in reference[CONFIDENCE]:  # the baseline first: it knows of no other
        if value == value:
            detector.update(value)
    for row, value in enumerate(rows[CONFIDENCE], start=1):
        if value == value:
            detector.update(value)
            if detector.drift_detected:
                found.append(row)
    return {"rows": found, "is_window": False}


def flags_to_rows(flags: list[bool]) -> dict[str, Any]:
    """Give the last row of each window that was flagged."""
    return {
        "rows": [(at + 1) * CHUNK for at, flag in enumerate(flags) if flag],
        "is_window": True,
        "rows_seen": len(flags) * CHUNK,
    }


def adwin() -> Any:
    """Make river's ADWIN with its defaults."""
    from river.drift import ADWIN

    return ADWIN()


def page_hinkley() -> Any:
    """Make river's Page-Hinkley with its defaults."""
    from river.drift import PageHinkley

    return PageHinkley()


def kswin() -> Any:
    """Make river's KSWIN with its defaults."""
    from river.drift import KSWIN

    return KSWIN(seed=0)


TOOLS = {
    "NannyML, any column": nannyml,
    "river ADWIN": lambda *asked: river(*asked, make=adwin),
    "river Page-Hinkley": lambda *asked: river(*asked, make=page_hinkley),
    "river KSWIN": lambda *asked: river(*asked, make=kswin),
}

if __name__ == "__main__":
    np.seterr(all="ignore")
    main()

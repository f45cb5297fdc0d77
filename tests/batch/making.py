"""Bundles with a baseline, and real rows and pictures to score."""

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from ferryman.bundle.write import write_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.plugins import runtime_for
from ferryman.core.record import Value
from ferryman.core.task import Item, bind_task
from ferryman.monitor.baseline import make_baseline
from ferryman.monitor.signals.read import Signals
from tests.bundle.making import bundle_model, make_table_model

COLUMNS = ("nswprice", "nswdemand", "vicprice")
Row = dict[str, Any]  # cells


def with_baseline(bundle: Bundle, destination: Path, items: Sequence[Item]) -> Bundle:
    """Write a bundle again, with the baseline of some items."""
    session = runtime_for("onnx").require()().load(bundle.artifact, threads=1)
    task = bind_task(bundle.deployment.task, session.signature)
    signals = Signals(bundle.deployment.task, session.signature)
    columns: dict[str, list[Value]] = {}
    size = session.signature.max_batch or len(items)
    for start in range(0, len(items), size):
        batch = task.preprocess(items[start : start + size])
        outputs = session.infer(batch.inputs)
        answers = task.postprocess(outputs, batch)
        found = signals.read(
            inputs=batch.inputs, items=items[start : start + size], contexts=batch.contexts, answers=answers,
            outputs=outputs, rows=size,
        )  # fmt: skip
        for name, values in found.items():
            columns.setdefault(name, []).extend(values)
    session.close()
    return write_bundle(
        destination,
        deployment=bundle.deployment,
        artifact=bundle.artifact,
        proof=bundle.proof,
        golden=bundle.golden,
        tolerance=bundle.tolerance,
        baseline=make_baseline(columns).to_json(),
        versions=bundle.versions,
    )


def elec_rows(shared: Path, start: int, count: int) -> list[Row]:
    """Give rows of the electricity market (Elec2): three features, the class, and a number of their own."""
    text = gzip.decompress((shared / "tabular" / "elec.csv.gz").read_bytes()).decode()
    every = list(csv.DictReader(io.StringIO(text)))[start : start + count]
    return [
        {"id": start + at, **{name: float(row[name]) for name in COLUMNS}, "class": row["class"]}
        for at, row in enumerate(every)
    ]


def features(rows: Iterable[Row]) -> list[Item]:
    """Give what the model is asked of rows."""
    return [{name: row[name] for name in COLUMNS} for row in rows]


def bundle_elec(destination: Path, reference: Sequence[Row]) -> Bundle:
    """Write a bundle of a model of electricity, whose baseline is of some rows."""
    model = make_table_model(destination.parent / "elec-model")
    task = {"kind": "tabular", "columns": list(COLUMNS), "labels": ["DOWN", "UP"], "missing": False}
    plain = bundle_model(destination.parent / "plain", model, task, features(reference[:2]), name="elec")
    return with_baseline(plain, destination, features(reference))


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as Parquet, in small groups."""
    kinds = {"id": "BIGINT", "class": "VARCHAR"}
    columns = ", ".join(f'"{name}" {kinds.get(name, "DOUBLE")}' for name in rows[0])
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"CREATE TABLE made ({columns})")
        arrays = {name: np.asarray([row[name] for row in rows]) for name in rows[0]}
        connection.register("given", arrays)
        connection.execute("INSERT INTO made SELECT * FROM given")
        connection.execute(f"COPY made TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)")
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(*parts: Path) -> list[Row]:
    """Give the rows of Parquet files, in order."""
    names = ", ".join(f"'{part}'" for part in parts)
    with duckdb.connect(":memory:") as connection:
        found = connection.execute(f"SELECT * FROM read_parquet([{names}])")
        columns = [column[0] for column in found.description]
        return [dict(zip(columns, cells, strict=True)) for cells in found.fetchall()]


def read_folder(folder: Path) -> list[Row]:
    """Give all answers of a folder, in order."""
    return read(*sorted(folder.glob("part-*.parquet")))


def content(folder: Path) -> dict[str, bytes]:
    """Give every file that a run leaves, but its journal."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}

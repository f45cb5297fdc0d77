"""What keeping records costs: records a second and bytes each, beside plain DuckDB inserts and JSON lines.

`python -m benchmarks.records [NUMBER]` prints a table; turns are taken side by side, the best of each counts.
Predicted before the first run: adding 15 us a record (encode 10, write 5), sealing 40 us, 100 bytes sealed for 450 in
the journal; JSON lines as fast to add and as large as the journal; one INSERT a record 20 times slower.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb  # noqa: TID253
import numpy as np
import orjson

from ferryman.core.record import Record
from ferryman.core.recording import RecordsSection
from ferryman.monitor.store.columns import table
from ferryman.monitor.store.journal import read_segment
from ferryman.monitor.store.keeper import RecordKeeper
from ferryman.monitor.store.layout import JOURNAL, sealed_files
from ferryman.monitor.store.seal import ingest

BATCH = 20
TURNS = 3
SIGNALS = 15


def made(number: int) -> list[Record]:
    """Draw records of a detector: 15 numbers, a category, a trace each."""
    draw = np.random.default_rng(1)
    values = np.round(draw.normal(100, 20, (number, SIGNALS)), 3).tolist()
    labels = draw.choice(["car", "person", "dog"], number).tolist()
    traces = [draw.bytes(16).hex() for _ in range(number)]
    names = [f"signal_{place}" for place in range(SIGNALS)]
    return [
        Record(
            id=f"{trace[:16]}", model="street", version="3", at_s=1.795e9 + place / 200, outcome="ok", trace=trace,
            total_s=0.0123 + place % 97 / 1e5, infer_s=0.01 + place % 89 / 1e5,
            columns={**{name: [value] for name, value in zip(names, row, strict=True)}, "label": [label]},
        )
        for place, (row, label, trace) in enumerate(zip(values, labels, traces, strict=True))
    ]  # fmt: skip


def keeper(records: list[Record], folder: Path) -> dict[str, float]:
    """Add in batches, seal, ask."""
    section = RecordsSection(min_free_mb=0, seal_mb=1000)
    kept = RecordKeeper(folder, section)
    began = time.process_time()
    for start in range(0, len(records), BATCH):
        kept.add(records[start : start + BATCH])
    added_s = time.process_time() - began
    journal = sum(path.stat().st_size for path in (folder / JOURNAL).iterdir())
    kept.close()
    kept = RecordKeeper(folder, section)
    began = time.process_time()
    kept.tick()
    sealed_s = time.process_time() - began
    kept.close()
    sealed = sum(one.path.stat().st_size for one in sealed_files(folder))
    return {"add_us": added_s, "seal_us": sealed_s, "written_bytes": journal, "kept_bytes": sealed}


def json_lines(records: list[Record], folder: Path) -> dict[str, float]:
    """Append a line a record, flushed with each batch."""
    file = folder / "records.jsonl"
    began = time.process_time()
    with file.open("ab", buffering=0) as opened:
        for start in range(0, len(records), BATCH):
            opened.write(b"".join(orjson.dumps(record) + b"\n" for record in records[start : start + BATCH]))
    added_s = time.process_time() - began
    return {"add_us": added_s, "seal_us": 0.0, "written_bytes": file.stat().st_size, "kept_bytes": file.stat().st_size}


def inserts(records: list[Record], folder: Path) -> dict[str, float]:
    """Insert into a DuckDB file, a transaction a batch; a twentieth of the records, as it is slow."""
    few = records[: max(len(records) // 20, BATCH)]
    connection = duckdb.connect(folder / "records.duckdb", config={"threads": 1})
    signals = "".join(f", signal_{place} DOUBLE" for place in range(SIGNALS))
    connection.execute(
        "CREATE TABLE records (id VARCHAR, model VARCHAR, version VARCHAR, at_s DOUBLE, outcome VARCHAR, "
        "trace VARCHAR, "
        f"total_s DOUBLE, infer_s DOUBLE{signals}, label VARCHAR)"
    )
    marks = ", ".join("?" * (9 + SIGNALS))
    began = time.process_time()
    for start in range(0, len(few), BATCH):
        rows = [
            [one.id, one.model, one.version, one.at_s, one.outcome, one.trace, one.total_s, one.infer_s]
            + [values[0] for values in one.columns.values()]
            for one in few[start : start + BATCH]
        ]
        connection.executemany(f"INSERT INTO records VALUES ({marks})", rows)
    added_s = time.process_time() - began
    connection.close()
    size = (folder / "records.duckdb").stat().st_size
    share = len(records) / len(few)
    return {"add_us": added_s * share, "seal_us": 0.0, "written_bytes": size * share, "kept_bytes": size * share}


def layouts(records: list[Record], folder: Path) -> dict[str, tuple[float, float]]:
    """Write the same rows as wide columns and as a MAP column: bytes a record, milliseconds of a mean of one signal."""
    kept = RecordKeeper(folder, RecordsSection(min_free_mb=0, seal_mb=1000))
    kept.add(records)
    kept.close()
    raws = read_segment(next((folder / JOURNAL).iterdir())).raws
    connection = duckdb.connect(config={"threads": 1})
    ingest(connection, raws, "wide")
    numbers = [name for name in table(raws[:1]) if name.startswith("s_")]
    keys, values = ", ".join(f"'{name[2:]}'" for name in numbers), ", ".join(numbers)
    connection.execute(
        f"CREATE TABLE map AS SELECT * EXCLUDE ({values}, c_label), MAP([{keys}], [{values}]) AS numbers, "
        "MAP(['label'], [c_label]) AS words FROM wide"
    )
    shown = {}
    for name, mean in (("wide", "avg(s_signal_7)"), ("map", "avg(numbers['signal_7'])")):
        file = folder / f"{name}.parquet"
        connection.execute(f"COPY {name} TO '{file}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)")
        times = []
        for _ in range(5):
            began = time.process_time()
            connection.execute(f"SELECT {mean} FROM read_parquet('{file}')").fetchall()
            times.append(time.process_time() - began)
        shown[name] = (file.stat().st_size / len(records), 1e3 * min(times))
    return shown


WAYS: dict[str, Callable[[list[Record], Path], dict[str, float]]] = {
    "records (journal, then Parquet)": keeper,
    "JSON lines": json_lines,
    "DuckDB INSERT": inserts,
}


def main() -> None:
    """Take turns, and print the best of each way, for one record and one core."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 40_000
    records = made(number)
    best: dict[str, dict[str, float]] = {}
    for _ in range(TURNS):
        for name, way in WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                found = {figure: value / number for figure, value in way(records, Path(folder)).items()}
            best[name] = {figure: min(value, best.get(name, found)[figure]) for figure, value in found.items()}
    print(f"{number} records of {SIGNALS} numbers and a category; CPU of one core, best of {TURNS}\n")
    print("| way | added in us | records/s | sealed in us | bytes written | bytes kept |\n|---|---|---|---|---|---|")
    for name, found in best.items():
        add_us, seal_us = 1e6 * found["add_us"], 1e6 * found["seal_us"]
        print(
            f"| {name} | {add_us:.1f} | {1e6 / add_us:,.0f} | {seal_us:.1f} | "
            f"{found['written_bytes']:.0f} | {found['kept_bytes']:.0f} |"
        )
    with tempfile.TemporaryDirectory() as folder:
        print("\n| layout | bytes a record | mean of one signal, ms |\n|---|---|---|")
        for name, (size, mean_ms) in layouts(records, Path(folder)).items():
            print(f"| {name} | {size:.0f} | {mean_ms:.1f} |")
    print(f"\n{json.dumps(best)}")


if __name__ == "__main__":
    main()

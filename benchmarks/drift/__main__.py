"""Run the drift bench: `python -m benchmarks.drift --peers PYTHON`; `--help` tells more."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.drift.elec import follow_elec
from benchmarks.drift.ours import watch
from benchmarks.drift.rates import measure_rates
from benchmarks.drift.streams import BASELINE_ROWS, CHUNK, INTERVAL_ROWS, Source, Stream
from benchmarks.drift.table import OURS, write_table

TOOLS = (
    "Evidently, half of the columns",
    "Evidently, any column",
    "NannyML, any column",
    "river ADWIN",
    "river Page-Hinkley",
    "river KSWIN",
)
SETS = tuple(BASELINE_ROWS)
_HERE = Path(__file__).parent
_PROGRAM: list[subprocess.Popen[str]] = []  # the peers' one, as soon as it is asked


def main() -> None:
    """Make what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("bench", "elec2", "thresholds"), default="bench")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FERRYMAN_SHARED", "../shared/data")))
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "ferryman-bench" / "drift")
    parser.add_argument("--peers", type=Path, help="the Python of an environment with what peers.txt names")
    parser.add_argument("--only", nargs="+", default=[""], help="ask only the peers whose name has one of these parts")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--output", type=Path, default=_HERE / "results")
    parser.add_argument("--trials", type=int, default=3, help="of each change")
    parser.add_argument("--clean", type=int, default=2, help="clean streams of each set, of 20,000 rows")
    parser.add_argument("--again", action="store_true", help="follow the streams again with Ferryman's watch alone")
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    if asked.what == "thresholds":
        measure_rates()
    elif asked.what == "elec2":
        follow_elec(asked.data, asked.output)
    else:
        _bench(asked)


def _bench(asked: argparse.Namespace) -> None:
    started = time.monotonic()
    results: list[dict[str, Any]] = []  # JSON
    for name in asked.sets:
        source = Source(name, asked.data, asked.cache)
        for seed, stream in _streams(source, asked):
            stored = (
                asked.cache / "cases" / f"{stream.name}-{stream.how}-{seed}.json".replace(" ", "-").replace(":", "")
            )
            results += _case(stream, seed, stored, asked)
            print(f"{stream.name:28} {stream.how:8} {seed:3}  {time.monotonic() - started:6.1f} s", file=sys.stderr)
    (asked.output / "drift.json").write_text("[\n" + ",\n".join(map(json.dumps, results)) + "\n]\n")
    text = write_table(results)
    (asked.output / "drift.md").write_text(text)
    print(text)


def _streams(source: Source, asked: argparse.Namespace) -> Iterator[tuple[int, Stream]]:
    for seed in range(asked.clean):
        yield seed, source.clean(10 * INTERVAL_ROWS, seed)
    for change in source.changes:
        for how in ("sudden", "gradual"):
            for seed in range(asked.trials):
                yield seed, source.changed(change, how, seed)


def _case(stream: Stream, seed: int, stored: Path, asked: argparse.Namespace) -> list[dict[str, Any]]:  # JSON
    """Give the rows of one stream: one for each tool; what was found before is kept."""
    rows: dict[str, dict[str, Any]] = json.loads(stored.read_text()) if stored.is_file() else {}
    case = {"stream": stream.name, "how": stream.how, "seed": seed, "change": stream.change}
    if asked.again or OURS not in rows:
        began = [row for row, kind, _ in watch(stream, seed) if kind == "began"]
        rows[OURS] = case | {"tool": OURS} | _judged(stream, began, len(stream))
    missing = (
        [tool for tool in TOOLS if tool not in rows and any(part in tool for part in asked.only)] if asked.peers else []
    )
    if missing:
        for tool, found in _ask(asked.peers, stream, missing).items():
            starts, own = found["rows"], case | {"tool": tool}
            if found["is_window"] and stream.change is None:  # one alarm lasts over windows that follow each other
                own["windows_in_alarm"] = len(starts) * CHUNK / found["rows_seen"]
                starts = [row for row in starts if row - CHUNK not in found["rows"]]
            elif found["is_window"] and stream.change is not None:  # what was on already tells nothing
                own["was_on"] = stream.change // CHUNK * CHUNK in starts
            rows[tool] = own | _judged(stream, starts, found.get("rows_seen", len(stream)))
    stored.parent.mkdir(parents=True, exist_ok=True)
    stored.write_text(json.dumps(rows))
    return list(rows.values())


def _judged(stream: Stream, alarms: list[int], seen: int) -> dict[str, Any]:  # JSON
    if stream.change is None:
        return {"false_alarms": len(alarms), "rows": seen}
    after = [row for row in alarms if row > stream.change]
    return {"delay": after[0] - stream.change if after else None}


def _ask(peers: Path, stream: Stream, tools: list[str]) -> dict[str, Any]:  # JSON
    if not _PROGRAM:
        one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NML_DISABLE_USAGE_LOGGING": "1"}
        words = [peers, _HERE / "_peers.py"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        _PROGRAM.append(subprocess.Popen(words, text=True, env=os.environ | one, **pipes))
    program = _PROGRAM[0]
    asked = {"reference": stream.reference, "rows": stream.rows, "change": stream.change, "tools": tools}
    program.stdin.write(json.dumps(asked) + "\n")
    program.stdin.flush()
    line = program.stdout.readline()
    if not line:
        raise SystemExit(f"the peers' program ended: its last words are above; {stream.name} was asked of {tools}")
    found: dict[str, Any] = json.loads(line)
    return found


if __name__ == "__main__":
    main()

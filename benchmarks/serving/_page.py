"""Write what was measured as a page: one table a figure, the median of the rounds with the least and the most."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.serving._load import LOADS
from benchmarks.serving._peers import PEERS
from benchmarks.serving._poisson import LOAD
from benchmarks.serving._predictions import CAVEATS, PREDICTED, REPRODUCE
from benchmarks.serving._theory import md1_quantile, percentile

Report = dict[str, Any]  # JSON
Turn = dict[str, Any]  # as above


def brief(name: str, cell: dict[str, Any]) -> str:
    """Tell of one load in a few words."""
    if "fault" in cell:
        return f"{name} FAULT {cell['fault'][:120]}"
    failed = f", {cell['failed']} FAILED" if cell["failed"] else ""
    return f"{name} {cell['rate']:.4g}/s {cell['cpu_us']:.4g} us{failed}"


def render(report: Report) -> str:
    """Give the whole page."""
    parts = ["# Serving: Ferryman beside other servers", _head(report), REPRODUCE, "## The limit", _limits(report)]
    for name, load in LOADS.items():
        if any(name in turn["cells"] for turn in report["turns"]):
            parts += [f"## {load.title}", _load_table(report, name)]
    if any("poisson" in turn for turn in report["turns"]):
        parts += [f"## Random arrivals: M at {LOAD:.0%} of each server's own capacity", _poisson_table(report)]
    parts += ["## Start and memory", _start_table(report), "## What was predicted", PREDICTED]
    parts += ["## What these figures don't say", CAVEATS, "## Who was measured", _who(report)]
    faults = _faults(report)
    return "\n\n".join([*parts, *(["## Faults", faults] if faults else [])]) + "\n"


def _head(report: Report) -> str:
    machine = report.get("machine", {})
    loads = [turn["load_before"] for turn in report["turns"] if "load_before" in turn]
    system = f"load average when a turn began {min(loads):.1f} to {max(loads):.1f}" if loads else "nothing measured"
    return (
        f"{report.get('date', '')}, {machine.get('processor', '?')}, {machine.get('cores', '?')} cores, "
        f"{machine.get('system', '?')}, Python {machine.get('python', '?')}, ONNX Runtime "
        f"{report.get('engine_version', '?')}; {report['rounds']} rounds, {report['seconds']:g} s a load; {system}.\n\n"
        "The whole server has core 0, the load core 1; one thread for the engine. Every figure is the median of the "
        "rounds, (least to most) after it. CPU is user and system time of the server's every process per answered "
        "request: on a machine that others use, too, it is the figure to compare. The share of the limit is the "
        "throughput over that of the bare loop, timed on the same core right before and after that server's turn; by "
        "CPU it is the bare loop's CPU time over the server's. Batches cost less than their parts, so more than 100 % "
        "is possible."
    )


def _limits(report: Report) -> str:
    names = {"T": "T: session.run, one row", "M": "M: session.run, one picture", "D": "D: JPEG to boxes, all steps"}
    rows = []
    for name, title in names.items():
        limits = [limit[name] for turn in report["turns"] for limit in turn["limit"]]
        walls, cpus = [limit["wall_us"] for limit in limits], [limit["cpu_us"] for limit in limits]
        rows.append([title, _spread(walls, _us), _spread(cpus, _us), _spread([1e6 / wall for wall in walls], _count)])
    return _table(["bare loop", "wall", "CPU", "calls/s"], rows)


def _load_table(report: Report, name: str) -> str:
    head = ["server", "requests/s", "of the limit", "CPU a request", "of the limit, by CPU", "p50 ms", "p99 ms"]
    head += ["failed", "core got"]
    rows = []
    for peer, turns in _by_peer(report):
        cells = [(turn, turn["cells"][name]) for turn in turns if "rate" in turn["cells"].get(name, {})]
        if not cells:
            if any(name in turn["cells"] for turn in turns):
                rows.append((math.inf, [PEERS[peer].title, "no answer, see Faults", *["-"] * 7]))
            continue
        figures = [cell for _, cell in cells]
        shares = [100 * cell["rate"] * _limit_us(turn, name[0]) / 1e6 for turn, cell in cells]
        sent, failed = sum(cell["requests"] for cell in figures), sum(cell["failed"] for cell in figures)
        row = [PEERS[peer].title, _spread([cell["rate"] for cell in figures], _count), _spread(shares, _percent)]
        by_cpu = [100 * _limit_us(turn, name[0], "cpu_us") / cell["cpu_us"] for turn, cell in cells]
        row += [_spread([cell["cpu_us"] for cell in figures], _us), _spread(by_cpu, _percent)]
        row += [_middle(figures, "p50_ms"), _middle(figures, "p99_ms")]
        row += [f"{failed} of {sent}", f"{statistics.median(cell['core_share'] for cell in figures):.2f}"]
        rows.append((statistics.median(cell["cpu_us"] for cell in figures), row))
    return _table(head, [row for _, row in sorted(rows, key=lambda pair: pair[0])])


def _poisson_table(report: Report) -> str:
    head = ["server", "requests/s", "p50 ms", "p99 ms", "p99 / bare call", "p99 in turn, ms", "answers", "failed"]
    rows = []
    for peer, turns in _by_peer(report):
        found = [turn["poisson"] for turn in turns if "rate" in turn.get("poisson", {})]
        if not found:
            continue
        took = [value for each in found for value in each["took_ms"]]
        bare_ms = statistics.median(_limit_us(turn, "M") for turn in turns) / 1e3
        p99 = percentile(took, 0.99)
        in_turn = percentile([value for each in found for value in each["fifo_ms"]], 0.99)
        row = [PEERS[peer].title, _spread([each["rate"] for each in found], _count), f"{percentile(took, 0.5):.1f}"]
        row += [f"{p99:.1f}", f"{p99 / bare_ms:.1f}x", f"{in_turn:.1f}", str(len(took))]
        rows.append((p99, [*row, str(sum(each["failed"] for each in found))]))
    theory = md1_quantile(LOAD, 0.99)
    note = (
        "Queueing theory: one server that takes requests in turn, each for the same time, has a p99 of "
        f'{theory:.1f} times that time at {LOAD:.0%} (M/D/1, exact, endless run). The column "in turn" is what such a '
        "server of the measured capacity makes of the very arrivals that were sent. Arrivals follow one pattern for "
        "every server, stretched to its rate; an answer's time counts from when it was due to be asked, not from when "
        "it was. Rounds are put together."
    )
    return note + "\n\n" + _table(head, [row for _, row in sorted(rows, key=lambda pair: pair[0])])


def _start_table(report: Report) -> str:
    rows = []
    for peer, turns in _by_peer(report):
        started = [turn for turn in turns if "start_s" in turn and "memory" in turn]
        if not started:
            continue
        memory = [turn["memory"] for turn in started]
        row = [PEERS[peer].title, _spread([turn["start_s"] for turn in started], _seconds)]
        row += [_spread([turn["start_cpu_s"] for turn in started], _seconds)]
        row += [_spread([each[key] for each in memory], _count) for key in ("pss_mb", "rss_mb")]
        row += [str(max(each["processes"] for each in memory))]
        rows.append((statistics.median(turn["start_s"] for turn in started), row))
    note = (
        "From the start of the process to a right answer of each model, asked again every 5 ms; for Ferryman also "
        "until it says that it is ready, its golden samples answered. Memory (10^6 bytes) after all loads: PSS counts "
        "shared pages once. grpc.aio has T and M only."
    )
    head = ["server", "start s", "CPU s until then", "PSS MB", "RSS MB", "processes"]
    return note + "\n\n" + _table(head, [row for _, row in sorted(rows, key=lambda pair: pair[0])])


def _who(report: Report) -> str:
    rows = []
    for name, version in report.get("versions", {}).items():
        held = report.get("engines", {}).get(name)
        holds = "; ".join(f"{model}: {engine}" for model, engine in held.items()) if held else ""
        rows.append([PEERS[name].title, version, "; ".join(filter(None, (PEERS[name].note, holds)))])
    absent = [f"Not measured: {PEERS[name].title}: {why}." for name, why in report.get("not_measured", {}).items()]
    return "\n\n".join([_table(["server", "version", "how"], rows), *absent])


def _faults(report: Report) -> str:
    lines = []
    for turn in report["turns"]:
        where = f"{PEERS[turn['peer']].title}, round {turn['round'] + 1}"
        told = {"": turn.get("fault", ""), "random arrivals": turn.get("poisson", {}).get("fault", "")}
        told |= {name: cell.get("fault", "") for name, cell in turn["cells"].items()}
        lines += [f"- {where}{', ' + name if name else ''}: {_one_line(text)}" for name, text in told.items() if text]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300].replace("|", "/").replace("<", "&lt;")


def _by_peer(report: Report) -> list[tuple[str, list[Turn]]]:
    names = dict.fromkeys(turn["peer"] for turn in report["turns"])
    return [(name, [turn for turn in report["turns"] if turn["peer"] == name]) for name in names]


def _limit_us(turn: Turn, model: str, clock: str = "wall_us") -> float:
    return statistics.mean(float(limit[model][clock]) for limit in turn["limit"])


def _middle(cells: Iterable[dict[str, Any]], key: str) -> str:
    return f"{statistics.median(cell[key] for cell in cells):.3g}"


def _spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    if not values:
        return "-"
    middle = show(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({show(min(values))} to {show(max(values))})"


def _us(value: float) -> str:
    return f"{value / 1e3:.3g} ms" if value >= 2000 else f"{value:.3g} us"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{value:.0f} %" if value >= 10 else f"{value:.1f} %"


def _seconds(value: float) -> str:
    return f"{value:.2f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])

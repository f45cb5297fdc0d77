"""Write what was measured as Markdown tables, for the terminal and for docs/benchmarks.md."""

import re
from pathlib import Path
from typing import Any

from benchmarks._promises import promise_rows

Figures = dict[str, Any]  # JSON
_SHOWN = {"accepted": "accepted", "repaired": "**repaired**", "refused": "refused", "failed": "failed"}


def render(report: Figures) -> str:
    """Give every table: the cases, then each case's candidates."""
    cases: dict[str, Figures] = report["cases"]
    promises = table(["case", "must", "known before", "measured", "holds"], promise_rows(cases))
    parts = [_machine(report), "### Promises", promises, "### All cases", _overview(cases)]
    parts += [_one_case(name, case) for name, case in cases.items() if len(case["candidates"]) > 1]
    if report["not_run"]:
        parts.append("\n".join(f"NOT RUN: {name}: {why}" for name, why in report["not_run"].items()))
    return "\n\n".join(parts) + "\n"


def rewrite(page: Path, tables: str, *, mark: str = "bench") -> None:
    """Put the tables between the page's marks; raises ValueError where it has none."""
    text = page.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- {mark}:begin -->\n).*?(<!-- {mark}:end -->)", re.DOTALL)
    if not place.search(text):
        raise ValueError(f"{page} has no <!-- {mark}:begin --> and <!-- {mark}:end -->")
    page.write_text(place.sub(lambda found: f"{found[1]}\n{tables}\n{found[2]}", text), encoding="utf-8")


def _machine(report: Figures) -> str:
    machine = report["machine"]
    versions = report["versions"]
    named = ("onnxruntime", "openvino", "nncf", "torch", "scikit-learn")
    packages = ", ".join(f"{name} {versions[name]}" for name in named if name in versions)
    load = f"load {report['load_before']:.1f} before, {report['load_after']:.1f} after"
    return (
        f"{report['date']}, {machine['cpu']}, {machine['cores']} cores, {machine['system']}, {load}. {packages}."
        + str(report.get("note", ""))
    )


def _overview(cases: dict[str, Figures]) -> str:
    head = [
        "case",
        "metric",
        "source",
        "fastest that holds",
        "smallest",
        "its ms",
        "ORT FP32 ms",
        "speed",
        "median",
        "control",
        "build",
        "again",
        "noise",
    ]
    rows = [[name, *_overview_row(case)] for name, case in cases.items()]
    return table(head, rows)


def _overview_row(case: Figures) -> list[str]:
    against = case["against_onnx_runtime"]
    again = case["again"]
    return [
        case["source"]["metric"] or "parity",
        _number(case["source"]["value"], 3),
        case["winner_by_latency"] if case["holds"] else f"NONE ({case['winner_by_latency']})",
        case["winner_by_size"],
        f"{against['winner_min_ms']:.3g}",
        f"{against['onnx_runtime_min_ms']:.3g}",
        f"{1 / against['min_ratio']:.2f}x",
        f"{1 / against['median_ratio']:.2f}x",
        f"{1 / against['control_min_ratio']:.2f}x, {1 / against['control_median_ratio']:.2f}x",
        f"{case['first_build_s']:.0f} s",
        f"{again['wall_s']:.1f} s" + (f", {again['ran']} ran" if again["ran"] else ""),
        f"±{100 * case['noise']:.0f} %" if case["noise"] is not None else "-",
    ]


def _one_case(name: str, case: Figures) -> str:
    head = [
        "candidate",
        "verdict",
        "metric",
        "drop",
        "shift",
        "min ms",
        "vs source",
        "MB",
        "first diverging stage",
        "tries",
    ]
    rows = [_candidate_row(candidate) for candidate in case["candidates"]]
    notes = [_note(candidate) for candidate in case["candidates"]]
    return "\n\n".join([f"### {name}", f"{case['summary']}.", table(head, rows), *(note for note in notes if note)])


def _candidate_row(candidate: Figures) -> list[str]:
    stage = candidate["diverges_at"]
    return [
        candidate["name"],
        _SHOWN.get(candidate["status"], candidate["status"]),
        _number(candidate["metric"], 3),
        _number(candidate["drop"], 4, signed=True),
        _number(candidate["shift"], 3),
        _number(candidate["min_ms"], 2),
        _number(candidate["ratio"], 2),
        _number(candidate["size_mb"], 2),
        f"`{stage}` ({candidate['diverges_db']:.0f} dB)" if stage else "-",
        str(candidate["tries"]),
    ]


def _note(candidate: Figures) -> str:
    if candidate["status"] == "repaired":
        naive = candidate["first_try"].get("max_drop")
        lost = f", which lost {naive:.3f}," if naive is not None else ""
        return (
            f"{candidate['name']}: the first try{lost} was refused; held after {candidate['tries']} tries: "
            f"{candidate['repaired_by']}."
        )
    if candidate["status"] in ("failed", "refused", "unavailable"):
        return f"{candidate['name']}: {candidate['reason']}."
    return ""


def table(head: list[str], rows: list[list[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(value: float | None, digits: int, *, signed: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"

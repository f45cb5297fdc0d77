"""Measure Ferryman beside other model servers, and write the page: `python benchmarks/serving/run.py`.

Every round gives every server one turn, and every turn begins and ends with the bare loops. Figures are saved after
each turn; `--resume` goes on where a run was stopped, and `--render` only writes the page again.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.serving import _machine, _page
from benchmarks.serving._load import LOAD_CORE, LOADS
from benchmarks.serving._models import Questions, ask_models, make_models
from benchmarks.serving._peers import PEERS, Peer, Place, ferryman_engines, tools_missing
from benchmarks.serving._turn import Dose, bare_limit, run_turn
from benchmarks.serving._venvs import default_folder

Report = dict[str, Any]  # JSON


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peers", default=",".join(PEERS), help="which, with commas between (default: all)")
    parser.add_argument("--loads", default=",".join(LOADS), help="which (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long each load lasts (3)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each server (3)")
    parser.add_argument("--out", type=Path, help="the page; its figures go beside it, as .json (default: docs)")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="models and peers (default: %(default)s)")
    parser.add_argument("--port", type=int, default=18460, help="first of five free ports (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="keep the turns that an earlier run wrote")
    parser.add_argument("--render", action="store_true", help="measure nothing: write the page from the figures")
    arguments = parser.parse_args()
    for given, known in ((arguments.peers, PEERS), (arguments.loads, LOADS)):
        if unknown := set(given.split(",")) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return arguments


def _measure(arguments: argparse.Namespace, report: Report, figures: Path) -> None:
    """Take the turns that the report lacks, and save it after each."""
    models = make_models(arguments.folder)
    asked = ask_models(models)
    names = arguments.peers.split(",")
    report["not_measured"] = {name: reason for name in names if (reason := PEERS[name].why_missing(arguments.folder))}
    peers = [PEERS[name] for name in names if name not in report["not_measured"]]
    _describe(report, peers, arguments.folder, models)
    taken = {(turn["round"], turn["peer"]) for turn in report["turns"]}
    before = None
    for number in range(arguments.rounds):
        # Whoever went first goes last: none always has the machine's warmest or quietest moment.
        shift = number % max(1, len(peers))
        for peer in peers[shift:] + peers[:shift]:
            if (number, peer.name) in taken:
                continue
            before = before or bare_limit(models)
            turn = _turn(peer, number, arguments, models, asked)
            after = bare_limit(models)
            report["turns"].append({"round": number, **turn, "limit": [before, after]})
            before = after
            _save(figures, json.dumps(report, indent=1) + "\n")


def _turn(peer: Peer, number: int, arguments: argparse.Namespace, models: Path, asked: Questions) -> Report:
    start = time.monotonic()
    dose = Dose(tuple(arguments.loads.split(",")), arguments.seconds, seed=1000 + number)
    with tempfile.TemporaryDirectory(prefix="ferryman-bench-", ignore_cleanup_errors=True) as scratch:
        turn = run_turn(peer, Place(arguments.folder, models, Path(scratch) / "home", arguments.port), asked, dose)
    cells = ", ".join(_page.brief(name, cell) for name, cell in turn["cells"].items())
    fault = f" FAULT: {turn['fault']}" if turn.get("fault") else ""
    took = f"({time.monotonic() - start:.0f} s)"
    print(f"round {number + 1} {peer.name}: {cells} {took}{fault}", file=sys.stderr, flush=True)
    return turn


def _save(path: Path, text: str) -> None:
    """Write all or nothing: a run may be stopped at any time."""
    half = path.with_name(f".{path.name}.part")
    half.write_text(text, encoding="utf-8")
    half.replace(path)


def _describe(report: Report, peers: list[Peer], folder: Path, models: Path) -> None:
    report["machine"] = _machine.describe()
    report["date"] = time.strftime("%Y-%m-%d")
    report["versions"] = {peer.name: peer.version(folder) for peer in peers}
    report["engine_version"] = _machine.version_of("onnxruntime")
    report["engines"] = {
        peer.name: ferryman_engines(peer.name, folder, models) for peer in peers if peer.name.startswith("ferryman")
    }


def main() -> int:
    """Measure and write; 1 where a server that is installed gave a wrong answer or none."""
    arguments = _arguments()
    page: Path = arguments.out or Path(__file__).resolve().parents[2] / "docs" / "benchmarks-serving.md"
    figures = page.with_suffix(".json")
    report: Report = {"turns": [], "seconds": arguments.seconds, "rounds": arguments.rounds}
    if arguments.resume or arguments.render:
        report |= json.loads(figures.read_text(encoding="utf-8")) if figures.exists() else {}
    if not arguments.render:
        if missing := tools_missing():
            print(f"error: {missing}", file=sys.stderr)
            return 2
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        page.parent.mkdir(parents=True, exist_ok=True)
        _measure(arguments, report, figures)
    text = _page.render(report)
    _save(page, text)
    print(text)
    return 1 if any(turn.get("fault") for turn in report["turns"]) else 0


if __name__ == "__main__":
    sys.exit(main())

"""Elec2 that retrains itself: `FERRYMAN_SHARED=FOLDER python -m benchmarks.retraining [SVG]`."""

import csv
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from benchmarks.drift.tables import FEATURES, Floats, read_elec
from numpy.typing import NDArray

from ferryman import api
from ferryman.client.admin import Admin
from ferryman.core.errors import FerrymanError

DAY, LATE = 48, 7  # half hours of a day; days until a label is known
_ROWS = 12  # of a request
_WINDOW = DAY * 28  # of the rolling accuracy: four weeks
_HALF_LIFE = DAY * 28  # after which a labelled row weighs half as much in a training
_LEAST_WEIGHT = 0.05  # of the oldest ones: what was may come back
_PROOF = DAY * 112  # of the latest labelled rows, of which each fourth day is a candidate's proof
_PAUSE_WEEKS = 4  # from a retraining to the next
_WEEK_S, _DAY_S = 0.7, 0.2  # that a week of the stream lasts; a day of it, while a rollout runs
_PLAN = {"shadow": 0.5, "steps": [0.5], "step_s": 0.3, "min_requests": 8, "max_p99_ratio": 1000.0, "keep_s": 1.0}
_LONGEST_S = 300.0  # that a retraining may take, before the benchmark gives up
_LABELS = ("down", "up")
_TRAIN = f"""\
import csv
import numpy as np
from skops.io import dump
from sklearn.ensemble import HistGradientBoostingClassifier
with open("labelled.csv") as file:
    header, *lines = csv.reader(file)
places = np.arange(len(lines))
own = places[places // {DAY} % 4 != 3]  # each fourth day is for the proof
rows = np.array([lines[place][:-1] for place in own], dtype=np.float32)
weights = np.maximum(0.5 ** ((len(lines) - own) / {_HALF_LIFE}), {_LEAST_WEIGHT})
model = HistGradientBoostingClassifier(max_iter=40, max_depth=3, random_state=0)
model.fit(rows, np.array([lines[place][-1] for place in own]), sample_weight=weights)
dump(model, "model.skops")
proof = places[-{_PROOF}:]
with open("evaluation.csv", "w", newline="") as file:
    csv.writer(file).writerows([header, *(lines[place] for place in proof if place // {DAY} % 4 == 3)])
"""


@dataclass
class Told:
    """Hold what came of a stream: which answers were right [N], and the rows at which something happened."""

    right: list[bool] = field(default_factory=list)
    alarms: list[tuple[int, str]] = field(default_factory=list)
    """Row of the first alarm of each rule and version, and what it says."""
    began: list[tuple[int, str]] = field(default_factory=list)
    """Row and rule of each retraining that began."""
    promoted: list[int] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def follow(folder: Path, rows: Floats, truth: NDArray[np.int64], fitted: int, *, week_s: float = _WEEK_S) -> Told:
    """Serve a model that was trained on the first `fitted` rows to the others, and let it retrain itself."""
    project = folder / "project"
    project.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        admin_url = f"http://127.0.0.1:{free.getsockname()[1]}"
    (project / "train.py").write_text(_TRAIN)
    (folder / "plan.json").write_text(json.dumps(_PLAN))
    (project / "ferryman.toml").write_text(_settings(folder, admin_url, week_s))
    with (project / "labelled.csv").open("w", newline="") as file:
        csv.writer(file).writerow([*FEATURES, "label"])
    _learn(project, rows[:fitted], truth[:fitted])
    subprocess.run([sys.executable, "train.py"], cwd=project, check=True)
    api.build(project, output=folder / "models" / "elec" / "1")
    with _served(folder, admin_url) as url:
        return _stream(project, url, Admin(admin_url), rows[fitted:], truth[fitted:], week_s)


def _stream(
    project: Path, url: str, admin: Admin, rows: Floats, truth: NDArray[np.int64], week_s: float
) -> Told:  # fmt: skip
    told, known, started_s = Told(), set[str](), time.monotonic()
    link = HTTPConnection(url.removeprefix("http://"), timeout=30)
    for day in range(len(rows) // DAY):
        begun_s = time.monotonic()
        part = slice(day * DAY, (day + 1) * DAY)
        labels = _ask(link, day, rows[part])
        link.close()  # the server closes one that says nothing for long
        told.right += [label == _LABELS[true] for label, true in zip(labels, truth[part], strict=True)]
        if day >= LATE:
            late = slice((day - LATE) * DAY, (day - LATE + 1) * DAY)
            _learn(project, rows[late], truth[late])
            admin.feedback([
                {"id": f"{day - LATE}-{start}", "truth": [_LABELS[true] for true in truth[late][start : start + _ROWS]]}
                for start in range(0, DAY, _ROWS)
            ])  # fmt: skip
        is_rolling = _look(admin, (day + 1) * DAY, told, known)
        if (day + 1) % 28 == 0:
            print(f"{time.monotonic() - started_s:5.0f} s  {_so_far(told)}", file=sys.stderr, flush=True)
        wait_s = _DAY_S if is_rolling else week_s / 7
        time.sleep(max(0.0, wait_s - (time.monotonic() - begun_s)))
    return told


def _so_far(told: Told) -> str:
    latest = np.mean(told.right[-_WINDOW:])
    return (
        f"row {len(told.right)}: {latest:.3f} right in four weeks; {len(told.began)} retrainings began, "
        f"{len(told.promoted)} came to serve, {len(told.failed)} failed"
    )


def _look(admin: Admin, row: int, told: Told, known: set[str]) -> bool:
    """Note what happened; wait while a model is trained and built. Tells whether one is rolled out."""
    until_s = time.monotonic() + _LONGEST_S
    while time.monotonic() < until_s:
        _note_alarms(admin, row, told, known)
        is_busy = _note_actions(admin, row, told, known)
        try:
            rollout = admin.rollout("elec")
        except FerrymanError:
            rollout = {"phase": "none", "candidate": "", "version": ""}
        if rollout["phase"] == "promoted" and rollout["candidate"] not in known:
            known.add(rollout["candidate"])
            told.promoted.append(row)
        is_rolling = rollout["phase"] in ("shadow", "canary")
        if is_rolling or not is_busy:
            return is_rolling
        time.sleep(0.1)
    raise TimeoutError(f"a retraining that began by row {row} has no end after {_LONGEST_S:g} s: {admin.actions()}")


def _note_alarms(admin: Admin, row: int, told: Told, known: set[str]) -> None:
    for alert in admin.live()["watch"]["alerts"]:
        alarm = f"{alert['rule']} of version {alert['version']}"
        if alert["state"] == "firing" and alarm not in known:
            known.add(alarm)
            told.alarms.append((row, alarm))


def _note_actions(admin: Admin, row: int, told: Told, known: set[str]) -> bool:
    """Note retrainings that began or failed; tells whether one is under way."""
    is_busy = False
    for action in admin.actions()["actions"]:
        if action["id"] not in known:
            known.add(action["id"])
            told.began.append((row, action["cause"]["rule"]))
        is_busy |= action["outcome"] == ""
        if action["outcome"] == "failed" and action["id"] + "!" not in known:
            known.add(action["id"] + "!")
            told.failed.append(f"{row}: {action['said']}")
    return is_busy


def _ask(link: HTTPConnection, day: int, rows: Floats) -> list[str]:
    labels: list[str] = []
    for start in range(0, DAY, _ROWS):
        items = [dict(zip(FEATURES, map(float, row), strict=True)) for row in rows[start : start + _ROWS]]
        headers = {"Content-Type": "application/json", "X-Request-Id": f"{day}-{start}"}
        link.request("POST", "/v2/models/elec/infer", json.dumps({"instances": items}), headers)
        labels += [each["label"] for each in json.loads(link.getresponse().read())["predictions"]]
    return labels


def _learn(project: Path, rows: Floats, truth: NDArray[np.int64]) -> None:
    """Put rows whose labels are known now where trainings find them."""
    with (project / "labelled.csv").open("a", newline="") as file:
        for row, true in zip(rows, truth, strict=True):
            csv.writer(file).writerow([*map(str, row.astype(np.float32)), _LABELS[true]])


def _settings(folder: Path, admin_url: str, week_s: float) -> str:
    python = sys.executable
    command = [
        python, "-m", "ferryman", "retrain", str(folder / "project"), "--train", f"{python} train.py",
        "--repository", str(folder / "models"), "--plan", str(folder / "plan.json"), "--admin", admin_url,
    ]  # fmt: skip
    return f"""\
[model]
name = "elec"
source = "model.skops"

[task]
kind = "tabular"
columns = {json.dumps(FEATURES)}

[data.evaluation]
items = "evaluation.csv"
target = "label"

[contract]
metric = "accuracy"
max_drop = 0.01

[build]
candidates = ["onnx-fp32"]

[monitor]
cost = 1.0

[monitor.alerts.rules.performance]
for_s = 0
clear_s = 1

[monitor.actions.learn]
do = "retrain"
on = ["drift", "performance"]
pause_s = {_PAUSE_WEEKS * week_s}
most_per_day = 100
command = {json.dumps(command)}
"""


@contextmanager
def _served(folder: Path, admin_url: str) -> Iterator[str]:
    port = admin_url.rpartition(":")[2]
    program = [
        sys.executable, "-m", "ferryman", "serve", str(folder / "models"), "--port", "0", "--admin-port", port,
        "--monitor", str(folder / "kept"), "--state", str(folder / "state"), "--access-log", "off", "--json",
    ]  # fmt: skip
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(program, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            admin = Admin(admin_url)
            while not _answers(admin):
                time.sleep(0.1)
            yield str(json.loads(line)["url"])
        finally:
            process.terminate()
            process.wait(30)


def _answers(admin: Admin) -> bool:
    try:
        admin.actions()
    except FerrymanError:
        return False
    return True


def rolling(right: NDArray[np.bool_]) -> Floats:
    """Give the accuracy over four weeks, at the row that ends each."""
    return np.convolve(right, np.ones(_WINDOW) / _WINDOW, "valid")


def main() -> None:
    """Serve Elec2, print what happened, and draw the accuracy beside that of a model that stays as it is."""
    elec = read_elec(Path(os.environ["FERRYMAN_SHARED"]))
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        told = follow(Path(place), elec.rows, elec.truth, elec.fitted)
        right = np.array(told.right)
        still = np.array(_still(Path(place), elec.rows, elec.truth, elec.fitted))[: len(right)]
    print(f"{len(right)} rows in {time.monotonic() - begun_s:.0f} s")
    print("alarms by row:", ", ".join(f"{row} {alarm}" for row, alarm in told.alarms))
    lost = int(np.argmax(rolling(still) < still[:_WINDOW].mean() - 0.05)) + _WINDOW
    print(f"five points lost by row {lost}, by the model that stays")
    print("retrainings began:", ", ".join(f"{row} {rule}" for row, rule in told.began))
    print("came to serve:", ", ".join(map(str, told.promoted)))
    print("failed:", "; ".join(told.failed) or "none")
    for name, each in (("stays", still), ("retrains", right)):
        parts = " ".join(f"{part.mean():.3f}" for part in np.split(each, range(4000, len(each), 4000)))
        print(f"{name}: {each.mean():.3f} in all, {rolling(each).min():.3f} in its worst four weeks")
        print(f"  by 4,000 rows: {parts}")
    if sys.argv[1:]:
        Path(sys.argv[1]).write_text(draw(rolling(still), rolling(right), told))


def _still(folder: Path, rows: Floats, truth: NDArray[np.int64], fitted: int) -> list[bool]:
    answers = api.infer(
        folder / "models" / "elec" / "1", [dict(zip(FEATURES, map(float, row), strict=True)) for row in rows[fitted:]]
    )
    return [answer["label"] == _LABELS[true] for answer, true in zip(answers, truth[fitted:], strict=True)]


def draw(still: Floats, served: Floats, told: Told) -> str:
    """Draw both accuracies over four weeks [N], with each retraining that came to serve."""
    left, top, width, height, low, high = 44, 20, 720, 240, 0.5, 0.95
    count = len(still) + _WINDOW

    def place(row: float, value: float) -> str:
        return f"{left + row / count * width:.1f},{top + (high - value) / (high - low) * height:.1f}"

    parts = []
    for value in (0.5, 0.6, 0.7, 0.8, 0.9):
        y = place(0, value).split(",")[1]
        parts.append(f'<path d="M{left} {y}H{left + width}" stroke="#ddd"/><text x="10" y="{y}">{value:.1f}</text>')
    for row in range(0, count, 4000):
        x = place(row, 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{top + height + 16}" text-anchor="middle">{row:,}</text>')
    for row in told.promoted:
        x = place(row, 0).split(",")[0]
        parts.append(f'<path d="M{x} {top}V{top + height}" stroke="#2a9d4a" stroke-dasharray="3"/>')
    for line, color in ((still, "#c0392b"), (served, "#1a56c4")):
        points = " ".join(place(at + _WINDOW, float(line[at])) for at in range(0, len(line), 60))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5"/>')
    title = "Elec2, accuracy over four weeks, by row: a model that stays (red), one that retrains itself (blue)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 16}" height="{top + height + 48}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
        f'{"".join(parts)}<text x="{left}" y="{top + height + 36}">{title}</text></svg>\n'
    )


if __name__ == "__main__":
    main()

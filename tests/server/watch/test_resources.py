"""What each model costs, on a real server: the figures are those of the kernel."""

import json
import math
import os
import signal
import time
from pathlib import Path

from tests.server.running import Running, running
from tests.server.watch.making import bundle_watched, make_rows


def _workers(root: int) -> dict[int, float]:
    """Give the CPU seconds of each worker below a process, as the kernel counts them."""
    found, waiting = {}, [root]
    while waiting:
        pid = waiting.pop()
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        if name.startswith("ferryman-worker"):
            found[pid] = sum(map(int, rest.split()[11:13])) / os.sysconf("SC_CLK_TCK")
        waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return found


def _cpu_s(server: Running) -> float:
    text = server.ask("GET", "/metrics")[1].decode()
    (line,) = (one for one in text.splitlines() if one.startswith("ferryman_model_cpu_seconds_total{"))
    assert 'model="table"' in line
    return float(line.split()[-1])


def _ask(server: Running, times: int) -> None:
    body = json.dumps({"instances": make_rows(400, seed=3)}).encode()
    for _ in range(times):
        assert server.ask("POST", "/v2/models/table/infer", body)[0] == 200


def test_a_models_cpu_time_is_that_of_its_workers_and_outlives_them(tmp_path: Path) -> None:
    with running([bundle_watched(tmp_path / "table").path], monitor=tmp_path / "kept", admin_port=0) as server:
        _ask(server, 150)
        told_s, known = _cpu_s(server), _workers(server.process.pid)
        assert math.isclose(told_s, sum(known.values()), rel_tol=0.05, abs_tol=0.03)
        (worker,) = known
        os.kill(worker, signal.SIGKILL)
        until_s = time.monotonic() + 30
        while set(_workers(server.process.pid)) <= {worker} and time.monotonic() < until_s:
            time.sleep(0.1)
        _ask(server, 50)
        after_s, others = _cpu_s(server), _workers(server.process.pid)
        assert worker not in others
        assert math.isclose(after_s, told_s + sum(others.values()), rel_tol=0.05, abs_tol=0.06)

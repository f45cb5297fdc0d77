"""A real Prometheus that scrapes a server of the tests."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.server.running import wait_until

EVERY_S = 0.25


@dataclass(frozen=True)
class Prometheus:
    """Be one that runs."""

    url: str

    def ask(self, query: str, *, at_s: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Give labels and value of each series that a query finds, at a time or now."""
        when = {} if at_s is None else {"time": f"{at_s:.3f}"}
        with urlopen(f"{self.url}/api/v1/query?{urlencode({'query': query, **when})}", timeout=20) as answer:
            told: Any = json.load(answer)  # JSON
        return [(series["metric"], float(series["value"][1])) for series in told["data"]["result"]]

    def value(self, query: str, *, at_s: float | None = None) -> float:
        """Give the value of the only series; 0 where there is none."""
        found = self.ask(query, at_s=at_s)
        assert len(found) <= 1, found
        return found[0][1] if found else 0.0

    def scraped_again(self) -> float:
        """Wait for a scrape that began after now; gives its time."""
        now_s = time.time()
        wait_until(lambda: self.value("max(timestamp(ferryman_processes))") > now_s)
        return self.value("max(timestamp(ferryman_processes))")

    def alerts(self) -> set[str]:
        """Name the alerts that fire."""
        return {labels["alertname"] for labels, _ in self.ask('ALERTS{alertstate="firing"}')}


@contextmanager
def prometheus(folder: Path, target: str, rules: str = "", *, alertmanager: str = "") -> Iterator[Prometheus]:
    """Scrape a target until the block ends, and tell an Alertmanager (host:port); skips where it isn't installed."""
    if (program := shutil.which("prometheus")) is None:
        pytest.skip("NOT TESTED: prometheus is not installed")
    (folder / "rules.yml").write_text(rules or "groups: []\n")
    (folder / "prometheus.yml").write_text(
        f"global: {{scrape_interval: {EVERY_S * 1e3:.0f}ms, evaluation_interval: {EVERY_S * 1e3:.0f}ms}}\n"
        f"rule_files: ['{folder / 'rules.yml'}']\n"
        f"scrape_configs: [{{job_name: ferryman, static_configs: [{{targets: ['{target}']}}]}}]\n"
        f"alerting: {{alertmanagers: [{{static_configs: [{{targets: {[alertmanager] if alertmanager else []}}}]}}]}}\n"
    )
    log = folder / "prometheus.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [
                program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
                "--web.listen-address=127.0.0.1:0", "--log.format=json",
            ],
            stdout=errors, stderr=errors,
        )  # fmt: skip
    try:
        wait_until(lambda: '"Listening on"' in log.read_text() or process.poll() is not None)
        found = Prometheus(f"http://{_address(log)}")
        wait_until(lambda: _is_up(found), timeout_s=30)
        yield found
    finally:
        process.kill()
        process.wait(20)


def _address(log: Path) -> str:
    for line in log.read_text().splitlines():
        told = json.loads(line)
        if told.get("msg") == "Listening on":
            return str(told["address"])
    raise AssertionError(log.read_text())


def _is_up(server: Prometheus) -> bool:
    try:
        return server.value("up") == 1
    except (URLError, ConnectionError, KeyError):
        return False

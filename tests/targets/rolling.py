"""Callers who ask all the time while a version changes, and what became of every request."""

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ferryman.bundle.write import write_bundle
from ferryman.client.steady import SteadyClient
from ferryman.core.artifact import Artifact
from ferryman.core.bundle import Bundle
from ferryman.core.errors import FerrymanError
from tests.bundle.making import bundle_affine, describe, make_affine
from tests.chaos import counts as chaos
from tests.chaos.counts import Report

MODEL = "affine"
FACTORS = {"one": 2.0, "two": 3.0}
RIGHT = {factor + 1: name for name, factor in FACTORS.items()}
"""What the first value of an answer is, by the version that gave it: the model gives 1 * factor + 1."""
_ROW = {"values": np.array([[1, 2, 3]], np.float32)}


def write_versions(folder: Path) -> dict[str, Bundle]:
    """Write two bundles of one model; their answers tell which of them gave it."""
    made = {name: bundle_affine(folder / name, factor=factor) for name, factor in FACTORS.items()}
    return {name: _write_again(bundle, bundle.artifact) for name, bundle in made.items()}


def write_wrong(folder: Path) -> Bundle:
    """Write a bundle of that model that answers its golden samples otherwise than it was verified."""
    bundle = bundle_affine(folder / "wrong", factor=5.0)
    other = describe(make_affine(folder / "other", factor=5.5))
    return _write_again(bundle, replace(other, made_by=bundle.artifact.made_by))


def _write_again(bundle: Bundle, artifact: Artifact) -> Bundle:
    """Name no packages, so that an image gets those that are installed here."""
    written = write_bundle(
        bundle.path, deployment=bundle.deployment, artifact=artifact, proof=bundle.proof, golden=bundle.golden,
        tolerance=bundle.tolerance, baseline=bundle.baseline, versions={},
    )  # fmt: skip
    return replace(written, versions={})


@dataclass
class Counts:
    """Count what became of the requests: `again` those that SteadyClient asked more than once, `lost` their words."""

    sent: int = 0
    answered: int = 0
    wrong: int = 0
    again: int = 0
    longest_s: float = 0.0
    lost: list[str] = field(default_factory=list)
    by: dict[str, int] = field(default_factory=dict)

    def tell(self, report: Report, what: str) -> None:
        """Give the row for the end of the run."""
        row = chaos.Counts(
            sent=self.sent, answered=self.answered - self.wrong, lost=len(self.lost), wrong=self.wrong
        )  # fmt: skip
        report.add(what, row, f"asked again {self.again}, longest {self.longest_s:.2f} s")

    @property
    def is_whole(self) -> bool:
        """Tell whether every request was answered, and right."""
        return not self.lost and not self.wrong and self.sent == self.answered


@contextmanager
def under_load(url: str, *, callers: int = 6, patience_s: float = 60.0, pause_s: float = 0.03) -> Iterator[Counts]:
    """Ask until the block ends: half of the callers over one connection each, half with one for each request."""
    counts, is_over, lock = Counts(), threading.Event(), threading.Lock()

    def ask(client: SteadyClient) -> None:
        begun = time.monotonic()
        with lock:
            counts.sent += 1
        before = client.retries
        try:
            answer = float(next(iter(client.infer_tensors(MODEL, _ROW).values())).flat[0])
        except FerrymanError as error:
            with lock:
                counts.lost.append(repr(error))
                counts.again += client.retries > before
            return
        with lock:
            counts.answered += 1
            counts.again += client.retries > before
            counts.longest_s = max(counts.longest_s, time.monotonic() - begun)
            name = RIGHT.get(answer, "")
            counts.wrong += not name
            counts.by[name] = counts.by.get(name, 0) + 1

    def call(is_fresh: bool) -> None:
        client = SteadyClient([url], patience_s=patience_s)
        while not is_over.is_set():
            ask(client)
            if is_fresh:
                client.close()
                client = SteadyClient([url], patience_s=patience_s)
            is_over.wait(pause_s)
        client.close()

    threads = [threading.Thread(target=call, args=(number % 2 == 1,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def wait_for(is_so: Callable[[], bool], *, limit_s: float, words: Callable[[], str] = lambda: "") -> None:
    """Return when it is so; fails after the time, with what is told then."""
    end_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end_s, f"it has not come about in {limit_s:g} s: {words()}"
        time.sleep(0.05)


def wait_for_answers(counts: Counts, more: int, *, limit_s: float = 30.0) -> None:
    """Return when so many more were answered."""
    until = counts.answered + more
    wait_for(lambda: counts.answered >= until, limit_s=limit_s, words=lambda: str(counts.lost[:3]))


def answers(url: str, name: str) -> bool:
    """Tell whether this version answers, and nothing else does in five requests."""
    return _asked(url) == {name}


def is_among(url: str, name: str) -> bool:
    """Tell whether this version gives some of five answers: a front has seen it."""
    return name in _asked(url)


def _asked(url: str) -> set[str]:
    """Give which versions answer five requests, each over a connection of its own."""
    found = set()
    for _ in range(5):
        try:
            with SteadyClient([url], patience_s=0.1) as client:
                first = float(next(iter(client.infer_tensors(MODEL, _ROW).values())).flat[0])
        except FerrymanError:
            return set()
        found.add(RIGHT.get(first, ""))
    return found


def run(*words: str, limit_s: float = 120.0, may_fail: bool = False) -> str:
    """Run a program; gives what it says."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=limit_s, check=False)
    assert may_fail or done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return (done.stdout + done.stderr).strip()


def program(name: str) -> str:
    """Give a program's path, as one that runs in another namespace needs it."""
    found = shutil.which(name)
    assert found, name
    return found

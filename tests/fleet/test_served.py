"""The server of a box: a new bundle is tried apart, taken up without a gap, and never where its answers are wrong."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ferryman.bundle.write import write_bundle
from ferryman.client.http import Client
from ferryman.core.bundle import Bundle
from ferryman.core.errors import FerrymanError
from ferryman.fleet.service import Files, Served, Service
from ferryman.fleet.slots import Slots
from ferryman.fleet.update import Updater, Watch
from ferryman.supply.policy import EVERYTHING
from tests.bundle.making import bundle_affine, describe, make_affine

Fetch = Callable[[str, Path], None]
ROW = {"values": np.array([[1, 2, 3]], np.float32)}


@contextmanager
def serving(current: Path) -> Iterator[Served]:
    command = [sys.executable, "-m", "ferryman", "serve", str(current), "--port", "0", "--admin-port", "0"]
    process = subprocess.Popen(
        [*command, "--json", "--quiet", "--access-log", "off"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        yield Served(said["url"], said["admin_url"])
    finally:
        process.terminate()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


@contextmanager
def asking(url: str) -> Iterator[list[float]]:
    """Ask all the time; gives the first value of each answer, NaN for none."""
    answers: list[float] = []
    done = threading.Event()

    def ask() -> None:
        with Client(url) as client:
            while not done.is_set():
                try:
                    (output,) = client.infer_tensors("affine", ROW).values()
                    answers.append(float(output.flat[0]))
                except FerrymanError:
                    answers.append(float("nan"))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        done.set()
        thread.join()


@pytest.mark.slow
def test_a_running_server_takes_a_new_bundle_up_without_a_gap_and_a_wrong_one_never(
    tmp_path: Path, fetch: Fetch, versions: dict[str, Bundle]
) -> None:
    slots = Slots(tmp_path / "box")
    bundle = bundle_affine(tmp_path / "wrong", factor=5.0)
    wrong = write_bundle(
        bundle.path, deployment=bundle.deployment, proof=bundle.proof, golden=bundle.golden,
        artifact=replace(describe(make_affine(tmp_path / "other", factor=5.5)), made_by=bundle.artifact.made_by),
        tolerance=bundle.tolerance, baseline=bundle.baseline, versions=bundle.versions,
    )  # fmt: skip
    versions = {**versions, "wrong": wrong}

    def get(source: str, folder: Path) -> None:
        subprocess.run(["cp", "-rT", versions[source].path, folder], check=True)

    def updater(service: Service) -> Updater:
        return Updater(slots, service, get, EVERYTHING, watch=Watch(for_s=0.5, every_s=0.1))

    assert updater(Files()).update("one", 1).kind == "updated"
    with serving(slots.current) as served, asking(served.url) as answers:
        one = updater(served)
        assert one.update("two", 2).kind == "updated"
        seen = len(answers)
        refused = one.update("wrong", 3)
        assert (refused.kind, "golden" in refused.reason) == ("refused", True), refused
        served.check("affine", versions["two"].manifest.digest)
    assert not any(np.isnan(answers)), "a request was lost"
    assert len(set(answers)) == 2
    assert len(set(answers[seen:])) == 1
    assert os.path.samefile(slots.current, slots.folder("b"))

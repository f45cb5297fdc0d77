"""A model's file that changes under a running server: never a wrong answer."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bundle.making import bundle_affine, make_affine
from tests.chaos.counts import Report
from tests.chaos.load import HttpLoad, Target
from tests.chaos.questions import affine
from tests.chaos.serving import serving
from tests.server.running import wait_until


def garbled(model: Path, _: Path) -> bytes:
    return os.urandom(model.stat().st_size)


def shortened(model: Path, _: Path) -> bytes:
    return model.read_bytes()[:-20]


def another(_: Path, folder: Path) -> bytes:
    return make_affine(folder, factor=5.0).read_bytes()


@pytest.mark.parametrize("spoil", [garbled, shortened, another])
def test_a_spoilt_model_file_is_never_loaded(
    tmp_path: Path, report: Report, spoil: Callable[[Path, Path], bytes]
) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    model = bundle.path / bundle.manifest.model
    right = model.read_bytes()
    with serving([bundle.path]) as server, HttpLoad(Target(server.port), affine()) as http:
        http.wait_for_answers(50)
        replace(model, spoil(model, tmp_path / "other"))
        http.wait_for_answers(50)
        os.kill(server.workers()[0], signal.SIGKILL)
        http.counts.hurt()
        wait_until(lambda: server.ask("GET", "/v2/health/ready")[0] == 503)
        reason = server.ask("GET", "/v2/health/ready")[1]["error"]
        refused = http.counts.refused
        wait_until(lambda: http.counts.refused > refused + 20)
        replace(model, right)
        http.wait_for_answers(50)
    report.add(f"a model's file is {spoil.__name__}, then mended", http.counts, reason.replace(f"{tmp_path}/", ""))
    assert (http.counts.lost, http.counts.wrong, http.counts.failed) == (0, 0, {}), http.counts.examples
    assert "affine.onnx" in reason or "digest" in reason


def replace(path: Path, content: bytes) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(path)

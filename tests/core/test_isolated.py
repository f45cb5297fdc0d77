import os
import signal
import socket
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.core.conftest import running, wait_until_none_runs

from ferryman.core.errors import InputError, MissingExtra, StepError
from ferryman.core.isolated import IsolatedSession, Refusal, Worker
from ferryman.core.limits import Limits
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.toolchain import Toolchain

PROGRAM = Path(__file__).with_name("program.py")


class Heard:
    def __init__(self) -> None:
        self.news: list[tuple[str, int, int, str]] = []

    def __call__(self, stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
        self.news.append((stage, done, total, note))


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64", "float16", "bool"])
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4)])
def test_arrays_go_there_and_come_back(tiny: Toolchain, dtype: str, shape: tuple[int, ...]) -> None:
    heard = Heard()
    values = np.ones(shape, dtype)
    with Worker(tiny, PROGRAM, progress=heard) as worker:
        reply = worker.ask("double", values=values)
    np.testing.assert_array_equal(reply["values"], values * 2)
    assert reply["values"].shape == shape
    assert reply["deep"] == [{"one": 1.5}]
    assert reply["prefix"] == str(tiny.folder)
    assert heard.news == [("doubling", 1, 2, "")]


def test_what_a_program_refuses_is_told_in_its_words_and_it_goes_on(tiny: Toolchain) -> None:
    with Worker(tiny, PROGRAM) as worker:
        with pytest.raises(Refusal, match="layer 'conv_7' has operator Loop") as told:
            worker.ask("refuse")
        assert told.value.hint == "export it without loops"
        assert worker.ask("double", values=np.zeros(1))["values"] == [0]


@pytest.mark.parametrize(
    ("verb", "message", "last"),
    [
        ("fail", "KeyError: 'missing'", "the converter's own words"),
        ("die", "crashed: its process was killed by SIGSEGV", "about to crash"),
        ("leave", "ended with code 3", "no licence found"),
    ],
)
def test_a_failure_is_an_error_with_the_last_lines(tiny: Toolchain, verb: str, message: str, last: str) -> None:
    with Worker(tiny, PROGRAM) as worker, pytest.raises(StepError, match=message) as told:
        worker.ask(verb)
    assert last in told.value.hint
    assert not worker._folder.exists()


def test_a_program_that_hangs_is_stopped_with_all_that_it_started(tiny: Toolchain) -> None:
    marker = str(uuid.uuid4())
    with Worker(tiny, PROGRAM, limits=Limits(time_s=2)) as worker:
        with pytest.raises(StepError, match="stopped after 2 s: no step may take longer") as told:
            worker.ask("hang", marker=marker)
        assert "build.step_time_s" in told.value.hint
        wait_until_none_runs(marker)
        with pytest.raises(StepError, match="has ended"):
            worker.ask("double", values=np.zeros(1))


def test_a_request_that_is_not_taken_counts_and_a_fixed_limit_names_no_setting(tiny: Toolchain) -> None:
    with Worker(tiny, PROGRAM, limits=Limits(time_s=1, is_fixed=True)) as worker:
        os.killpg(worker._process.pid, signal.SIGSTOP)
        with pytest.raises(StepError, match="stopped after 1 s: no request may take longer") as told:
            worker.ask("double", values=np.zeros(1), text="x" * 1_000_000)
    assert "build." not in told.value.hint


def test_a_program_that_takes_too_much_memory_is_stopped(tiny: Toolchain) -> None:
    with Worker(tiny, PROGRAM, limits=Limits(memory_mb=300)) as worker, pytest.raises(StepError, match="300 MB"):
        worker.ask("grow")


def test_a_child_in_a_session_of_its_own_counts_and_ends(tiny: Toolchain) -> None:
    counted, quiet = str(uuid.uuid4()), str(uuid.uuid4())
    with Worker(tiny, PROGRAM, limits=Limits(memory_mb=300)) as worker:
        network = worker.ask("spawn", marker=counted, apart=True, mb=400)["network"]
        with pytest.raises(StepError, match="of the 300 MB"):
            worker.ask("wait")
    with Worker(tiny, PROGRAM) as worker:
        worker.ask("spawn", marker=quiet, apart=True)
    if network == "audited":
        for pid in running(counted) + running(quiet):
            os.kill(pid, signal.SIGKILL)
        pytest.skip("this system has no process namespaces for us")
    wait_until_none_runs(counted)
    wait_until_none_runs(quiet)


def test_a_program_sees_its_processes_by_the_numbers_that_it_knows(tiny: Toolchain) -> None:
    with Worker(tiny, PROGRAM) as worker:
        assert worker.ask("own_number")["is_own"]


def test_a_worker_goes_on_when_the_thread_that_made_it_has_ended(tiny: Toolchain) -> None:
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(Worker, tiny, PROGRAM).result()
    with worker:
        for _ in range(2):
            assert worker.ask("double", values=np.ones(1))["values"] == [2]


def test_big_endian_arrays_arrive_as_they_are(tiny: Toolchain) -> None:
    values = np.array([1, 2, 3], ">f4")
    with Worker(tiny, PROGRAM) as worker:
        assert worker.ask("double", values=values)["values"].tolist() == [2, 4, 6]
        assert worker.ask("big_endian", values=values)["values"].tolist() == [1, 2, 3]


def test_nothing_is_left_open_where_node_is_missing(tiny: Toolchain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(MissingExtra, match="Node is not installed"):
            Worker(tiny, PROGRAM.with_suffix(".mjs"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_program_can_not_phone_home(tiny: Toolchain) -> None:
    with socket.create_server(("127.0.0.1", 0)) as home, Worker(tiny, PROGRAM) as worker:
        told = worker.ask("phone_home", host="127.0.0.1", port=home.getsockname()[1])
    assert told["network"] in ("none", "audited")
    assert told["error"]


def test_a_session_answers_and_tells_its_engines_time(tiny: Toolchain) -> None:
    spec: dict[str, Any] = {"dtype": "float32", "shape": ("batch", 2)}
    signature = Signature(inputs=(TensorSpec(name="x", **spec),), outputs=(TensorSpec(name="y", **spec),))
    session = IsolatedSession(signature, tiny, PROGRAM, factor=3.0)
    given = np.array([[1.0, 2.0]], np.float32)
    assert session.infer({"x": given})["y"].tolist() == [[3.0, 6.0]]
    assert 0 < session.inference_s < 1
    with pytest.raises(InputError, match="has NaN"):
        session.infer({"x": given * np.float32("nan")})
    with pytest.raises(InputError, match="shape"):
        session.infer({"x": given[0]})
    session.close()
    session.close()


def test_a_toolchain_that_is_not_there_is_asked_for() -> None:
    missing = Toolchain("nowhere", "None.", python=("numpy==0.0.1",))
    with pytest.raises(MissingExtra) as told:
        Worker(missing, PROGRAM)
    assert told.value.hint == "ferryman toolchain add nowhere"

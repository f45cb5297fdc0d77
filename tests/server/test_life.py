"""A server's life: golden samples before it is ready, a queue with an end, and a stop that loses nothing."""

import json
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

from ferryman.bundle.write import write_bundle
from ferryman.core.artifact import digest_path
from ferryman.core.bundle import Bundle
from tests.bundle.making import bundle_affine, bundle_model, bundle_table, make_affine, make_proof, make_slow_model
from tests.server.running import Running, read_answer, refusal, running, wait_until

SLOW = json.dumps({"inputs": [{"name": "values", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}).encode()
SLOW_PATH = "/v2/models/slow/infer"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("slow")
    item = {"values": np.ones((1, 1), np.float32)}
    return bundle_model(folder / "bundle", make_slow_model(folder), {"kind": "tensor"}, [item], name="slow")


def with_wrong_golden(folder: Path) -> Bundle:
    """Give a bundle whose golden answers are those of another model."""
    bundle = bundle_affine(folder / "right", factor=2.0)
    other = bundle_affine(folder / "other", factor=2.1)
    return write_bundle(
        folder / "wrong",
        deployment=bundle.deployment,
        artifact=bundle.artifact,
        proof=make_proof("affine"),
        golden=other.golden,
        tolerance=bundle.tolerance,
        baseline={},
        versions={},
    )


def test_a_model_that_answers_its_golden_samples_wrong_is_never_ready(tmp_path: Path) -> None:
    wrong = with_wrong_golden(tmp_path)
    table = bundle_table(tmp_path / "table")
    with running([wrong.path, table.path], is_ready=False) as server:
        status, answer, _ = server.ask("GET", "/v2/health/ready")
        assert (status, answer["ready"]) == (503, False)
        assert "first 'item-0': max_rel_diff 0.04" in answer["error"]
        assert server.ask("GET", "/v2/health/live")[0] == 200
        assert server.ask("GET", "/v2/models/affine/ready")[0] == 503
        status, answer, headers = server.ask("POST", "/v2/models/affine/infer", b"{}")
        assert (status, headers["retry-after"]) == (503, "1")
        assert "golden samples wrong" in answer["error"]
        assert server.ask("GET", "/v2/models/table/ready")[0] == 200, "the other model still serves"
        assert re.search(rb'ferryman_golden_ok\{model="affine",version="\w+"\} 0', server.ask("GET", "/metrics")[1])
        assert "golden samples wrong" in server.log()


def test_two_versions_of_a_model_answer_at_once_and_the_last_given_is_the_default(tmp_path: Path) -> None:
    old, new = bundle_affine(tmp_path / "old", factor=2), bundle_affine(tmp_path / "new", factor=3)
    request = {"inputs": [{"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}]}
    with running([old.path, new.path]) as server:
        old_version, new_version = (bundle.manifest.digest[:12] for bundle in (old, new))
        assert server.infer("affine", request)[1]["model_version"] == new_version
        answer = server.infer(f"affine/versions/{old_version}", request)[1]
        assert (answer["model_version"], answer["outputs"][0]["data"]) == (old_version, [3.0, 3.0, 3.0])
        assert server.ask("GET", "/v2/models/affine")[1]["versions"] == [new_version, old_version]


def test_a_port_in_use_is_a_users_error(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, words = refusal([bundle.path], port=port)
    assert code == 2
    assert f"can't listen on 127.0.0.1 port {port}: Address already in use" in words


@pytest.mark.parametrize("host", ["256.0.0.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours_is_a_users_error(tmp_path: Path, host: str) -> None:
    code, words = refusal([bundle_affine(tmp_path / "bundle").path], host=host)
    assert (code, "Traceback" in words) == (2, False)


def test_a_bundle_that_is_not_there_is_a_users_error(tmp_path: Path) -> None:
    code, words = refusal([tmp_path / "nothing"])
    assert (code, "Traceback" in words) == (2, False)
    assert f"there is nothing at {tmp_path / 'nothing'}" in words


def test_a_bundle_given_twice_is_a_users_error(tmp_path: Path) -> None:
    path = bundle_affine(tmp_path / "bundle").path
    code, words = refusal([path, path])
    assert code == 2
    assert "given twice" in words


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_stops_with_code_0(tmp_path: Path, number: signal.Signals) -> None:
    with running([bundle_affine(tmp_path / "bundle").path], unready_s=0) as server:
        server.process.send_signal(number)
        assert server.process.wait(10) == 0


def test_the_access_log_is_one_json_object_a_request(tmp_path: Path) -> None:
    with running([bundle_affine(tmp_path / "bundle").path], access_log="-") as server:
        server.ask("GET", "/v2?secret=1")
        wait_until(server.log)
        line = json.loads(server.log().splitlines()[-1])
        assert (line["method"], line["path"], line["status"]) == ("GET", "/v2", 200)


def test_a_full_queue_says_429_and_when_to_come_back(slow: Bundle) -> None:
    with running([slow.path], max_queue=2, threads=1) as server, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: server.ask("POST", SLOW_PATH, SLOW), range(48)))
        statuses = {status for status, _, _ in answers}
        assert statuses == {200, 429}
        refused = [headers for status, _, headers in answers if status == 429]
        assert {headers["retry-after"] for headers in refused} == {"1"}
        metrics = server.ask("GET", "/metrics")[1].decode()
        counted = re.findall(r'(?:reason|outcome)="overloaded"[^}]*} (\d+)', metrics)
        assert sum(map(int, counted)) == len(refused)
        assert server.ask("POST", SLOW_PATH, SLOW)[0] == 200


@dataclass
class Tally:
    """Count what became of a client's requests."""

    answered: int = 0
    not_accepted: int = 0
    lost: list[str] = field(default_factory=list)


def ask_until_told_to_leave(server: Running, tally: Tally) -> None:
    """Ask over one connection until the server closes it with an answer, or takes no new one."""
    connection = HTTPConnection(server.address, timeout=30)
    while True:
        try:
            connection.connect()
        except ConnectionRefusedError:
            tally.not_accepted += 1
            return
        while True:
            try:
                connection.request("POST", SLOW_PATH, SLOW)
                status, _, headers = read_answer(connection.getresponse())
            except Exception as error:  # noqa: BLE001 - whatever it is, the request is lost
                tally.lost.append(repr(error))
                return
            tally.answered += 1
            if status != 200:
                tally.lost.append(str(status))
            if headers.get("connection") == "close":
                connection.close()
                return


def test_sigterm_under_load_answers_every_request_that_was_accepted(slow: Bundle) -> None:
    with running([slow.path], unready_s=0.5, threads=1) as server:
        tallies = [Tally() for _ in range(12)]
        clients = [threading.Thread(target=ask_until_told_to_leave, args=(server, tally)) for tally in tallies]
        for client in clients:
            client.start()
        wait_until(lambda: all(tally.answered >= 2 for tally in tallies))
        server.process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(30)
        assert server.process.wait(30) == 0
        assert [tally.lost for tally in tallies if tally.lost] == []
        assert sum(tally.answered for tally in tallies) >= 24


def test_a_stopping_server_is_unready_at_once_and_finishes_what_it_began(slow: Bundle) -> None:
    with running([slow.path], unready_s=1.0, threads=1) as server, ThreadPoolExecutor(6) as pool:
        begun = [pool.submit(server.ask, "POST", SLOW_PATH, SLOW) for _ in range(6)]
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.ask("GET", "/v2/health/ready")[0] == 503, timeout_s=1)
        assert server.ask("GET", "/v2/health/ready")[1]["error"] == "the server is stopping"
        assert [future.result(30)[0] for future in begun] == [200] * 6
        assert server.process.wait(30) == 0


def test_a_second_signal_ends_at_once(slow: Bundle) -> None:
    with running([slow.path], unready_s=30) as server:
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.ask("GET", "/v2/health/ready")[0] == 503)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


def test_who_still_waits_at_the_drain_deadline_is_told_so(tmp_path: Path) -> None:
    item = {"values": np.ones((1, 1), np.float32)}
    model = make_slow_model(tmp_path, size=1500)
    bundle = bundle_model(tmp_path / "bundle", model, {"kind": "tensor"}, [item], name="slow")
    with running([bundle.path], unready_s=0, drain_s=1, threads=1) as server, ThreadPoolExecutor(30) as pool:
        begun = [pool.submit(server.ask, "POST", SLOW_PATH, SLOW) for _ in range(30)]
        wait_until(lambda: any(future.done() for future in begun))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0
        answers = [future.result(10) for future in begun]
        assert {status for status, _, _ in answers} == {200, 503}
        given_up = next(answer for status, answer, _ in answers if status == 503)
        assert "stopped before the answer" in given_up["error"]


def test_a_model_that_the_engine_refuses_leaves_the_server_unready_with_the_reason(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "right")
    broken = make_affine(tmp_path / "broken")
    broken.write_bytes(b"not a model")
    artifact = make_broken(bundle, broken)
    with running([artifact.path], is_ready=False) as server:
        status, answer, _ = server.ask("GET", "/v2/health/ready")
        assert status == 503
        assert "ONNX Runtime refuses" in answer["error"]


def make_broken(bundle: Bundle, model: Path) -> Bundle:
    return write_bundle(
        model.parent / "bundle",
        deployment=bundle.deployment,
        artifact=replace(bundle.artifact, path=model, digest=digest_path(model)),
        proof=make_proof("affine"),
        golden=bundle.golden,
        tolerance=bundle.tolerance,
        baseline={},
        versions={},
    )


@pytest.mark.slow
def test_health_is_answered_while_a_large_request_is_read_and_written(tmp_path: Path) -> None:
    rows = 400_000
    inputs = {"name": "values", "shape": [rows, 3], "datatype": "FP32", "data": [0.123456] * (3 * rows)}
    body = json.dumps({"inputs": [inputs]}).encode()
    head = {"Content-Type": "application/json"}
    with running([bundle_affine(tmp_path / "bundle").path]) as server, ThreadPoolExecutor(1) as pool:

        def ask_at_length() -> tuple[int, float]:
            connection = HTTPConnection(server.address, timeout=60)
            started_s = time.perf_counter()
            connection.request("POST", "/v2/models/affine/infer", body, head)
            response = connection.getresponse()
            response.read()
            connection.close()
            return response.status, time.perf_counter() - started_s

        large = pool.submit(ask_at_length)
        probes_s = []
        while not large.done():
            started_s = time.perf_counter()
            assert server.ask("GET", "/v2/health/live")[0] == 200
            probes_s.append(time.perf_counter() - started_s)
        status, took_s = large.result()
        assert status == 200
        assert max(probes_s) < max(took_s / 3, 0.2), "nothing holds the loop for the length of a request"

"""Frames over a WebSocket: answered in order, dropped only where that was asked for, and never without a word."""

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.bundle.making import plain_picture
from tests.server.misbehaving import ANSWER, SLEEP, bundle_misbehaving, with_plugin
from tests.server.running import Running, running, wait_until

COLOURS = {"blue": (250, 10, 10), "green": (10, 240, 20), "red": (20, 10, 245)}
BUSY_S = 0.05  # what a frame takes where the stream has to wait


@contextmanager
def talking(server: Running, model: str, query: str = "") -> Iterator[ClientConnection]:
    host, port = server.host_and_port
    url = f"ws://{host}:{port}/v2/models/{model}/stream{query}"
    with connect(url, compression=None, proxy=None, max_size=None, close_timeout=5) as client:
        yield client


def told(client: ClientConnection) -> dict[str, Any]:  # JSON
    answer: dict[str, Any] = json.loads(client.recv(timeout=20))
    return answer


def order(code: int, argument: float) -> str:
    tensor = {"name": "order", "datatype": "FP32", "shape": [1, 2], "data": [code, argument]}
    return json.dumps({"inputs": [tensor]})


def affine(value: float, **more: Any) -> str:
    tensor = {"name": "values", "datatype": "FP32", "shape": [1, 3], "data": [value] * 3}
    return json.dumps({"inputs": [tensor], **more})


def figure(server: Running, name: str) -> float:
    text = server.ask("GET", "/metrics")[1].decode()
    found = re.findall(rf"^{re.escape(name)}{{.*}} (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a bundle whose answers take as long as they are told to."""
    with_plugin(monkeypatch)
    return bundle_misbehaving(tmp_path / "slow", name="slow").path


def test_pictures_are_answered_in_their_order(server: Running) -> None:
    wanted = ["blue", "green", "red", "green", "blue"] * 8
    with talking(server, "colour") as client:
        for colour in wanted:
            client.send(plain_picture(*COLOURS[colour], suffix=".jpg"))
        answers = [told(client) for _ in wanted]
    assert [answer["frame"] for answer in answers] == list(range(len(wanted)))
    assert [answer["answers"][0]["labels"][0] for answer in answers] == wanted
    assert {answer["dropped"] for answer in answers} == {0}


def test_text_frames_are_what_a_request_takes(server: Running) -> None:
    version = server.infer("affine", affine(1).encode())[1]["model_version"]
    with talking(server, f"affine/versions/{version}") as client:
        client.send(affine(1, id="one"))
        client.send(affine(2, id="two"))
        first, second = told(client), told(client)
    assert (first["id"], first["model_version"], first["outputs"][0]["data"]) == ("one", version, [3.0] * 3)
    assert (second["id"], second["frame"], second["outputs"][0]["data"]) == ("two", 1, [5.0] * 3)


def test_rows_are_frames_too(server: Running) -> None:
    with talking(server, "table") as client:
        client.send(json.dumps({"rows": [{"width": 1, "height": 2, "weight": 3}]}))
        assert told(client)["answers"][0]["label"] == "heavy"


def test_a_frame_that_is_wrong_is_told_so_and_the_next_is_answered(server: Running) -> None:
    wrong: list[str | bytes] = [
        b"no picture",
        "{",
        json.dumps({"rows": [{}]}),
        "[]",
        json.dumps({"inputs": [], "outputs": 7}),
    ]
    with talking(server, "colour") as client:
        for frame in wrong:
            client.send(frame)
        client.send(plain_picture(*COLOURS["red"]))
        answers = [told(client) for _ in range(len(wrong) + 1)]
    assert [answer.get("status") for answer in answers] == [400] * len(wrong) + [None]
    assert all(answer["error"] for answer in answers[:-1])
    assert [answer["frame"] for answer in answers] == list(range(len(wrong) + 1))
    assert answers[-1]["answers"][0]["labels"][0] == "red"


def test_every_frame_is_answered_while_the_model_is_busy(slow: Path) -> None:
    with running([slow]) as server, talking(server, "slow") as client:
        for place in range(30):
            client.send(order(SLEEP if place % 10 == 0 else ANSWER, BUSY_S if place % 10 == 0 else place))
        answers = [told(client) for _ in range(30)]
        assert [answer["frame"] for answer in answers] == list(range(30))
        assert {answer["dropped"] for answer in answers} == {0}
        data = [answer["outputs"][0]["data"][1] for answer in answers]
        wanted = [np.float32(1 + (BUSY_S if place % 10 == 0 else place)) for place in range(30)]
        assert np.array_equal(np.array(data, np.float32), np.array(wanted, np.float32))


def test_the_latest_policy_drops_what_is_old_and_counts_it(slow: Path) -> None:
    with running([slow], processes=1, instances=1) as server, talking(server, "slow", "?policy=latest") as client:
        for place in range(40):
            client.send(order(SLEEP, BUSY_S + place / 1e4))
        answers = [told(client)]
        while answers[-1]["frame"] < 39:
            answers.append(told(client))
        frames = [answer["frame"] for answer in answers]
        assert frames == sorted(set(frames))
        assert len(frames) < 40
        assert answers[-1]["dropped"] == 40 - len(frames), "what was neither answered nor dropped is lost"
        assert [answer["outputs"][0]["data"][1] for answer in answers] == pytest.approx(
            [1 + BUSY_S + frame / 1e4 for frame in frames], abs=1e-5
        )


def test_a_policy_that_nobody_knows_is_refused_before_the_stream_begins(server: Running) -> None:
    for model, query, status in (("colour", "?policy=some", 400), ("nobody", "", 404)):
        with pytest.raises(InvalidStatus) as refused, talking(server, model, query):
            pass
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body or b"{}")["error"]


def test_a_get_that_is_no_websocket_is_told_what_is_here(server: Running) -> None:
    status, answer, headers = server.ask("GET", "/v2/models/colour/stream")
    assert (status, headers["upgrade"]) == (426, "websocket")
    assert "WebSocket" in answer["error"]


def test_a_server_that_stops_answers_what_it_has_and_says_goodbye(slow: Path) -> None:
    with running([slow], unready_s=0.2) as server, talking(server, "slow") as client:
        client.send(order(ANSWER, 1))
        assert told(client)["frame"] == 0
        client.send(order(SLEEP, 1.0))
        wait_until(lambda: figure(server, "ferryman_in_flight") == 1)
        server.process.send_signal(signal.SIGTERM)
        assert told(client)["frame"] == 1, "what was in work is answered"
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert server.process.wait(20) == 0


def test_a_client_that_leaves_gives_up_its_frames(slow: Path) -> None:
    with running([slow], processes=1, instances=1) as server:
        with talking(server, "slow") as client:
            client.send(order(SLEEP, 0.2))
            for _ in range(50):
                client.send(order(SLEEP, 0.5))
            wait_until(lambda: figure(server, "ferryman_in_flight") > 0)
            client.socket.close()  # without a word
        with talking(server, "slow") as other:
            other.send(order(ANSWER, 3))
            assert told(other)["outputs"][0]["data"] == [1.0, 4.0]
        wait_until(lambda: figure(server, "ferryman_waiting") == 0)


def test_frames_are_counted_with_their_outcome(server: Running) -> None:
    def frames(outcome: str) -> float:
        text = server.ask("GET", "/metrics")[1].decode()
        pattern = rf'^ferryman_requests_total{{model="affine".*outcome="{outcome}",protocol="websocket"}} (\S+)$'
        return sum(map(float, re.findall(pattern, text, re.MULTILINE)))

    answered, invalid = frames("ok"), frames("invalid")
    with talking(server, "affine") as client:
        client.send(affine(1))
        client.send("{")
        client.send(affine(1).replace("values", "others"))
        assert [told(client).get("status") for _ in range(3)] == [None, 400, 400]
    assert (frames("ok") - answered, frames("invalid") - invalid) == (1, 2)

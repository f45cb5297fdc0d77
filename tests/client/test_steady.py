"""A client of several addresses goes on where one gives no answer, and asks nothing twice that was answered."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from ferryman.client.steady import SteadyClient
from ferryman.core.errors import ConfigError, FerrymanError, InputError, NotReady
from tests.bundle.making import bundle_affine
from tests.server.running import running

_NOWHERE = "http://127.0.0.1:9"
_JSON, _TEXT = "application/json", "text/plain"


@contextmanager
def stand_in(answers: list[tuple[int, str]]) -> Iterator[tuple[str, list[str]]]:
    """Be what stands before a server: give these answers (status, content type), the last one for ever."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, kind = answers[min(len(asked), len(answers)) - 1]
            body = json.dumps({"error": "told"} if status != 200 else {"name": "it"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_no_answer_is_lost_when_one_of_two_servers_is_killed(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    values = np.array([[1, 2, 3]], np.float32)
    with running([bundle.path]) as one, running([bundle.path]) as other:
        client = SteadyClient([one.url, other.url], patience_s=20)
        with client:
            for count in range(60):
                if count == 20:
                    one.process.send_signal(signal.SIGKILL)
                    one.process.wait(20)
                if count == 21:  # whichever it asked until now
                    client._links._turn = 0
                assert client.infer_tensors("affine", {"values": values})["sum"].tolist() == [[3, 5, 7]]
        assert client.retries >= 1


@pytest.mark.parametrize("passing", [(503, _JSON), (429, _JSON), (502, _TEXT), (500, _TEXT)])
def test_what_may_pass_is_asked_again(passing: tuple[int, str]) -> None:
    with stand_in([passing, passing, (200, _JSON)]) as (url, asked), SteadyClient([url]) as client:
        assert client.metadata() == {"name": "it"}
    assert len(asked) == 3


@pytest.mark.parametrize(("lasting", "error"), [((400, _JSON), InputError), ((500, _JSON), FerrymanError)])
def test_what_the_server_itself_says_is_asked_once(lasting: tuple[int, str], error: type[FerrymanError]) -> None:
    with stand_in([lasting]) as (url, asked), SteadyClient([url]) as client, pytest.raises(error, match="told"):
        client.metadata()
    assert len(asked) == 1


def test_patience_ends_with_the_last_reason() -> None:
    begun = time.monotonic()
    with SteadyClient([_NOWHERE, _NOWHERE], patience_s=0.3) as client, pytest.raises(NotReady, match="nobody listens"):
        client.metadata()
    assert time.monotonic() - begun < 5
    with stand_in([(503, _JSON)]) as (url, asked), SteadyClient([url], patience_s=0.3) as client:
        with pytest.raises(NotReady, match="told"):
            client.metadata()
        assert len(asked) > 1


def test_no_address_is_a_users_error() -> None:
    with pytest.raises(ConfigError, match="no address"):
        SteadyClient([])

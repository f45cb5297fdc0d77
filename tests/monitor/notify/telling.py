"""Notices to send, and real places that take them."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ferryman.core.receivers import Severity
from ferryman.monitor.alerts.alert import Alert, Notice, State, notice_id

BEGIN_S = 1_770_000_000.0


def alert(rule: str = "golden", state: State = "firing", *, model: str = "street", episode: int = 1) -> Alert:
    """Give an alert that fires, or is over."""
    severity: Severity = "critical"
    return Alert(
        rule, model, "1", severity, state, f"{model} 1: golden samples are answered wrong",
        "More of it <here> & there.", 0.0, 1.0, BEGIN_S, BEGIN_S + 600 if state == "resolved" else None, episode,
    )  # fmt: skip


def notice(number: int = 1, *alerts: Alert, receiver: str = "ops", group: str = "model=street") -> Notice:
    """Give a notice; another number is another id."""
    told = alerts or (alert(),)
    name = notice_id(receiver, group, number, told)
    return Notice(name, receiver, group, BEGIN_S + number, told, labels={"model": "street"})


class Place:
    """Be an HTTP receiver: `asked` holds path, headers and body of each request; `answers` gives the statuses."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.drips_s = 0.0
        self.url = ""

    @property
    def ids(self) -> list[str]:
        """Give the ids of notices that came and were taken."""
        return [headers["idempotency-key"] for _, headers, _ in self.asked]


class _Handler(BaseHTTPRequestHandler):
    place: Place

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        place = self.place
        if place.status < 300:
            headers = {key.lower(): value for key, value in self.headers.items()}
            place.asked.append((self.path, headers, json.loads(body)))
        until_s = time.monotonic() + place.drips_s
        while time.monotonic() < until_s:
            self.wfile.write(b"H")
            time.sleep(0.05)
        self.send_response(place.status)
        for key, value in place.headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def receiving(port: int = 0) -> Iterator[Place]:
    """Run a receiver, on a free port."""
    place = Place()
    server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"place": place}))
    server.daemon_threads = True
    place.url = f"http://127.0.0.1:{server.server_port}/hook?key=s3cret"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield place
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

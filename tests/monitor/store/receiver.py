"""A real HTTP server that takes CloudEvents, and fails as it is told to."""

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson


@dataclass
class Receiver:
    """Hold what came in: each event as JSON. `statuses` are answered first, one a request; then 202."""

    port: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    refuses: str = ""
    server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events?of=us"

    @property
    def ids(self) -> list[str]:
        return [event["data"]["id"] for event in self.events]

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.take({name.lower(): value for name, value in self.headers.items()}, body)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_told: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def take(self, headers: dict[str, str], body: bytes) -> int:
        self.requests.append(headers)
        if self.statuses:
            return self.statuses.pop(0)
        if self.refuses and self.refuses.encode() in body:
            return 400
        told = orjson.loads(body)
        if "ce-id" in headers:
            fields = {name.removeprefix("ce-"): value for name, value in headers.items() if name.startswith("ce-")}
            self.events.append({**fields, "data": told})
        else:
            self.events.extend(told if isinstance(told, list) else [told])
        return 202

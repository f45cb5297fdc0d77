"""A V2 server that others could have written: standard library only, JSON only, values -> values * 2 + 1.

`--fault NAME` makes it break one promise.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = (
    "", "wrong", "drifts", "slow", "late", "writes", "deaf", "drops", "dies", "careless", "greedy", "broken", "mute",
)  # fmt: skip
MODEL = {
    "name": "affine",
    "versions": ["1"],
    "platform": "python",
    "inputs": [{"name": "values", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "sum", "datatype": "FP32", "shape": [-1, 3]}],
}
DRIFT = 4.0 ** (int(2 * time.time()) % 60)  # another magnitude at each start, whatever tolerance there is


class Bad(Exception):
    """Refuse a request."""


class Server(ThreadingHTTPServer):
    """Answer each connection in a thread; count what runs, so that stopping can wait for it."""

    daemon_threads = True
    request_queue_size = 256
    fault = ""
    is_stopping = False
    running = 0
    lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """Speak the protocol's core."""

    protocol_version = "HTTP/1.1"
    timeout = 3
    disable_nagle_algorithm = True
    server: Server

    def do_GET(self) -> None:
        """Answer the questions about health and metadata."""
        known = {
            "/v2": {"name": "foreign", "version": "1", "extensions": []},
            "/v2/health/live": {},
            "/v2/health/ready": {},
            "/v2/models/affine": MODEL,
            "/v2/models/affine/versions/1": MODEL,
            "/v2/models/affine/ready": {},
            "/v2/models/affine/versions/1/ready": {},
        }
        if self.path.endswith("/ready") and self.server.is_stopping:
            self.reply(503, {"error": "stopping"})
        elif self.path in known:
            self.reply(200, known[self.path])
        else:
            self.reply(404, {"error": f"no {self.path}"})

    def __getattr__(self, name: str) -> Any:
        """Refuse methods that the protocol has not."""
        if name.startswith("do_"):
            return lambda: self.reply(405, {"error": "no such method"})
        raise AttributeError(name)

    def do_POST(self) -> None:
        """Answer inference."""
        with self.server.lock:
            self.server.running += 1
        try:
            status, answer = self.infer()
            self.reply(status, answer)
        finally:
            with self.server.lock:
                self.server.running -= 1

    def infer(self) -> tuple[int, Any]:
        """Give status and answer."""
        if self.path not in ("/v2/models/affine/infer", "/v2/models/affine/versions/1/infer"):
            return 404, {"error": f"no {self.path}"}
        try:
            length = int(self.headers.get("Content-Length", ""))
            if not 0 <= length < 1_000_000:
                raise Bad("too long")
            body = self.rfile.read(length)
            if "Inference-Header-Content-Length" in self.headers:
                raise Bad("no binary tensors here")
            return 200, self.compute(json.loads(body))
        except (Bad, ValueError, KeyError, TypeError, RecursionError) as error:
            self.close_connection = True
            if self.server.fault == "dies":
                os._exit(9)
            return (500 if self.server.fault == "careless" else 400), {"error": repr(error)[:200]}

    def compute(self, request: dict[str, Any]) -> dict[str, Any]:
        """Give values * 2 + 1, or what the fault makes of it."""
        tensor = request["inputs"][0]
        if tensor["name"] != "values" or tensor["datatype"] != "FP32" or len(request["inputs"]) != 1:
            raise Bad("unknown input")
        rows, columns = tensor["shape"]
        values = [float(value) for value in flat(tensor["data"])]
        if columns != 3 or rows * columns != len(values) or rows < 1:
            raise Bad("wrong shape")
        fault = self.server.fault
        if fault == "slow":
            time.sleep(0.2)
        if fault == "greedy":
            HOARD.append(bytearray(os.urandom(1)) * 8_000_000)
        extra = {"wrong": 0.5, "drifts": DRIFT}.get(fault, 0.0)
        output = {"name": "sum", "datatype": "FP32", "shape": [rows, 3], "data": [2 * v + 1 + extra for v in values]}
        if fault == "broken":
            output["shape"] = [rows]
        wanted = request.get("outputs")
        if wanted is not None and any(one["name"] != "sum" for one in wanted):
            raise Bad("unknown output")
        answer = {"model_name": "affine", "model_version": "1", "outputs": [output]}
        if "id" in request:
            answer["id"] = request["id"]
        return answer

    def reply(self, status: int, answer: Any) -> None:
        """Send JSON."""
        payload = json.dumps(answer).encode()
        if self.server.is_stopping:
            self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


HOARD: list[bytearray] = []


def flat(values: Any) -> list[Any]:
    return [inner for value in values for inner in flat(value)] if isinstance(values, list) else [values]


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fault", choices=FAULTS, default="")
    parser.add_argument("--health", action="store_true")
    chosen = parser.parse_args()
    port = int(os.environ.get("PORT", "8080"))
    if chosen.health:
        import http.client

        link = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        link.request("GET", "/v2/health/ready")
        sys.exit(link.getresponse().status != 200)
    if chosen.fault == "mute":
        sys.exit("no licence found")
    if chosen.fault == "writes":
        with open("/tmp/cache", "w", encoding="utf-8") as file:
            file.write("state")
    if chosen.fault == "late":
        time.sleep(1.5)
    server = Server(("0.0.0.0", port), Handler)
    server.fault = chosen.fault

    def stop(*_: Any) -> None:
        if server.fault == "drops":
            os._exit(0)
        server.is_stopping = True
        threading.Thread(target=drain, args=(server,)).start()

    signal.signal(signal.SIGTERM, signal.SIG_IGN if chosen.fault == "deaf" else stop)
    server.serve_forever(poll_interval=0.05)


def drain(server: Server) -> None:
    """Let load balancers see that it is unready, then finish what runs."""
    time.sleep(0.4)
    server.shutdown()
    deadline = time.monotonic() + 5
    while server.running and time.monotonic() < deadline:
        time.sleep(0.01)
    server.server_close()
    os._exit(0)


main()

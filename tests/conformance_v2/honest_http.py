"""A small honest V2 server over HTTP, which lies in one chosen way where a test asks for it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from tests.conformance_v2.model import METADATA, NAME, VERSION, Wrong, answer, need

FACTS = {"name": "honest", "version": "1", "extensions": ["binary_tensor_data"]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lie = ""

    def do_GET(self) -> None:
        path = self.path.removeprefix("/v2")
        model = f"/models/{NAME}"
        known: dict[str, Any] = {"": FACTS, "/health/live": {"live": True}, "/health/ready": {"ready": True}}
        for address in (model, f"{model}/versions/{VERSION}"):
            known |= {address: METADATA, f"{address}/ready": {"name": NAME, "ready": True}}
        if path in known:
            self._send(200, known[path])
        else:
            self._send(500 if self.lie == "unknown is 500" else 404, {"error": f"nothing at {path}"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v2/repository/index":
            self._send(200, [{"name": NAME, "version": VERSION, "state": "READY"}])
        elif self.path not in (f"/v2/models/{NAME}/infer", f"/v2/models/{NAME}/versions/{VERSION}/infer"):
            self._send(404, {"error": "no such model"})
        elif self.headers.get("Content-Encoding"):
            self._send(415, {"error": "not compressed, please"})
        else:
            self._infer(body)

    def _infer(self, body: bytes) -> None:
        try:
            need(self.headers.get("Inference-Header-Content-Length", "0").isdigit(), "no length")
            split = int(self.headers.get("Inference-Header-Content-Length", len(body)))
            need(split <= len(body), "the length is too long")
            payload, raw = body[split:], json.loads(body[:split])
            need(isinstance(raw, dict) and isinstance(raw.get("inputs"), list), "no inputs")
            entry = raw["inputs"][0]
            need(all(key in entry for key in ("name", "shape", "datatype")), "an input lacks a key")
            total = answer(entry["name"], entry["datatype"], entry["shape"], self._values(entry, payload))
            self._answer(raw, total)
        except (Wrong, ValueError) as error:
            self._send(200 if self.lie == "errors are 200" else 400, {"error": str(error)})

    def _values(self, entry: dict[str, Any], payload: bytes) -> Any:  # an array
        size = entry.get("parameters", {}).get("binary_data_size")
        if size is None:
            need(isinstance(entry.get("data"), list), "no data")
            return np.array(entry["data"])
        need(size == len(payload) and size % 4 == 0, "bytes are missing or left")
        return np.frombuffer(payload, "<f4")

    def _answer(self, raw: dict[str, Any], total: Any) -> None:  # an array
        if self.lie == "wrong over binary" and "Inference-Header-Content-Length" in self.headers:
            total = total + 1
        wish: dict[str, Any] = {"name": "total"} if not raw.get("outputs") else raw["outputs"][0]
        need(wish["name"] == "total", "no such output")
        default = raw.get("parameters", {}).get("binary_data_output", False)
        is_binary = wish.get("parameters", {}).get("binary_data", default)
        output: dict[str, Any] = {"name": "total", "datatype": "FP32", "shape": list(total.shape)}
        answered: dict[str, Any] = {"model_name": NAME, "model_version": VERSION, "outputs": [output]}
        if "id" in raw and self.lie != "no id":
            answered["id"] = raw["id"]
        if self.lie == "shape":
            output["shape"] = [total.size]
        blob = total.astype("<f4").tobytes()
        if is_binary:
            output["parameters"] = {"binary_data_size": len(blob)}
        else:
            output["data"] = total.ravel().tolist()
        self._send(200, answered, blob if is_binary else b"")

    def _send(self, status: int, value: Any, blob: bytes = b"") -> None:  # JSON
        head = json.dumps(value).encode()
        if status == 400 and self.lie == "errors are bare":
            head = b"bad request"
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if blob else "application/json")
        self.send_header("Content-Length", str(len(head) + len(blob)))
        if blob:
            self.send_header("Inference-Header-Content-Length", str(len(head)))
        self.end_headers()
        self.wfile.write(head + blob)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def honest_http(lie: str = "") -> Iterator[str]:
    """Give the URL of a server that is honest but for one lie."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Liar", (Handler,), {"lie": lie}))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

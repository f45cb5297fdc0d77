"""Look at a running pipeline: live pictures with boxes, health and metrics over HTTP."""

import json
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from ferryman.core.errors import ConfigError
from ferryman.core.task import TaskSpec
from ferryman.tasks.draw import draw
from ferryman.vision.metrics import render
from ferryman.vision.page import page
from ferryman.vision.pipeline import Pipeline, Seen

_BOUNDARY = "frame"
_WAIT_S = 5.0
_MOST_WATCHERS = 16


class Latest:
    """Hold the last that each camera has seen, for whoever looks."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._seen: dict[str, Seen] = {}

    def put(self, seen: Seen) -> None:
        """Take what a camera has seen now."""
        with self._change:
            self._seen[seen.camera] = seen
            self._change.notify_all()

    def after(self, camera: str, number: int) -> Seen | None:
        """Wait for a frame newer than `number`; None where none comes in time."""
        with self._change:
            self._change.wait_for(lambda: self._number(camera) > number, _WAIT_S)
            return self._seen.get(camera) if self._number(camera) > number else None

    def _number(self, camera: str) -> int:
        seen = self._seen.get(camera)
        return -1 if seen is None else seen.frame.number


def standing(pipeline: Pipeline, now_s: float) -> dict[str, Any]:  # JSON
    """Give each camera's state and figures."""
    cameras = {}
    for name, health in pipeline.health.items():
        figures = pipeline.figures.cameras[name]
        cameras[name] = {
            "state": health.state, "error": health.error, "frames": health.frames, "answered": figures.answered,
            "failed": figures.failed, "dropped": pipeline.dropped(name), "losses": health.losses,
            "damaged": health.damaged, "fps": round(figures.fps(now_s), 1), "camera_fps": round(health.fps, 2),
            "age_p50_ms": _rounded(figures.age_ms(0.5)), "age_p99_ms": _rounded(figures.age_ms(0.99)),
        }  # fmt: skip
    return {"well": pipeline.is_well, "cameras": cameras}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


class View:
    """Serve the page, pictures, health and metrics of a pipeline."""

    def __init__(self, pipeline: Pipeline, latest: Latest, task: TaskSpec, *, host: str, port: int) -> None:
        """Listen; raises ConfigError where the port can't be had."""
        shared = {
            "pipeline": pipeline,
            "latest": latest,
            "task": task,
            "watchers": threading.BoundedSemaphore(_MOST_WATCHERS),
        }
        handler = type("Handler", (_Handler,), shared)
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise ConfigError(
                f"can't listen on {host}:{port}: {error.strerror}", hint="choose another --port"
            ) from None
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="view", daemon=True)

    def __enter__(self) -> "View":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    pipeline: Pipeline
    latest: Latest
    task: TaskSpec
    watchers: threading.BoundedSemaphore
    timeout = 30.0

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        parts = path.strip("/").split("/")
        if path == "/":
            self._answer("text/html; charset=utf-8", page(list(self.pipeline.health)).encode())
        elif path == "/metrics":
            self._answer("text/plain; version=0.0.4; charset=utf-8", render(self.pipeline))
        elif path == "/health":
            is_well = self.pipeline.is_well
            self._answer("application/json", b'{"well": %s}' % (b"true" if is_well else b"false"), is_well=is_well)
        elif path == "/v1/cameras":
            self._answer("application/json", json.dumps(standing(self.pipeline, time.monotonic())).encode())
        elif len(parts) == 4 and parts[:2] == ["v1", "cameras"] and parts[2] in self.pipeline.health:
            self._picture(parts[2], parts[3])
        else:
            self.send_error(HTTPStatus.NOT_FOUND, "there are /, /health, /metrics, /v1/cameras")

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: a watched picture is no news."""

    def _answer(self, kind: str, body: bytes, *, is_well: bool = True) -> None:
        self.send_response(HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def _picture(self, camera: str, what: str) -> None:
        if what == "picture.jpg":
            content = self._next(camera, -1)[0]
            if content is None:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "the camera has given no frame yet")
            else:
                self._answer("image/jpeg", content)
        elif what != "stream.mjpeg":
            self.send_error(HTTPStatus.NOT_FOUND, "there are picture.jpg and stream.mjpeg")
        elif not self.watchers.acquire(blocking=False):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_WATCHERS} look already")
        else:
            try:
                self._stream(camera)
            except OSError:
                self.close_connection = True  # whoever looked has gone
            finally:
                self.watchers.release()

    def _stream(self, camera: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        number = -1
        while True:
            content, number = self._next(camera, number)
            if content is None and self.pipeline.health[camera].state in ("ended", "failed"):
                return
            if content is not None:
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
                self.wfile.write(head.encode() + content + b"\r\n")

    def _next(self, camera: str, number: int) -> tuple[bytes | None, int]:
        """Give the next picture with what was seen in it, as JPEG, and its number."""
        import cv2

        seen = self.latest.after(camera, number)
        if seen is None:
            return None, number
        picture = draw(self.task, seen.frame.picture, seen.answer)
        is_done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
        return (encoded.tobytes() if is_done else None), seen.frame.number

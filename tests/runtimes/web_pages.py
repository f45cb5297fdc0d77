"""Serve a folder as any static file server does, open its page in a real Chromium, and ask its model."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ferryman.core.signature import Signature
from ferryman.core.task import TaskSpec
from ferryman.tasks.javascript.module import render_page
from ferryman.tasks.picture import Picture
from tests.server.browsing import Page, browsing


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args: Any) -> None:
        """Say nothing."""


class ModelPage:
    """Be an open page with a model in it."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self._folder = folder

    def ask(self, picture: Picture) -> dict[str, Any]:
        """Give {answer, ms: {prepare, model, finish}} of the page's own code, for decoded pixels."""
        height, width = picture.shape[:2]
        np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGBA)).tofile(self._folder / "pixels.rgba")
        script = (
            "(async () => { const { ask } = await import('./page.js');"
            "const read = await fetch('pixels.rgba', { cache: 'no-store' });"
            "const data = new Uint8ClampedArray(await read.arrayBuffer());"
            f"return ask({{ data, width: {width}, height: {height} }});"
            "})()"
        )
        told: dict[str, Any] = self.page.run(script)
        return told


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of this machine; gives its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()


@contextmanager
def opened(model: Path, spec: TaskSpec, signature: Signature) -> Iterator[ModelPage]:
    """Write the page beside a packed model's folder, and open it; gives it when its model is loaded."""
    assert model.name == "model"
    for name, text in render_page(spec, signature, title="A model of a test").items():
        (model.parent / name).write_text(text, encoding="utf-8")
    with served(model.parent) as url, browsing() as page:
        page.open(url)
        page.until("!document.getElementById('status').textContent.startsWith('Loading')")
        assert page.text("status") == "Ready.", (page.text("status"), page.faults)
        yield ModelPage(page, model.parent)


def assert_same_boxes(wanted: Mapping[str, Any], got: Mapping[str, Any], *, least: float = 0.25) -> None:
    """Hold two answers to equal classes, scores within 1e-3 and IoU >= 0.99, of boxes from a score on."""
    from ferryman.tasks.boxes import iou, match
    from ferryman.tasks.detections import to_boxes

    before, after = to_boxes(dict(wanted)), to_boxes(dict(got))
    pairs = match(before, after, overlap=0.99)
    shown = set(np.flatnonzero(before.scores >= least + 1e-3).tolist())
    assert shown <= set(pairs[:, 0].tolist()), "a box has no partner"
    assert set(np.flatnonzero(after.scores >= least + 1e-3).tolist()) <= set(pairs[:, 1].tolist()), "a box too many"
    for one, other in pairs:
        if before.scores[one] >= least:
            assert abs(before.scores[one] - after.scores[other]) <= 1e-3
            assert iou(before.corners[[one]], after.corners[[other]])[0, 0] >= 0.99

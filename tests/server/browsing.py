"""Drive a real Chromium, headless, over its own protocol."""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.sync.client import ClientConnection, connect

_DEADLINE_S = 30.0


class Page:
    """Be one open page."""

    def __init__(self, socket: ClientConnection) -> None:
        self.faults: list[Any] = []  # what the page's console was told
        self._socket = socket
        self._asked = 0
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:  # JSON
        """Send one command and give its result."""
        self._asked += 1
        self._socket.send(json.dumps({"id": self._asked, "method": method, "params": parameters}))
        while True:
            told = json.loads(self._socket.recv(timeout=_DEADLINE_S))
            if told.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.faults.append(told["params"])
            if told.get("id") == self._asked:
                assert "error" not in told, told
                return told["result"]

    def open(self, url: str) -> None:
        """Go to a page."""
        self.ask("Page.navigate", url=url)
        self.until(f"location.href.startsWith('{url}') && document.readyState === 'complete'")

    def run(self, script: str) -> Any:  # JSON
        """Give what a line of JavaScript gives."""
        told = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def text(self, element: str) -> str:
        """Give an element's text, by its id."""
        return str(self.run(f"document.getElementById('{element}')?.textContent ?? ''"))

    def until(self, condition: str) -> None:
        """Wait until a line of JavaScript is true."""
        deadline_s = time.monotonic() + _DEADLINE_S
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline_s, f"waited too long for {condition}"
            time.sleep(0.02)

    def choose_file(self, element: str, path: Path) -> None:
        """Choose a file in a field, by its id."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=f"#{element}")["nodeId"]
        self.ask("DOM.setFileInputFiles", files=[str(path)], nodeId=node)


@contextmanager
def browsing(*, width: int = 1280, height: int = 900) -> Iterator[Page]:
    """Have a browser with one page; skips the test where none is installed."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("NOT TESTED: chromium is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0")
        process = subprocess.Popen(
            [program, *flags, f"--user-data-dir={profile}", "about:blank"], stderr=subprocess.PIPE, text=True
        )
        try:
            lines = process.stderr or ()
            port = next(line for line in lines if "DevTools listening on" in line).split(":")[2].split("/")[0]
            with connect(_page_of(port), max_size=None) as socket:
                page = Page(socket)
                size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
                page.ask("Emulation.setDeviceMetricsOverride", **size)
                yield page
        finally:
            process.kill()
            process.communicate(timeout=10)


def _page_of(port: str) -> str:
    deadline_s = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline_s:
        with urlopen(f"http://127.0.0.1:{port}/json", timeout=_DEADLINE_S) as answer:
            for tab in json.load(answer):
                if tab["type"] == "page":
                    return str(tab["webSocketDebuggerUrl"])
        time.sleep(0.02)
    raise AssertionError("the browser has no page")

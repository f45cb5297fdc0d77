"""The page for people: a model can be asked from the browser, and the same from a terminal."""

import json
import subprocess
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from ferryman.server.data.gate.key_file import KeyFile, write_keys
from ferryman.server.data.gate.keys import Wish, add
from tests.bundle.making import plain_picture
from tests.server.browsing import Page, browsing
from tests.server.running import Running, running


def _choose(page: Page, model: str) -> None:
    page.until("!document.getElementById('open').hidden")
    page.run(f"document.getElementById('model').value = '{model}'; document.getElementById('model').onchange()")


def _send(page: Page) -> str:
    page.run("document.getElementById('status').textContent = ''; document.getElementById('send').click()")
    page.until("document.getElementById('status').textContent.endsWith('ms')")
    return page.text("status")


def test_the_page_may_run_its_own_script_alone_and_talk_to_this_server_alone(server: Running) -> None:
    _, page, headers = server.ask("GET", "/docs")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "connect-src 'self'" in policy
    for kind in ("script", "style"):
        inner = page.decode().partition(f"<{kind}>")[2].partition(f"</{kind}>")[0]
        assert f"{kind}-src 'sha256-{b64encode(sha256(inner.encode()).digest()).decode()}'" in policy


def test_rows_are_sent_from_the_browser_and_the_same_from_a_terminal(server: Running) -> None:
    with browsing() as page:
        page.open(f"{server.url}/docs")
        _choose(page, "table")
        assert _send(page).startswith("200 OK")
        answer = json.loads(page.text("answer"))
        assert answer["answers"][0]["probabilities"] == {"light": 0.5, "heavy": 0.5}
        said = subprocess.run(page.text("curl"), shell=True, capture_output=True, text=True, timeout=20, check=True)
        assert json.loads(said.stdout) == answer
        page.run("document.getElementById('body').value = '{\"rows\": [{}]}'")
        assert _send(page).startswith("400") and "lacks column" in page.text("answer")
        assert [fault for fault in page.faults if "400" not in json.dumps(fault)] == []


@pytest.mark.parametrize("model", ["affine", "zoo"])
def test_the_example_of_every_kind_of_tensor_is_answered(server: Running, model: str) -> None:
    with browsing() as page:
        page.open(f"{server.url}/docs")
        _choose(page, model)
        assert _send(page).startswith("200 OK")
        assert page.faults == []


def test_a_picture_is_sent_from_a_phone_and_shown(server: Running, tmp_path: Path) -> None:
    picture = tmp_path / "red.png"
    picture.write_bytes(plain_picture(10, 20, 240))
    with browsing(width=390, height=844) as page:
        page.open(f"{server.url}/docs")
        _choose(page, "colour")
        page.run("document.getElementById('send').click()")
        assert page.text("trouble") == "Choose a picture first."
        page.choose_file("file", picture)
        assert _send(page).startswith("200 OK")
        assert json.loads(page.text("answer"))["answers"][0]["labels"][0] == "red"
        page.until("!document.getElementById('picture').hidden")
        assert "--data-binary '@red.png'" in page.text("curl")
        assert page.run("document.documentElement.scrollWidth") <= 390
        assert page.faults == []


def test_a_key_is_asked_for_and_kept_nowhere(bundles: dict[str, Path], tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    made = add(KeyFile(), Wish("web"))
    write_keys(keys, made.file)
    token = made.token
    with running([bundles["table"]], keys=str(keys)) as server, browsing() as page:
        page.open(f"{server.url}/docs")
        page.until("!document.getElementById('locked').hidden")
        page.run("document.getElementById('key').value = 'wrong'; document.getElementById('unlock').click()")
        page.until("document.getElementById('trouble').textContent")
        page.run(f"document.getElementById('key').value = '{token}'; document.getElementById('unlock').click()")
        _choose(page, "table")
        assert _send(page).startswith("200 OK")
        assert token not in page.run("document.documentElement.outerHTML") and "$KEY" in page.text("curl")
        assert page.run("localStorage.length + sessionStorage.length + document.cookie.length") == 0

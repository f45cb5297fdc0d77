"""`fetch`: paths, downloads, resumed downloads, and every way they go wrong."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ferryman.core.artifact import digest_path
from ferryman.core.errors import SourceError
from ferryman.sources.fetch import fetch

CONTENT = bytes(range(256)) * 4000
ETAG = '"one"'


class Site(ThreadingHTTPServer):
    """A real server on a free port that remembers what it was asked and can break off in the middle."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.breaks_off_after: int | None = None
        self.requests: list[dict[str, str]] = []


class Handler(BaseHTTPRequestHandler):
    """Answer /model.onnx with ranges and etags; other paths with what goes wrong."""

    server: "Site"

    def do_GET(self) -> None:
        self.server.requests.append({key.lower(): value for key, value in self.headers.items()})
        if self.path.startswith("/model.onnx"):
            self._model()
        elif self.path == "/empty.onnx":
            self._answer(200, b"")
        elif self.path == "/to-file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._answer(404, b"nothing here")

    def _model(self) -> None:
        if self.headers.get("If-None-Match") == ETAG:
            self.send_response(304)
            self.end_headers()
            return
        start = 0
        if (asked := self.headers.get("Range")) and self.headers.get("If-Range") == ETAG:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("ETag", ETAG)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.server.breaks_off_after])

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_path_is_relative_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"model")
    assert fetch("model.onnx", tmp_path, cache=tmp_path / "cache") == tmp_path / "model.onnx"
    assert not (tmp_path / "cache").exists()


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "street.onnx").write_bytes(b"model")
    with pytest.raises(SourceError, match=r"there is no file 'stret\.onnx'") as caught:
        fetch("stret.onnx", tmp_path, cache=tmp_path)
    assert "street.onnx" in caught.value.hint


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        fetch("models/street.onnx", tmp_path, cache=tmp_path)
    assert str(tmp_path / "models") in caught.value.hint


def test_a_folder_is_given_as_it_is_and_pinned_by_all_that_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"model")
    digest = digest_path(folder)
    assert fetch("models", tmp_path, cache=tmp_path, sha256=digest) == folder
    (folder / "weights").write_bytes(b"others")
    with pytest.raises(SourceError, match=r"\[model\] sha256 is"):
        fetch("models", tmp_path, cache=tmp_path, sha256=digest)


def test_an_empty_folder_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(SourceError, match="is an empty folder"):
        fetch("models", tmp_path, cache=tmp_path)


def test_an_empty_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    with pytest.raises(SourceError, match="is empty"):
        fetch("model.onnx", tmp_path, cache=tmp_path)


@pytest.mark.parametrize("source", ["file:///etc/hostname", "ftp://example.org/model.onnx", "s3://bucket/model.onnx"])
def test_other_schemes_are_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has the scheme"):
        fetch(source, tmp_path, cache=tmp_path)


def test_a_file_with_another_digest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"model")
    with pytest.raises(SourceError, match=f"has sha256 {hashlib.sha256(b'model').hexdigest()}"):
        fetch("model.onnx", tmp_path, cache=tmp_path, sha256="0" * 64)


def test_a_url_is_downloaded_whole_with_its_name(site: Site, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []

    def hear(stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
        assert "secret" not in note
        heard.append((done, total))

    path = fetch(f"{site.url}/model.onnx?token=secret", tmp_path, cache=tmp_path / "cache", progress=hear)
    assert path.name == "model.onnx"
    assert path.read_bytes() == CONTENT
    assert heard[-1] == (len(CONTENT), len(CONTENT))
    assert not list(tmp_path.rglob("*.part"))


def test_a_download_that_broke_off_is_continued(site: Site, tmp_path: Path) -> None:
    site.breaks_off_after = 300_000
    with pytest.raises(SourceError, match="can't be downloaded"):
        fetch(f"{site.url}/model.onnx", tmp_path, cache=tmp_path)
    assert not list(tmp_path.rglob("model.onnx"))
    site.breaks_off_after = None
    path = fetch(f"{site.url}/model.onnx", tmp_path, cache=tmp_path)
    assert path.read_bytes() == CONTENT
    assert site.requests[-1]["range"] == "bytes=300000-"


def test_an_unchanged_file_is_not_downloaded_again(site: Site, tmp_path: Path) -> None:
    first = fetch(f"{site.url}/model.onnx", tmp_path, cache=tmp_path)
    assert fetch(f"{site.url}/model.onnx", tmp_path, cache=tmp_path) == first
    assert site.requests[-1]["if-none-match"] == ETAG
    assert first.read_bytes() == CONTENT


def test_a_pinned_file_in_the_cache_needs_no_network(site: Site, tmp_path: Path) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    fetch(f"{site.url}/model.onnx", tmp_path, cache=tmp_path, sha256=digest)
    fetch(f"{site.url}/model.onnx", tmp_path, cache=tmp_path, sha256=digest)
    assert len(site.requests) == 1


def test_a_download_with_another_digest_is_not_kept(site: Site, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="sha256"):
        fetch(f"{site.url}/model.onnx", tmp_path, cache=tmp_path, sha256="0" * 64)
    assert not list(tmp_path.rglob("model.onnx"))


def test_a_404_says_so(site: Site, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="HTTP 404") as caught:
        fetch(f"{site.url}/absent.onnx", tmp_path, cache=tmp_path)
    assert "no such file" in caught.value.hint


def test_an_empty_download_is_not_a_model(site: Site, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is empty"):
        fetch(f"{site.url}/empty.onnx", tmp_path, cache=tmp_path)


def test_a_redirect_to_a_local_file_is_not_followed(site: Site, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="can't be downloaded"):
        fetch(f"{site.url}/to-file", tmp_path, cache=tmp_path)


def test_a_server_that_is_not_there_says_so_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="can't be downloaded") as caught:
        fetch("http://user:secret@127.0.0.1:1/model.onnx", tmp_path, cache=tmp_path)
    assert "secret" not in str(caught.value)


def test_a_home_folder_of_nobody_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no home folder ~nobody-of-that-name"):
        fetch("~nobody-of-that-name/model.onnx", tmp_path, cache=tmp_path)


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="can't be read: File name too long"):
        fetch("x" * 5000, tmp_path, cache=tmp_path)


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(CONTENT)
    model.chmod(0)
    with pytest.raises(SourceError, match="can't be read: Permission denied"), _without_roots_rights():
        fetch(str(model), tmp_path, cache=tmp_path)


@contextmanager
def _without_roots_rights() -> Iterator[None]:
    """Be nobody for a moment where we are root, whom no file refuses."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)

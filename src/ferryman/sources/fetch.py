"""Bring a trained model's file or folder here: from a path, or over http(s) with resume and digest check."""

import difflib
import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import SplitResult, unquote, urlsplit

from ferryman.core.artifact import digest_file, digest_path
from ferryman.core.errors import SourceError
from ferryman.core.progress import Progress, silent

_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 20


def fetch(source: str, folder: Path, *, cache: Path, sha256: str | None = None, progress: Progress = silent) -> Path:
    """Give a model's local file or folder: a path relative to `folder`, or an http(s) URL downloaded into `cache`.

    Raises SourceError for what is missing, empty, unreachable or has another digest than `sha256`.
    """
    scheme, separator, _ = source.partition("://")
    if not separator:
        return _checked(_local(source, folder), sha256, source)
    if scheme.lower() not in ("http", "https"):
        raise SourceError(
            f"source '{source}' has the scheme '{scheme}', which Ferryman does not fetch",
            hint="use a path or an http(s) URL; download it yourself from anywhere else",
        )
    return _Download(source, cache, progress).run(sha256)


def _local(source: str, folder: Path) -> Path:
    if "\0" in source:
        raise SourceError(f"source {source!r} is not a path", hint="[model] source is a path or an http(s) URL")
    try:
        path = folder / Path(source).expanduser()
    except RuntimeError:
        name = source.partition("/")[0]
        raise SourceError(f"source '{source}': there is no home folder {name}", hint="write the path out") from None
    try:
        _check_readable(path, source)
    except OSError as error:
        reason = error.strerror or error
        raise SourceError(f"source '{source}' can't be read: {reason}", hint="check the path and its rights") from None
    return path


def _check_readable(path: Path, source: str) -> None:
    if path.is_dir():
        if not any(path.iterdir()):
            raise SourceError(f"source '{source}' is an empty folder", hint="copy or export the model again")
        return
    if not path.is_file():
        raise SourceError(f"there is no file '{source}' (looked for {path})", hint=_nearest(path))
    with path.open("rb") as stream:
        if not stream.read(1):
            raise SourceError(f"source '{source}' is empty (0 bytes)", hint="copy or export the model again")


def _nearest(path: Path) -> str:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either"
    names = sorted(child.name for child in path.parent.iterdir() if child.is_file())
    close = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5) or names[:3]
    return f"that folder has {', '.join(close)}" if close else f"the folder {path.parent} holds no files"


def _checked(path: Path, sha256: str | None, source: str) -> Path:
    if sha256 is not None and (digest := digest_path(path)) != sha256:
        raise SourceError(
            f"source '{source}' has sha256 {digest}; [model] sha256 is {sha256}",
            hint="this is another file than the one that was pinned: correct the source or the digest",
        )
    return path


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects, but never from https down to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Refuse a redirect that loses encryption."""
        if req.type == "https" and not newurl.startswith("https:"):
            raise urllib.error.URLError("it redirects from https to an unencrypted address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Make an opener that knows http and https only: a redirect to file: or ftp: finds no handler."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        _SafeRedirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _Download:
    """Download one URL to `<cache>/<digest of URL>/<name>`: to a .part file first, resumed if it was cut short."""

    def __init__(self, url: str, cache: Path, progress: Progress) -> None:
        self._url = url
        self._shown = _without_secrets(urlsplit(url))
        self._progress = progress
        folder = cache / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._file = folder / _file_name(url)
        self._part = folder / f"{self._file.name}.part"
        self._memo = folder / f"{self._file.name}.json"

    def run(self, sha256: str | None) -> Path:
        """Give the complete file; one in the cache is used again if its digest is pinned or the server says so."""
        if sha256 is not None and self._file.is_file() and digest_file(self._file) == sha256:
            return self._file
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._request() as response:
                self._receive(response)
        except urllib.error.HTTPError as error:
            with error:
                self._handle_status(error)
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise SourceError(
                f"{self._shown} can't be downloaded: {reason}",
                hint="check the address and the network; what has arrived is kept and continued next time",
            ) from None
        return self._pinned(sha256)

    def _pinned(self, sha256: str | None) -> Path:
        if self._file.stat().st_size == 0:
            self._file.unlink()
            raise SourceError(f"{self._shown} is empty (0 bytes)", hint="check the address")
        try:
            return _checked(self._file, sha256, self._shown)
        except SourceError:
            self._file.unlink()
            raise

    def _request(self) -> HTTPResponse:
        headers = {"User-Agent": "ferryman", "Accept-Encoding": "identity"}
        validator = self._validator()
        if validator and self._file.is_file() and not self._part.is_file():
            headers["If-None-Match" if validator.startswith('"') else "If-Modified-Since"] = validator
        elif validator and self._part.is_file() and (have := self._part.stat().st_size):
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310 - `fetch` lets only http(s) in
        response: HTTPResponse = _opener().open(request, timeout=_TIMEOUT_S)
        return response

    def _validator(self) -> str:
        try:
            memo = json.loads(self._memo.read_text(encoding="utf-8"))
            return str(memo.get("validator", "")) if isinstance(memo, dict) else ""
        except (OSError, ValueError):
            return ""

    def _receive(self, response: HTTPResponse) -> None:
        start = self._resumed_at(response)
        validator = _strong_validator(response.headers)
        self._memo.write_text(json.dumps({"url": self._shown, "validator": validator}), encoding="utf-8")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else 0
        done = start
        with self._part.open("r+b" if start else "wb") as stream:
            stream.seek(start)
            while chunk := response.read(_CHUNK_BYTES):
                stream.write(chunk)
                done += len(chunk)
                self._progress("fetch", done=done, total=total, note=self._shown)
        if total and done != total:
            raise ValueError(f"the connection ended after {done} of {total} bytes")
        os.replace(self._part, self._file)

    def _resumed_at(self, response: HTTPResponse) -> int:
        have = self._part.stat().st_size if self._part.is_file() else 0
        says = response.headers.get("Content-Range", "")
        return have if response.status == 206 and says.startswith(f"bytes {have}-") else 0

    def _handle_status(self, error: urllib.error.HTTPError) -> None:
        if error.code == 304:
            return
        if error.code == 416:
            self._part.unlink(missing_ok=True)
        hints = {
            401: "the server wants a login: download the file yourself and name its path",
            403: "the server refuses: download the file yourself and name its path",
            404: "there is no such file on that server: check the address",
            416: "the half-finished download was dropped: try again",
        }
        raise SourceError(
            f"{self._shown} can't be downloaded: HTTP {error.code} {error.reason}",
            hint=hints.get(error.code, "try again later, or download the file yourself and name its path"),
        ) from None


def _strong_validator(headers: Mapping[str, str] | HTTPMessage) -> str:
    etag = headers.get("ETag") or ""
    return etag if etag.startswith('"') else headers.get("Last-Modified") or ""


def _file_name(url: str) -> str:
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name).lstrip(".")
    return safe[-100:] or "model"


def _without_secrets(parts: SplitResult) -> str:
    """Drop user, password and query, which may hold tokens, for messages and progress."""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"

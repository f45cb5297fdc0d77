"""Hear of many boxes: a small HTTP door before one SQLite file."""

import hashlib
import hmac
import http.server
import json
import logging
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ferryman.core.errors import ConfigError, NotReady
from ferryman.fleet.durable import write_durably
from ferryman.fleet.report import RECORDS, read_records, read_token

_log = logging.getLogger("ferryman.fleet")
BOXES = "/v1/boxes"
OPERATOR = "operator"
_BODY_LIMIT_BYTES = 4 * 1024 * 1024
_KEPT = 1000
_SCHEMA = """
create table if not exists records (box text, life text, number integer, received_s real, kind text, body text,
    primary key (box, life, number)) without rowid;
create table if not exists boxes (box text primary key, received_s real, body text);
"""


class Reports:
    """Keep what boxes report: the last status of each, and their last records."""

    def __init__(self, file: Path) -> None:
        import sqlite3  # here, for boxes import this module too, and their slim Python has none

        self._lock = threading.Lock()
        self._file, self._fault = file, sqlite3.Error
        self._base = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._base.execute("pragma journal_mode = wal")
        self._base.executescript(_SCHEMA)

    def take(self, records: list[dict[str, Any]]) -> None:
        """Keep records, all or none; one that is here already changes nothing. Raises NotReady where they can't be."""
        try:
            self._take(records)
        except self._fault as error:
            raise NotReady(
                f"{self._file} takes no records: {error}", hint="look at its room, and who may write"
            ) from None

    def _take(self, records: list[dict[str, Any]]) -> None:
        now_s = time.time()
        with self._lock, self._together():
            for one in records:
                body = json.dumps(one)
                row = (str(one["box"]), str(one["life"]), int(one["number"]), now_s, str(one["kind"]), body)
                self._base.execute("insert or ignore into records values (?, ?, ?, ?, ?, ?)", row)
                if one["kind"] == "status":
                    self._base.execute("insert or replace into boxes values (?, ?, ?)", (row[0], now_s, body))
            for box in {str(one["box"]) for one in records}:
                self._base.execute(
                    "delete from records where box = ? and (life, number) not in (select life, number from records "
                    "where box = ? order by received_s desc, number desc limit ?)",
                    (box, box, _KEPT),
                )

    def boxes(self) -> list[dict[str, Any]]:
        """Give each box's last status, with the seconds since it came and the records that never came."""
        with self._lock:
            rows = self._base.execute("select box, received_s, body from boxes order by box").fetchall()
            lost = dict(self._base.execute(
                "select box, sum(n) from (select box, max(number) - min(number) + 1 - count(*) as n "
                "from records group by box, life) group by box"
            ).fetchall())  # fmt: skip
        return [{**json.loads(body), "silent_s": time.time() - at_s, "dropped": lost[box]} for box, at_s, body in rows]

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    @contextmanager
    def _together(self) -> Iterator[None]:
        self._base.execute("begin immediate")
        try:
            yield
        except BaseException:
            if self._base.in_transaction:  # a full disk has ended it already
                self._base.execute("rollback")
            raise
        self._base.execute("commit")


def token_of(secret: str, name: str) -> str:
    """Give a box's token, or the operator's: each speaks for itself alone, and the collector keeps none of them."""
    return hmac.new(secret.encode(), name.encode(), hashlib.sha256).hexdigest()


def read_secret(file: Path, *, make: bool = False) -> str:
    """Read a fleet's secret, or make one where none is; raises ConfigError."""
    if make and not file.exists():
        write_durably(file, f"{hashlib.sha256(ssl.RAND_bytes(32)).hexdigest()}\n".encode(), mode=0o600)
    secret = read_token(file)
    if len(secret) < 32:
        raise ConfigError(f"{file} holds no secret: it has {len(secret)} characters", hint="remove it for a new one")
    return secret


class Collector:
    """Listen for boxes and for their operator; `close` ends it."""

    def __init__(
        self,
        folder: Path,
        secret: str,
        *,
        host: str,
        port: int,
        certificate: Path | None = None,
        key: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.reports = Reports(folder / "reports.sqlite")
        handler = type("Handler", (_Handler,), {"reports": self.reports, "secret": secret})
        self._server = _Server((host, port), handler)
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate, key)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://{host}:{self._server.server_address[1]}"

    def serve(self) -> None:
        """Answer until closed."""
        self._server.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self.reports.close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a box that hangs up: it sends again."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    reports: Reports
    secret: str

    def do_POST(self) -> None:
        """Take a box's records."""
        length = self.headers.get("Content-Length", "")
        if self.path != RECORDS or not length.isdigit() or int(length) > _BODY_LIMIT_BYTES:
            self.close_connection = True
            self._answer(413 if self.path == RECORDS else 404, {"error": "no such place, or too much at once"})
            return
        payload = self.rfile.read(int(length))
        try:
            records = read_records(payload)
            boxes = {str(one["box"]) for one in records}
            if not all(self._is_from(box) for box in boxes):
                self._answer(401, {"error": "the token is not this box's"})
                return
            self.reports.take(records)
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            self._answer(400, {"error": f"no records: {error!r:.100}"})
            return
        except NotReady as error:
            _log.error("%s (%s)", error, error.hint)
            self._answer(503, {"error": "no record can be kept now"})
            return
        self._answer(200, {"taken": len(records)})

    def do_GET(self) -> None:
        """Tell the operator of every box."""
        if self.path != BOXES:
            self._answer(404, {"error": "no such place"})
        elif not self._is_from(OPERATOR):
            self._answer(401, {"error": "the token is not the operator's"})
        else:
            self._answer(200, {"boxes": self.reports.boxes()})

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing: what boxes do is in the reports."""

    def _is_from(self, name: str) -> bool:
        shown = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(shown.encode(), token_of(self.secret, name).encode())

    def _answer(self, status: int, words: Mapping[str, Any]) -> None:
        payload = json.dumps(words).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

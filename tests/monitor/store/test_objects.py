"""Sealed files in an object store: moto's S3, over HTTP."""

import importlib.util
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.errors import UserError
from ferryman.core.recording import ObjectsSink
from ferryman.monitor.store.layout import sealed_files
from ferryman.monitor.store.query import query
from ferryman.monitor.store.sinks.objects import ObjectsSink as Objects
from ferryman.monitor.store.sinks.protocol import SinkDown
from tests.monitor.store.conftest import KeepIn, Kept, record
from tests.monitor.store.waiting import wait_for


def missing(*modules: str) -> pytest.MarkDecorator:
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    return pytest.mark.skipif(
        bool(absent), reason=f"NOT TESTED: no {', '.join(absent)} here: scripts/setup brings them"
    )


@pytest.fixture
def s3() -> Iterator[str]:
    """Give the address of an S3 with the bucket `site`."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/site", method="PUT"), timeout=30).close()
    yield address
    urllib.request.urlopen(urllib.request.Request(f"{address}/moto-api/reset", method="POST"), timeout=30).close()
    server.shutdown()
    server.server_close()


def is_listening(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def sink(kept: Kept) -> dict[str, Any]:
    sinks: Any = kept.keeper.figures()["sinks"]
    told: dict[str, Any] = sinks["site"]
    return told


def s3_sink(address: str, **options: str) -> ObjectsSink:
    told = {"endpoint": address, "region": "eu-north-1", "access_key_id": "me", "secret_access_key": "mine"}
    return ObjectsSink(kind="objects", url="s3://site/records", options=told | options)


@missing("obstore", "moto", "werkzeug")
def test_sealed_files_lie_in_s3_under_their_names_and_are_whole(keep: KeepIn, s3: str, tmp_path: Path) -> None:
    kept = keep(sinks={"site": s3_sink(s3)})
    kept.keeper.add([record(number) for number in range(100)])
    kept.keeper.add([record(7, model="a b/ü")])
    kept.seal()
    wait_for(lambda: sink(kept)["delivered"] == 2)
    from obstore.store import from_url

    store = from_url("s3://site/records", config=dict(s3_sink(s3).options), client_options={"allow_http": True})
    listed = {entry["path"]: entry["size"] for batch in store.list() for entry in batch}
    assert set(listed.values()) == {one.path.stat().st_size for one in sealed_files(kept.folder)}
    for number, path in enumerate(listed):
        copied = tmp_path / "copied" / f"{number}.parquet"
        copied.parent.mkdir(exist_ok=True)
        copied.write_bytes(bytes(store.get(path).bytes()))
    assert sum(map(rows_of, (tmp_path / "copied").iterdir())) == 101


def rows_of(path: Path) -> int:
    import duckdb

    return int(duckdb.execute("SELECT count(*) FROM read_parquet($1)", [str(path)]).fetchall()[0][0])


@missing("obstore", "moto", "werkzeug")
def test_a_bucket_that_is_not_there_is_waited_for(keep: KeepIn, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ferryman.monitor.store.sinks.delivery.LONGEST_WAIT_S", 0.05)
    section = ObjectsSink(kind="objects", url="s3://later/x", options=dict(s3_sink(s3).options))
    kept = keep(sinks={"site": section})
    kept.keeper.add([record(1)])
    kept.seal()
    wait_for(lambda: sink(kept)["failures"] > 1)
    urllib.request.urlopen(urllib.request.Request(f"{s3}/later", method="PUT"), timeout=30).close()
    wait_for(lambda: sink(kept)["delivered"] == 1)
    assert query(kept.folder, "SELECT count(*) FROM records").rows == [(1,)]


@missing("obstore")
def test_an_option_that_no_store_has_is_refused_at_the_start() -> None:
    with pytest.raises(UserError, match="s3://site is no object store"):
        Objects("s3://site", {"no_such_option": "x"})


@missing("obstore")
def test_a_store_that_is_not_there_is_down_and_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(SinkDown) as down:
        Objects("s3://site", s3_sink("http://127.0.0.1:9").options).put("x", tmp_path / "x")
    assert "s3://site/x" in str(down.value)
    assert "mine" not in str(down.value)

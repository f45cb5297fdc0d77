import json
from pathlib import Path
from typing import Any

from ferryman.server.control.admin import admin_routes
from ferryman.server.data.gate.caller import ALL_MODELS
from ferryman.server.data.http.head import parse_head
from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.request import Request
from tests.bundle.making import bundle_affine
from tests.server.control.house import House, house, live
from tests.server.misbehaving import bundle_misbehaving


async def call(
    one: House, method: str, pattern: str, body: object = None, *, model: str = "affine"
) -> tuple[int, Any]:  # JSON
    """Ask an admin handler as its listener would."""
    drained: list[bool] = []
    routes = {
        (known, path): handler
        for known, path, handler in admin_routes(one.repository, one.plane, lambda: drained.append(True))
    }
    payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    block = f"{method} {pattern.format(model=model)} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()
    request = Request(parse_head(block, Limits()), "127.0.0.1", payload)
    request.reach = ALL_MODELS
    response = await routes[method, pattern](request, {"model": model})
    assert isinstance(response.body, bytes)
    return response.status, json.loads(response.body)


INDEX = "/v2/repository/index"
LOAD = "/v2/repository/models/{model}/load"
UNLOAD = "/v2/repository/models/{model}/unload"
ACTIVATE = "/admin/models/{model}/activate"


def test_models_are_listed_unloaded_and_loaded(tmp_path: Path) -> None:
    for version in ("1", "2"):
        bundle_affine(tmp_path / "r" / "affine" / version, factor=float(version))

    async def story() -> None:
        async with house([tmp_path / "r"]) as one:
            status, rows = await call(one, "POST", INDEX)
            assert status == 200
            assert {row["version"]: row["state"] for row in rows} == {"1": "UNAVAILABLE", "2": "READY"}
            assert (await call(one, "POST", INDEX, {"ready": True}))[1] == [
                {"name": "affine", "version": "2", "state": "READY", "reason": ""}
            ]
            assert await call(one, "POST", UNLOAD, {"parameters": {"unload_dependents": False}}) == (200, {})
            assert (await call(one, "POST", INDEX, {"ready": True}))[1] == []
            assert await call(one, "POST", LOAD) == (200, {})
            assert await one.first("affine", values=[[1, 1, 1]]) == 3.0
            assert await call(one, "POST", LOAD, {"parameters": {"version": "1"}}) == (200, {})
            assert await one.first("affine", values=[[1, 1, 1]]) == 2.0
            assert (await call(one, "POST", ACTIVATE, {"version": "2"}))[0] == 200
            assert await one.first("affine", values=[[1, 1, 1]]) == 3.0

    live(story)


def test_what_cannot_be_done_is_refused_with_its_reason(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    bundle_affine(tmp_path / "r" / "affine" / "1")
    bundle_misbehaving(tmp_path / "r" / "affine" / "2", name="affine", wrong_file=str(flag))

    async def story() -> None:
        async with house([tmp_path / "r"]) as one:
            status, error = await call(one, "POST", LOAD, {"parameters": {"version": "2"}})
            assert status == 400 and "golden samples wrong" in error["error"]
            assert (await call(one, "POST", LOAD, model="nobody"))[0] == 404
            assert (await call(one, "POST", LOAD, {"parameters": {"version": "3"}}))[0] == 404
            assert (await call(one, "POST", UNLOAD, model="nobody"))[0] == 404
            assert (await call(one, "POST", ACTIVATE, {"version": "3"}))[0] == 404
            for body in (b"{", b"[]", {"versoin": "2"}, {"version": 2}, {}):
                assert (await call(one, "POST", ACTIVATE, body))[0] == 400
            assert (await call(one, "POST", LOAD, {"parameters": {"config": "{}"}}))[0] == 400

    live(story)


def test_the_status_names_workers_restarts_and_what_is_wrong(tmp_path: Path) -> None:
    path = bundle_affine(tmp_path / "r" / "affine" / "1").path
    (tmp_path / "r" / "affine" / "2").mkdir()
    (tmp_path / "r" / "affine" / "2" / "bundle.json").write_text("{}")

    async def story() -> None:
        async with house([tmp_path / "r"]) as one:
            status, told = await call(one, "GET", "/admin/status")
            assert status == 200 and told["ready"]
            version = told["models"]["affine"]["versions"]["1"]
            assert told["models"]["affine"]["active"] == "1"
            assert version["path"] == str(path)
            assert [worker["pid"] for worker in version["workers"]] == one.pids("affine")
            assert version["workers"][0]["rss_bytes"] > 0
            assert (version["restarts"], version["golden_ok"], version["generation"]) == (0, True, 1)
            assert "bundle.json" in told["models"]["affine"]["versions"]["2"]["reason"]
            assert (await call(one, "POST", "/admin/refresh"))[0] == 200
            assert (await call(one, "POST", "/admin/drain")) == (202, {"draining": True})

    live(story)

import asyncio
import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ferryman.client.admin import Admin
from ferryman.core.errors import ConfigError, NotFound, NotReady, UserError
from tests.server.rollout.desk import ferryman_rollout, open_desk
from tests.server.rollout.making import House

QUICK = {"shadow": 0, "steps": [0.5], "min_requests": 5, "step_s": 0, "max_step_s": 100}


def ask(url: str, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    """Ask with raw bytes; gives the status and the JSON."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


async def test_a_rollout_is_started_watched_and_promoted_over_http(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.open()
    async with open_desk(house) as url:
        admin = Admin(url)
        assert await asyncio.to_thread(admin.rollouts) == []
        started = await asyncio.to_thread(admin.start_rollout, "affine", "2", QUICK)
        assert (started["phase"], started["stable"], started["candidate"]) == ("loading", "1", "2")
        await house.until("canary")
        await house.ask(50)
        await house.until("promoted")
        shown = await asyncio.to_thread(admin.rollout, "affine")
        assert (shown["phase"], shown["active"], shown["is_old_kept"]) == ("promoted", "2", True)
        back = await asyncio.to_thread(admin.move_rollout, "affine", "back")
        assert (back["phase"], back["active"]) == ("rolled back", "1")


async def test_pause_and_resume_over_http(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.open()
    async with open_desk(house) as url:
        admin = Admin(url)
        await asyncio.to_thread(admin.start_rollout, "affine", "2", QUICK)
        await house.until("canary")
        assert (await asyncio.to_thread(admin.move_rollout, "affine", "pause"))["is_paused"] is True
        assert (await asyncio.to_thread(admin.move_rollout, "affine", "resume"))["is_paused"] is False


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("GET", "/admin/rollouts/affine", b"", 404, "no rollout of 'affine'"),
        ("POST", "/admin/rollouts/other", b'{"version": "2"}', 404, "no model is called 'other'"),
        ("POST", "/admin/rollouts/affine", b'{"version": "1"}', 409, "is the active one"),
        ("POST", "/admin/rollouts/affine", b'{"version": "77"}', 404, "has version '77'"),
        ("POST", "/admin/rollouts/affine", b"", 400, "'version' must be text"),
        ("POST", "/admin/rollouts/affine", b'{"version": 2}', 400, "'version' must be text"),
        ("POST", "/admin/rollouts/affine", b'{"version": "2", "plans": {}}', 400, "unknown key 'plans'"),
        ("POST", "/admin/rollouts/affine", b'{"version": "2", "plan": {"step": 1}}', 400, "did you mean 'steps'"),
        ("POST", "/admin/rollouts/affine", b'{"version": "2", "plan": [1]}', 400, "object"),
        ("POST", "/admin/rollouts/affine", b'{"version": "2", "plan": {"shadow": NaN}}', 400, "NaN is no number"),
        ("POST", "/admin/rollouts/affine", b"[" * 60_000, 400, "no JSON"),
        ("POST", "/admin/rollouts/affine", b"\xff", 400, "no JSON"),
        ("POST", "/admin/rollouts/affine", b" " * 70_000, 400, "at most 65536"),
        ("POST", "/admin/rollouts/affine/promote", b'{"force": true}', 400, "unknown key 'force'"),
        ("POST", "/admin/rollouts/affine/back", b"", 404, "no rollout"),
    ],
)
async def test_what_can_not_be_done_is_refused_with_its_reason(
    tmp_path: Path, method: str, path: str, body: bytes, status: int, told: str
) -> None:
    house = House(tmp_path)
    await house.open()
    async with open_desk(house) as url:
        answered, reply = await asyncio.to_thread(ask, url, method, path, body)
    assert answered == status
    assert told in reply["error"]
    assert house.rollouts.status() == []


async def test_a_second_start_is_a_conflict(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.open()
    async with open_desk(house) as url:
        await asyncio.to_thread(ask, url, "POST", "/admin/rollouts/affine", b'{"version": "2"}')
        status, reply = await asyncio.to_thread(ask, url, "POST", "/admin/rollouts/affine", b'{"version": "2"}')
    assert status == 409
    assert reply["hint"] == "promote it or take it back first"


async def test_the_verb_starts_a_rollout_and_follows_it_to_its_promotion(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house = House(tmp_path)
    await house.open()
    words = ("--shadow", "0", "--steps", "0.5", "--min-requests", "5", "--step-s", "0.001")
    async with open_desk(house) as url:
        assert await ferryman_rollout("start", "affine", "--version", "2", "--admin", url, *words) == 0
        assert "affine: 1 -> 2  canary 1/1" in capsys.readouterr().out
        watching = asyncio.create_task(ferryman_rollout("status", "affine", "--watch", "--admin", url))
        await house.ask(50)
        house.now_s += 1
        assert await watching == 0
        assert "promoted  (active: 2)" in capsys.readouterr().out
        assert await ferryman_rollout("status", "--admin", url) == 0
        table = capsys.readouterr().out.splitlines()
        assert table[0].split() == ["model", "from", "to", "phase", "share", "last"]
        assert table[1].split()[:4] == ["affine", "1", "2", "promoted"]
        assert await ferryman_rollout("back", "affine", "--admin", url, "--json") == 0
        assert json.loads(capsys.readouterr().out)["phase"] == "rolled back"


async def test_the_verb_s_exit_code_tells_of_a_version_that_was_rolled_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house = House(tmp_path, (2.0, 2.5))
    await house.open()
    async with open_desk(house) as url:
        words = ("--shadow", "1", "--min-requests", "20")
        assert await ferryman_rollout("start", "affine", "--version", "2", "--admin", url, *words) == 0
        watching = asyncio.create_task(ferryman_rollout("status", "affine", "--watch", "--admin", url))
        while not watching.done():
            assert set(await house.ask(5)) == {"1"}
            await asyncio.sleep(0.005)
        assert await watching == 1
    shown = capsys.readouterr().out
    assert "rolled back" in shown and "compared answers differ" in shown


async def test_the_figures_of_a_step_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    house = House(tmp_path)
    await house.open()
    async with open_desk(house) as url:
        words = ("--shadow", "1", "--steps", "0.5", "--min-requests", "100000")
        await ferryman_rollout("start", "affine", "--version", "2", "--admin", url, *words)
        await house.compared(3)
        capsys.readouterr()
        await ferryman_rollout("status", "affine", "--admin", url)
    shown = capsys.readouterr().out
    assert "candidate 2" in shown and "compared, 0 differ" in shown
    assert "it needs 100000 requests" in shown


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("start", "affine"), "start what"),
        (("start",), "start what"),
        (("promote",), "promote of which model"),
        (("status", "--watch"), "status of which model"),
        (("status", "affine", "--steps", "0.5"), "takes no version and no plan"),
        (("start", "affine", "--version", "2", "--agreement", "unmatched"), "not FIGURE=LIMIT"),
        (("start", "affine", "--version", "2", "--plan", "nowhere.json"), "nowhere.json can't be read"),
        (("status", "--key-file", "nowhere"), "nowhere can't be read"),
        (("status", "--admin", "http://127.0.0.1:8081/v2"), "is not an admin address"),
        (("leap", "affine"), "invalid choice"),
    ],
)
async def test_a_wrong_command_names_the_way_out(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        await ferryman_rollout(*words)
    assert caught.value.hint


async def test_refusals_come_to_the_client_as_errors_with_hints(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.open()
    async with open_desk(house) as url:
        admin = Admin(url)
        with pytest.raises(NotFound, match="no rollout of 'affine'") as missing:
            await asyncio.to_thread(admin.rollout, "affine")
        assert missing.value.hint == "ferryman rollout start MODEL --version V"
        with pytest.raises(UserError, match="is the active one"):
            await asyncio.to_thread(admin.start_rollout, "affine", "1", {})
        with pytest.raises(ConfigError):
            await asyncio.to_thread(admin.start_rollout, "affine", "2", {"shadow": float("nan")})
    with pytest.raises(NotReady, match="nobody listens"):
        admin.rollouts()


async def test_a_plan_from_a_file_and_options_before_it(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"steps": [0.2, 0.4], "min_requests": 9, "max_crashes": 3}')
    house = House(tmp_path)
    await house.open()
    words = ("--plan", str(tmp_path / "plan.json"), "--min-requests", "8", "--agreement", "any", "--no-auto-promote")
    async with open_desk(house) as url:
        await ferryman_rollout("start", "affine", "--version", "2", "--admin", url, *words)
    plan = house.rollouts.status("affine")[0]["plan"]
    assert (plan["steps"], plan["min_requests"], plan["max_crashes"]) == ([0.2, 0.4], 8, 3)
    assert (plan["agreement"], plan["auto_promote"]) == ({}, False)


@pytest.mark.parametrize("steps", ["a,b", "0.5,2", "", "0.5,0.1", "0,0.5", "0.5,1", "0.1,,0.5"])
async def test_steps_that_are_none_are_told_with_their_form(steps: str) -> None:
    with pytest.raises(UserError, match="--steps") as caught:
        await ferryman_rollout("start", "affine", "--version", "2", "--steps", steps)
    assert "that grow, as 0.05,0.25,0.5" in str(caught.value)


async def test_a_rollout_that_has_ended_can_not_be_paused_and_the_next_step_is_named(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.open()
    async with open_desk(house) as url:
        words = ("--steps", "0.5", "--min-requests", "100000", "--admin", url)
        await ferryman_rollout("start", "affine", "--version", "2", *words)
        await ferryman_rollout("back", "affine", "--admin", url)
        for move in ("pause", "resume", "promote"):
            with pytest.raises(UserError, match="has ended: version 2 was rolled back") as caught:
                await ferryman_rollout(move, "affine", "--admin", url)
            assert "rollout start affine --version V" in caught.value.hint

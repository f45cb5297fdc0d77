from pathlib import Path

import pytest

from ferryman.core.errors import NotFound, NotReady
from ferryman.server.control.rollout_run import Health
from ferryman.server.control.state import StateNotWritten
from tests.server.rollout.making import CANARY, opened


async def test_the_active_version_is_remembered_from_the_start_so_that_a_restart_keeps_it(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.memory.put("active/affine", None)
    await house.rollouts.start("affine", "2", CANARY)
    assert house.memory.get("active/affine") == "1"


async def test_a_rollout_that_can_not_be_remembered_is_not_started(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    (tmp_path / "state" / ".state.json.new").mkdir()
    with pytest.raises(StateNotWritten):
        await house.rollouts.start("affine", "2", CANARY)
    assert house.rollouts.status() == []


async def test_a_killed_server_goes_on_at_its_step_with_figures_that_start_anew(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    assert await house.step(1500) == "canary" and house.place == 1
    await house.ask(500)
    await house.kill()
    await house.open()
    assert house.phase == "canary"
    await house.until_told("canary")
    assert house.events[-2] == ("resumed", "the server was started again: the figures of this step start anew")
    assert (house.place, house.status["weight"]) == (1, 0.5)
    assert house.status["figures"] == {
        "active": {"requests": 0, "errors": 0}, "candidate": {"requests": 0, "errors": 0},
    }  # fmt: skip
    answers = await house.ask(1000)
    assert 400 < answers["2"] < 600
    assert await house.step() == "promoted"
    await house.kill()
    await house.open()
    assert house.phase == "promoted"
    assert await house.ask(10) == {"2": 10}


async def test_a_paused_rollout_is_paused_after_a_restart(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    await house.rollouts.pause("affine")
    await house.kill()
    await house.open()
    assert house.status["is_paused"] is True


async def test_a_server_killed_between_promotion_and_its_note_knows_that_it_was_promoted(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    await house.memory.put("active/affine", "2")
    await house.kill()
    await house.open()
    assert house.phase == "promoted"


async def test_a_start_that_is_refused_leaves_the_rollout_before_it_as_it_was(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    await house.rollouts.promote("affine")
    before = house.status
    with pytest.raises(NotFound, match="version '77'"):
        await house.rollouts.start("affine", "77", CANARY)
    assert house.status == before


async def test_a_candidate_that_does_not_load_after_a_restart_ends_it(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    await house.kill()
    del house.bundles["2"]
    await house.open()
    await house.until("aborted")
    assert "can't be loaded" in house.reason
    assert await house.ask(100) == {"1": 100}


async def test_a_rollout_that_can_not_be_read_does_not_stop_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = await opened(tmp_path)
    await house.memory.put("rollouts", {"affine": {"model": "affine", "unknown": 1}})
    await house.kill()
    await house.open()
    assert house.rollouts.status() == []
    assert "can't be read" in caplog.text


async def test_a_rollback_does_not_wait_for_a_disk_that_is_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    await house.saved()
    (tmp_path / "state" / ".state.json.new").mkdir()
    house.shop.ill["2"] = Health(golden_ok=False)
    await house.rollouts.tick()
    await house.rollouts.tick()
    assert house.phase == "rolled back"
    assert await house.ask(100) == {"1": 100}
    assert caplog.text.count("can't be remembered") == 1
    (tmp_path / "state" / ".state.json.new").rmdir()
    await house.rollouts.tick()
    assert house.memory.get("rollouts")["affine"]["phase"] == "rolled back"


async def test_a_promotion_that_can_not_be_remembered_does_not_happen(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    await house.saved()
    (tmp_path / "state" / ".state.json.new").mkdir()
    with pytest.raises(NotReady, match="can't be promoted"):
        await house.rollouts.promote("affine")
    assert (house.phase, house.status["active"], house.status["is_paused"]) == ("canary", "1", True)

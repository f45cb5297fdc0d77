import asyncio
import json
import logging
from collections import Counter
from pathlib import Path

import pytest

from ferryman.core.errors import BundleError, ConfigError, InputError, NotFound, NotReady
from ferryman.server.control.rollout_moves import Conflict
from ferryman.server.control.rollout_plan import Plan, read_plan
from ferryman.server.control.rollout_run import Health
from ferryman.server.data.split import side
from tests.server.rollout.making import CANARY, opened

SHADOW = Plan(shadow=1.0, steps=(0.5,), min_requests=20, step_s=60.0)


async def test_a_good_version_goes_through_every_step_and_is_promoted(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    answers = await house.ask(2000)
    assert set(answers) == {"1", "2"} and 40 < answers["2"] < 180
    assert await house.step() == "canary"
    answers = await house.ask(1000)
    assert 400 < answers["2"] < 600
    assert await house.step() == "promoted"
    assert await house.ask(100) == {"2": 100}
    assert house.status["active"] == "2"
    assert [kind for kind, _ in house.events] == ["started", "canary", "passed", "canary", "promoted"]


async def test_the_old_version_is_kept_for_a_while_and_then_unloaded(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    await house.rollouts.promote("affine")
    house.now_s += 599
    await house.rollouts.tick()
    assert house.rollouts.needs("affine", "1") and "1" in house.plane.versions("affine")
    house.now_s += 1
    await house.rollouts.tick()
    await house.until_unloaded("1")
    assert house.plane.versions("affine") == ["2"]
    assert await house.ask(10) == {"2": 10}


async def test_a_version_that_fails_is_rolled_back_and_what_it_was_asked_before_is_answered(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    house.shop.engines["2"].error = NotReady("the worker crashed")
    await house.ask(800)
    engine = house.shop.engines["2"]
    engine.error, engine.held = None, []
    answers: Counter[str] = Counter()
    for _ in range(1000):
        house.submit(answers)
    while answers.total() + sum(len(job.asks) for job in engine.held) < 1000:
        await asyncio.sleep(0)
    assert any(engine.held)
    await house.rollouts.tick()
    assert house.phase == "rolled back"
    assert "requests failed (" in house.reason and "NotReady" in house.reason
    assert await house.ask(200) == {"1": 200}  # nobody new is sent there
    await asyncio.sleep(0.01)
    assert house.shop.unloaded == []  # it still owes answers
    engine.let_go()
    await house.until_unloaded("2")
    assert answers.total() == 1000 and set(answers) == {"1", "2"}  # none failed


async def test_a_shadow_that_answers_otherwise_is_rolled_back_and_no_caller_has_seen_it(tmp_path: Path) -> None:
    house = await opened(tmp_path, 2.0, 2.5)
    await house.rollouts.start("affine", "2", SHADOW)
    await house.until("shadow")
    await house.compared(20)
    assert await house.ask(50) == {"1": 50}
    await house.rollouts.tick()
    assert house.phase == "rolled back"
    assert "compared answers differ (max_rel_diff 0.167)" in house.reason
    await house.until_unloaded("2")


async def test_a_shadow_that_agrees_goes_on_to_the_canary(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", SHADOW)
    await house.until("shadow")
    await house.compared(20)
    assert await house.step() == "canary"
    assert house.status["weight"] == 0.5


async def test_answers_may_differ_as_far_as_the_plan_says(tmp_path: Path) -> None:
    house = await opened(tmp_path, 2.0, 2.5)
    await house.rollouts.start("affine", "2", SHADOW.model_copy(update={"agreement": {"max_rel_diff": 0.2}}))
    await house.until("shadow")
    await house.compared(20)
    assert await house.step() == "canary"


async def test_a_shadow_that_fails_what_the_active_version_answers_is_rolled_back(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", SHADOW)
    await house.until("shadow")
    house.shop.engines["2"].error = NotReady("the worker crashed")
    assert await house.ask(100) == {"1": 100}
    await house.rollouts.tick()
    assert house.phase == "rolled back"
    assert "as shadow it failed 100 of 100 requests" in house.reason


@pytest.mark.parametrize(
    ("health", "reason"),
    [
        (Health(golden_ok=False, last_error="off by 3"), "it answers golden samples wrong: off by 3"),
        (Health(restarts=1, last_error="killed by SIGSEGV"), "it lost 1 of its workers: killed by SIGSEGV"),
    ],
)
async def test_a_failed_probe_or_a_lost_worker_ends_it_at_once(tmp_path: Path, health: Health, reason: str) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    house.shop.ill["2"] = health
    await house.rollouts.tick()
    assert (house.phase, house.reason) == ("rolled back", reason)


async def test_workers_lost_before_the_rollout_do_not_count(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.shop.load("affine", "2", activate=False)
    house.shop.ill["2"] = Health(restarts=7)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    await house.rollouts.tick()
    assert house.phase == "canary"


async def test_a_candidate_that_is_not_ready_any_more_is_rolled_back(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    house.plane.refuse("affine", "2", reason="crashes again and again")
    await house.rollouts.tick()
    assert (house.phase, house.reason) == ("rolled back", "model 'affine' crashes again and again")


async def test_a_version_that_can_not_be_loaded_never_gets_a_request(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    house.shop.broken["2"] = BundleError("model.onnx was altered")
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("aborted")
    assert house.reason == "version 2 can't be loaded: model.onnx was altered"
    assert await house.ask(200) == {"1": 200}


async def test_a_version_that_takes_other_tensors_never_gets_a_request(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.shop.load("affine", "2", activate=False)
    served = house.plane.find("affine", "2")
    signature = served.loaded.signature.model_copy(update={"outputs": ()})
    object.__setattr__(served.loaded, "signature", signature)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("aborted")
    assert "takes or gives other tensors" in house.reason
    await house.until_unloaded("2")


async def test_an_agreement_on_figures_that_the_task_lacks_is_refused(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    with pytest.raises(ConfigError, match="no figure is called 'unmatched'"):
        await house.rollouts.start("affine", "2", SHADOW.model_copy(update={"agreement": {"unmatched": 0.1}}))
    assert house.rollouts.status() == []


async def test_too_few_requests_pause_it_and_it_can_go_on(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    house.now_s += 3600
    await house.rollouts.tick()
    assert house.status["is_paused"] and "a step needs 20" in house.reason
    await house.rollouts.unpause("affine")
    await house.ask(1500)
    await house.rollouts.tick()
    assert house.place == 0  # the figures and the time of the step start anew
    assert await house.step() == "canary" and house.place == 1


async def test_a_paused_rollout_stays_and_harm_still_ends_it(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    await house.rollouts.pause("affine")
    with pytest.raises(Conflict, match="paused already"):
        await house.rollouts.pause("affine")
    for _ in range(3):
        await house.step()
    assert (house.phase, house.place) == ("canary", 0)
    house.shop.engines["2"].error = NotReady("the worker crashed")
    await house.step(4000)
    assert house.phase == "rolled back"


async def test_it_waits_to_be_promoted_where_the_plan_says_so(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY.model_copy(update={"auto_promote": False, "steps": (0.5,)}))
    await house.until("canary")
    assert await house.step() == "canary"
    assert "promote it by hand" in house.reason
    await house.step()
    assert house.phase == "canary"
    assert (await house.rollouts.promote("affine")).phase == "promoted"


async def test_a_promotion_can_be_taken_back_at_once_and_also_when_the_old_version_is_gone(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    for is_kept in (True, False):
        await house.rollouts.start("affine", "2", CANARY)
        await house.until("canary")
        await house.rollouts.promote("affine")
        if not is_kept:
            house.now_s += 600
            await house.rollouts.tick()
            await house.until_unloaded("1")
        await house.rollouts.back("affine")
        assert house.phase == "rolled back"
        assert await house.ask(50) == {"1": 50}
        await house.until_unloaded("2")
        house.shop.unloaded.clear()
    assert house.memory.get("active/affine") == "1"


async def test_what_does_not_fit_the_moment_is_refused(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    with pytest.raises(NotFound, match="no rollout of 'affine'"):
        await house.rollouts.back("affine")
    with pytest.raises(NotFound, match="no model is called 'other'"):
        await house.rollouts.start("other", "2", CANARY)
    with pytest.raises(Conflict, match="is the active one"):
        await house.rollouts.start("affine", "1", CANARY)
    await house.rollouts.start("affine", "2", CANARY)
    with pytest.raises(Conflict, match="runs already"):
        await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    await house.rollouts.back("affine")
    for move in (house.rollouts.back, house.rollouts.promote, house.rollouts.pause, house.rollouts.unpause):
        with pytest.raises(Conflict, match="rolled back"):
            await move("affine")


async def test_a_rollout_taken_back_while_it_loads_never_gets_a_request(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    house.shop.held = asyncio.Event()
    await house.rollouts.start("affine", "2", CANARY)
    await asyncio.sleep(0)
    await house.rollouts.back("affine")
    house.shop.held.set()
    await asyncio.sleep(0.01)
    assert house.phase == "aborted"
    assert await house.ask(100) == {"1": 100}


async def test_an_active_version_changed_by_hand_ends_it(tmp_path: Path) -> None:
    house = await opened(tmp_path, 2.0, 2.0, 2.0)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    await house.shop.load("affine", "3", activate=True)
    await house.rollouts.tick()
    assert (house.phase, house.reason) == ("aborted", "the active version was changed by hand")
    assert await house.ask(100) == {"3": 100}


async def test_a_caller_stays_on_one_side_and_keeps_the_new_version_in_larger_steps(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    callers = [f"caller-{number}" for number in range(200)]
    early = {caller for caller in callers if "2" in await house.ask(1, sticky=caller)}
    assert early == {caller for caller in callers if side(caller, "affine/2") < 0.05}
    for caller in sorted(early)[:3]:
        assert await house.ask(5, sticky=caller) == {"2": 5}
    await house.step(2000)
    assert house.place == 1
    late = {caller for caller in callers if "2" in await house.ask(1, sticky=caller)}
    assert early < late and 70 < len(late) < 130


async def test_numbers_that_are_none_in_and_out_are_no_fault(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    answers: Counter[str] = Counter()
    for _ in range(100):
        house.submit(answers, values=float("nan"))
    await house.ask(1)
    figures = house.status["figures"]
    assert isinstance(figures, dict)
    assert set(answers) == {"1", "2"}
    assert (figures["active"]["errors"], figures["candidate"]["errors"]) == (0, 0)


async def test_a_version_that_refuses_what_the_other_takes_is_rolled_back(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    house.shop.engines["2"].error = InputError("no picture")
    assert await house.step(800) == "rolled back"
    assert "refused as their callers' fault" in house.reason


async def test_requests_that_name_a_version_are_not_counted(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    assert await house.ask(100, version="2") == {"2": 100}
    assert house.status["figures"] == {
        "active": {"requests": 0, "errors": 0}, "candidate": {"requests": 0, "errors": 0},
    }  # fmt: skip


async def test_nothing_listens_to_requests_while_no_rollout_runs(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    before = list(house.plane.observers)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    assert len(house.plane.observers) == len(before) + 1
    await house.rollouts.back("affine")
    await house.rollouts.tick()
    assert house.plane.observers == before


async def test_every_event_is_a_line_of_json_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ferryman.rollout")
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    await house.rollouts.back("affine")
    lines = [json.loads(record.message) for record in caplog.records if record.name == "ferryman.rollout"]
    assert [line["kind"] for line in lines] == ["started", "canary", "rolled back"]
    assert {line["event"] for line in lines} == {"rollout"}
    assert lines[-1]["time"] == "1970-01-01T00:16:40.000Z"
    assert set(lines[-1]["figures"]) == {"active", "candidate"}


async def test_events_are_bounded(tmp_path: Path) -> None:
    house = await opened(tmp_path)
    await house.rollouts.start("affine", "2", CANARY)
    await house.until("canary")
    for _ in range(50):
        await house.rollouts.pause("affine")
        await house.rollouts.unpause("affine")
    assert len(house.events) == 60


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"stepz": [0.1]}', "did you mean 'steps'"),
        ('{"steps": [0.5, 0.1]}', "steps must grow"),
        ('{"steps": [0]}', "steps.0"),
        ('{"steps": [1.5]}', "steps.0"),
        ('{"steps": [], "shadow": 0}', "needs a shadow or a step"),
        ('{"min_requests": "many"}', "min_requests"),
        ('{"min_requests": 0}', "min_requests"),
        ('{"auto_promote": "yes"}', "auto_promote"),
        ('{"agreement": {"unmatched": -1}}', "agreement.unmatched"),
        ('{"step_s": 10, "max_step_s": 5}', "max_step_s"),
        ('{"shadow": NaN}', "shadow"),
        ("[]", "object"),
        ("{", "JSON"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_with_its_key(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_plan(text)


def test_a_plan_is_what_its_json_says() -> None:
    assert read_plan("") == Plan()
    assert read_plan('{"steps": [0.1, 0.9], "agreement": {}}').steps == (0.1, 0.9)

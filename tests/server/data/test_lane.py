"""A lane hands out what waits: in order, in batches, in time, exactly once."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ferryman.core.errors import DeadlineExceeded, FerrymanError, NotReady, Overloaded
from ferryman.server.data.ask import Ask, Priority, Reply
from ferryman.server.data.job import Job
from ferryman.server.data.lane import Lane, LaneLimits


class Engine:
    """Take jobs and answer them when told to: the timing of a test is the test's."""

    def __init__(self, free: int = 1) -> None:
        self.free = free
        self.jobs: list[Job] = []

    def run(self, job: Job) -> None:
        self.free -= 1
        self.jobs.append(job)

    def finish(self, job: Job, results: Sequence[Reply | FerrymanError] | None = None) -> None:
        self.free += 1
        job.settled(job, results or [Reply({}) for _ in job.asks])


class Asker:
    """Make asks and keep how they ended."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ended: list[tuple[str, str]] = []

    def ask(self, name: str, *, within_s: float = 60, **fields: Any) -> Ask:
        def done(reply: Reply | None, error: FerrymanError | None) -> None:
            self.ended.append((name, "answer" if reply else type(error).__name__))

        now_s = self.loop.time()
        return Ask("model", None, done, tensors={}, deadline_s=now_s + within_s, arrived_s=now_s, **fields)


def _lane(**limits: int) -> tuple[Lane, Asker]:
    loop = asyncio.get_running_loop()
    return Lane(loop, LaneLimits(**limits), "model"), Asker(loop)


async def _turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def _names(job: Job, asks: dict[str, Ask]) -> list[str]:
    return [name for ask in job.asks for name, known in asks.items() if known is ask]


def _run(test: Any) -> None:  # a coroutine function
    asyncio.run(test())


def test_an_ask_alone_goes_to_the_engine_in_the_same_turn_of_the_loop() -> None:
    async def story() -> None:
        lane, asker = _lane()
        engine = Engine()
        lane.add(engine)
        lane.submit(asker.ask("one"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(engine.jobs) == 1 and lane.waiting == 0

    _run(story)


def test_what_came_while_the_engine_was_busy_shares_one_call() -> None:
    async def story() -> None:
        lane, asker = _lane()
        engine = Engine()
        lane.add(engine)
        lane.submit(asker.ask("first"))
        await _turn()
        for number in range(5):
            lane.submit(asker.ask(f"later {number}"))
        await _turn()
        assert [len(job.asks) for job in engine.jobs] == [1]
        engine.finish(engine.jobs[0])
        await _turn()
        assert [len(job.asks) for job in engine.jobs] == [1, 5]

    _run(story)


def test_no_call_holds_more_rows_than_the_largest_batch() -> None:
    async def story() -> None:
        lane, asker = _lane(max_batch=4)
        engine = Engine(free=9)
        lane.add(engine)
        for rows in (1, 3, 2, 2, 1, 7):
            lane.submit(asker.ask(f"{rows} rows", rows=rows))
        await _turn()
        assert [sum(ask.rows for ask in job.asks) for job in engine.jobs] == [4, 4, 1, 7]

    _run(story)


def test_asks_of_other_shapes_wait_for_a_call_of_their_own_and_keep_their_order() -> None:
    async def story() -> None:
        lane, asker = _lane()
        engine = Engine(free=9)
        lane.add(engine)
        asks = {name: asker.ask(name, shape=shape) for name, shape in (("a1", 1), ("b1", 2), ("a2", 1), ("b2", 2))}
        for ask in asks.values():
            lane.submit(ask)
        await _turn()
        assert [_names(job, asks) for job in engine.jobs] == [["a1", "a2"], ["b1", "b2"]]

    _run(story)


def test_high_priority_goes_first_and_low_goes_last() -> None:
    async def story() -> None:
        lane, asker = _lane(max_batch=1)
        engine = Engine(free=9)
        asks = {p.name: asker.ask(p.name, priority=p) for p in (Priority.LOW, Priority.NORMAL, Priority.HIGH)}
        for ask in asks.values():
            lane.submit(ask)
        lane.add(engine)
        await _turn()
        assert [_names(job, asks) for job in engine.jobs] == [["HIGH"], ["NORMAL"], ["LOW"]]

    _run(story)


def test_an_ask_whose_deadline_passed_never_reaches_the_engine() -> None:
    async def story() -> None:
        lane, asker = _lane()
        engine = Engine()
        lane.submit(asker.ask("late", within_s=0.01))
        lane.submit(asker.ask("patient"))
        while ("late", "DeadlineExceeded") not in asker.ended:
            await asyncio.sleep(0.005)
        lane.add(engine)
        await _turn()
        assert [len(job.asks) for job in engine.jobs] == [1]

    _run(story)


def test_a_caller_gets_its_deadline_though_the_engine_hangs() -> None:
    async def story() -> None:
        lane, asker = _lane()
        engine = Engine()
        lane.add(engine)
        lane.submit(asker.ask("hung", within_s=0.02))
        async with asyncio.timeout(2):
            while not asker.ended:
                await asyncio.sleep(0.005)
        assert asker.ended == [("hung", DeadlineExceeded.__name__)]
        engine.finish(engine.jobs[0])  # too late: nobody hears it twice
        assert len(asker.ended) == 1

    _run(story)


def test_a_full_queue_refuses_at_once() -> None:
    async def story() -> None:
        lane, asker = _lane(max_waiting=2)
        for number in range(3):
            lane.submit(asker.ask(str(number)))
        assert asker.ended == [("2", Overloaded.__name__)]

    _run(story)


def test_answers_of_a_removed_instance_are_discarded() -> None:
    async def story() -> None:
        lane, asker = _lane()
        wrong = Engine()
        lane.add(wrong)
        lane.submit(asker.ask("one"))
        await _turn()
        lane.remove(wrong)
        assert asker.ended == [("one", NotReady.__name__)]
        wrong.finish(wrong.jobs[0])
        assert len(asker.ended) == 1

    _run(story)


def test_a_retired_instance_finishes_what_it_has() -> None:
    async def story() -> None:
        lane, asker = _lane()
        old, new = Engine(), Engine()
        lane.add(old)
        lane.submit(asker.ask("one"))
        await _turn()
        lane.retire(old)
        lane.add(new)
        lane.submit(asker.ask("two"))
        await _turn()
        old.finish(old.jobs[0])
        assert asker.ended == [("one", "answer")] and len(new.jobs) == 1

    _run(story)


def test_a_probe_goes_to_its_instance_and_waits_for_others_but_not_for_ever() -> None:
    async def story() -> None:
        lane, asker = _lane(max_batch=1)
        engine, other = Engine(), Engine(free=0)
        lane.add(engine)
        lane.add(other)
        lane.submit(asker.ask("busy"))
        await _turn()
        probe = asker.ask("probe", is_probe=True)
        lane.probe(engine, probe)
        lane.submit(asker.ask("next"))
        engine.finish(engine.jobs[0])
        await _turn()
        assert probe not in engine.jobs[1].asks
        async with asyncio.timeout(5):
            while not any(probe in job.asks for job in engine.jobs):
                lane.submit(asker.ask("more"))
                engine.finish(engine.jobs[-1])
                await asyncio.sleep(0.02)
        assert not other.jobs

    _run(story)


def test_drained_returns_when_the_last_answer_is_there() -> None:
    async def story() -> None:
        lane, asker = _lane()
        engine = Engine()
        lane.add(engine)
        lane.submit(asker.ask("one"))
        await _turn()
        waiting = asyncio.ensure_future(lane.drained())
        await _turn()
        assert not waiting.done()
        engine.finish(engine.jobs[0])
        await asyncio.wait_for(waiting, 1)

    _run(story)


def test_abandon_answers_everybody_now() -> None:
    async def story() -> None:
        lane, asker = _lane()
        engine = Engine()
        lane.add(engine)
        lane.submit(asker.ask("runs"))
        await _turn()
        lane.submit(asker.ask("waits"))
        lane.abandon(NotReady("the server stops"))
        assert sorted(asker.ended) == [("runs", "NotReady"), ("waits", "NotReady")]

    _run(story)


class Chaos:
    """Submit, finish, take out and wait, by a seeded chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.lane, self.asker = _lane(max_batch=4, max_waiting=20)
        self.engines = [Engine(free=2) for _ in range(3)]
        for engine in self.engines:
            self.lane.add(engine)

    async def step(self, number: int) -> None:
        chance = self.chance
        within_s = chance.choice([0.001, 0.01, 60])
        priority = chance.choice(list(Priority))
        self.lane.submit(self.asker.ask(str(number), within_s=within_s, priority=priority, shape=chance.randrange(2)))
        for engine in self.engines:
            if engine.jobs and chance.random() < 0.4:
                engine.finish(engine.jobs.pop(0))
        if chance.random() < 0.02:
            engine = chance.choice(self.engines)
            self.lane.remove(engine)
            self.lane.add(engine)
        if chance.random() < 0.3:
            await asyncio.sleep(chance.choice([0, 0, 0.005]))

    async def settle(self) -> None:
        while any(engine.jobs for engine in self.engines) or self.lane.waiting:
            for engine in self.engines:
                while engine.jobs:
                    engine.finish(engine.jobs.pop(0))
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", range(5))
def test_every_ask_ends_exactly_once_whatever_happens(seed: int) -> None:
    async def story() -> None:
        chaos = Chaos(seed)
        for number in range(500):
            await chaos.step(number)
        await chaos.settle()
        assert sorted(int(name) for name, _ in chaos.asker.ended) == list(range(500))
        assert chaos.lane.waiting == 0 and chaos.lane.in_flight == 0
        await asyncio.wait_for(chaos.lane.drained(), 1)

    _run(story)


def test_who_is_told_that_it_is_late_may_ask_again_at_once() -> None:
    async def story() -> None:
        lane, asker = _lane()
        lane.submit(asker.ask("second", within_s=0.02))

        def again(reply: Reply | None, error: FerrymanError | None) -> None:
            lane.submit(asker.ask("again"))

        eager = asker.ask("first", within_s=0.01)
        eager.done = again
        lane.submit(eager)
        async with asyncio.timeout(2):
            while ("second", "DeadlineExceeded") not in asker.ended:
                await asyncio.sleep(0.005)
        assert lane.waiting == 1

    _run(story)


def test_one_whose_answer_cannot_be_given_takes_nothing_from_its_neighbours(caplog: pytest.LogCaptureFixture) -> None:
    def broken(reply: Reply | None, error: FerrymanError | None) -> None:
        raise ValueError("a bug of a callback")

    async def story() -> None:
        lane, asker = _lane()
        engine = Engine()
        lane.submit(replace(asker.ask("broken"), done=broken))
        lane.submit(asker.ask("neighbour"))
        lane.add(engine)
        await _turn()
        engine.finish(engine.jobs[0])
        assert asker.ended == [("neighbour", "answer")]
        await asyncio.wait_for(lane.drained(), 1)

    _run(story)
    assert "a bug of a callback" in caplog.text


def test_without_a_queue_an_idle_engine_still_takes_an_ask() -> None:
    async def story() -> None:
        lane, asker = _lane(max_waiting=0, max_batch=1)
        engine = Engine(free=1)
        lane.add(engine)
        lane.submit(asker.ask("one"))
        lane.submit(asker.ask("two"))
        await _turn()
        assert asker.ended == [("two", "Overloaded")] and len(engine.jobs) == 1

    _run(story)


def test_an_ask_that_was_settled_holds_nobody() -> None:
    async def story() -> None:
        _, asker = _lane()
        ask = asker.ask("one")
        ask.fail(NotReady("over"))
        assert ask.on_end is None and asker.ended == [("one", "NotReady")]
        ask.done(None, NotReady("again"))
        assert len(asker.ended) == 1

    _run(story)

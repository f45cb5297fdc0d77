"""What is lost with a worker is told at once, exactly once, and nothing else is lost with it."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ferryman.core.errors import NotReady
from ferryman.server.data.worker.link import Worker
from ferryman.server.data.worker.order import LoadOrder
from tests.server.misbehaving import (
    ABORT,
    ANSWER,
    EXIT,
    HANG,
    HOLD_GIL,
    SEGFAULT,
    SLEEP,
    bundle_misbehaving,
    with_plugin,
)
from tests.server.worker.driving import drive, hire, is_running, order, output, until, zygote


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a bundle of the misbehaving model."""
    with_plugin(monkeypatch)
    return bundle_misbehaving(tmp_path / "one").path


@pytest.mark.parametrize(
    ("code", "argument", "reason"),
    [
        (SEGFAULT, 0, "was killed by SIGSEGV"),
        (ABORT, 0, "was killed by SIGABRT"),
        (EXIT, 3, "exited with code 3"),
        (EXIT, 0, "exited with code 0"),
    ],
)
def test_a_worker_that_ends_fails_its_asks_and_says_how_it_ended(
    bundle: Path, code: int, argument: float, reason: str
) -> None:
    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, bundle)
            futures = [one.begin(order(code, argument), order(ANSWER)), one.begin(order(ANSWER))]
            for future in futures:
                for result in await future:
                    assert isinstance(result, NotReady)
                    assert "before it answered" in str(result)
            assert await one.loss() == reason
            (late,) = await one.ask(order(ANSWER))
            assert isinstance(late, NotReady)
            assert one.worker.free <= 0
            assert one.losses == [reason]
            assert one.worker.rss_bytes() == 0

    drive(story)


def test_kill_9_from_outside_is_noticed_while_idle(bundle: Path) -> None:
    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, bundle)
            os.kill(one.worker.pid, signal.SIGKILL)
            assert await one.loss() == "was killed by SIGKILL"

    drive(story)


@pytest.mark.parametrize(("code", "argument"), [(HANG, 0), (HOLD_GIL, 60)])
def test_a_worker_that_hangs_shows_its_age_and_can_be_killed(bundle: Path, code: int, argument: float) -> None:
    async def story() -> None:
        async with zygote() as mother:
            one, other = await hire(mother, bundle), await hire(mother, bundle)
            loop = asyncio.get_running_loop()
            future = one.begin(order(code, argument))
            await until(lambda: one.worker.oldest_job_s(loop.time()) > 0.1)
            (result,) = await other.ask(order(ANSWER, 1))  # the other doesn't notice
            assert output(result, "answer").tolist() == [[1, 2]]
            pid = one.worker.pid
            one.worker.kill()
            assert isinstance((await future)[0], NotReady)
            await until(lambda: not is_running(pid))
            assert await one.loss() == "was killed"
            assert other.losses == []

    drive(story)


def test_one_crash_takes_no_other_worker_along(bundle: Path) -> None:
    async def story() -> None:
        async with zygote() as mother:
            one, other = await hire(mother, bundle), await hire(mother, bundle)
            waiting = other.begin(order(SLEEP, 0.2))
            one.begin(order(SEGFAULT))
            await one.loss()
            (result,) = await waiting
            assert output(result, "answer").shape == (1, 2)
            again = await hire(mother, bundle)
            assert again.worker.pid not in (one.worker.pid, other.worker.pid)

    drive(story)


def test_a_worker_that_crashes_or_hangs_while_it_loads_is_refused_in_time(bundle: Path, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    crashing = bundle_misbehaving(tmp_path / "crashing", crash_file=str(flag)).path
    hanging = bundle_misbehaving(tmp_path / "hanging", hang_file=str(flag)).path
    flag.touch()

    async def story() -> None:
        async with zygote() as mother:
            with pytest.raises(NotReady, match="its worker was killed by SIGSEGV while it loaded"):
                await hire(mother, crashing)
            worker = Worker(mother, on_free=lambda: None, on_lost=lambda reason: pytest.fail(reason))
            with pytest.raises(NotReady, match=r"did not load within 0\.3 s"):
                await worker.load(LoadOrder(hanging), deadline_s=0.3)
            await until(lambda: not is_running(worker.pid))
            flag.unlink()
            await hire(mother, crashing)

    drive(story)


def test_stop_lets_jobs_finish_and_is_no_loss(bundle: Path) -> None:
    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, bundle)
            future = one.begin(order(SLEEP, 0.2))
            await one.worker.stop(deadline_s=5)
            assert output((await future)[0], "answer").shape == (1, 2)
            await until(lambda: not is_running(one.worker.pid))
            assert one.losses == []

    drive(story)


def test_stop_ends_a_worker_that_hangs_at_its_deadline(bundle: Path) -> None:
    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, bundle)
            future = one.begin(order(HANG))
            began_s = time.monotonic()
            await one.worker.stop(deadline_s=0.2)
            assert time.monotonic() - began_s < 5
            assert isinstance((await future)[0], NotReady)
            await until(lambda: not is_running(one.worker.pid))
            assert one.losses == []

    drive(story)


def test_a_zygote_that_dies_takes_its_workers_along_and_is_replaced(bundle: Path) -> None:
    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, bundle)
            first = mother.pid
            os.kill(first, signal.SIGKILL)
            assert "process that it was forked from" in await one.loss()
            await until(lambda: not is_running(one.worker.pid))
            again = await hire(mother, bundle)
            assert mother.pid != first
            assert output((await again.ask(order(ANSWER)))[0], "answer").shape == (1, 2)

    drive(story)


def test_a_zygote_that_takes_no_orders_is_replaced_and_is_no_zombie(bundle: Path) -> None:
    async def story() -> None:
        async with zygote() as mother:
            await hire(mother, bundle)
            first = mother.pid
            os.kill(first, signal.SIGSTOP)
            while mother.pid == first:  # until no more orders fit into its socket
                mother.fork([], lambda _: None)
            assert not os.path.exists(f"/proc/{first}")
            await hire(mother, bundle)

    drive(story)


def test_signals_to_the_group_end_no_worker(bundle: Path) -> None:
    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, bundle)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(one.worker.pid, number)
                os.kill(mother.pid, number)
            assert output((await one.ask(order(ANSWER)))[0], "answer").shape == (1, 2)
            assert one.losses == []

    drive(story)


_SERVER = """
import asyncio, sys
from pathlib import Path
from tests.server.worker.driving import hire, order, zygote
from tests.server.misbehaving import HANG

async def story():
    async with zygote() as mother:
        one, other = await hire(mother, Path(sys.argv[1])), await hire(mother, Path(sys.argv[1]))
        one.begin(order(HANG))
        print(mother.pid, one.worker.pid, other.worker.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(story())
"""


def test_a_server_that_is_killed_leaves_no_process_behind(bundle: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_SERVER), str(bundle)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        pids = [int(part) for part in server.stdout.readline().split()]
        server.kill()
    assert len(pids) == 3

    async def story() -> None:
        await until(lambda: not any(is_running(pid) for pid in pids))

    drive(story)


def test_instances_run_beside_each_other_where_the_engine_allows_it(bundle: Path, tmp_path: Path) -> None:
    free = bundle_misbehaving(tmp_path / "free", releases_gil=True).path

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, free, instances=2)
            assert (one.loaded.releases_gil, one.worker.free) == (True, 3)
            stuck = one.begin(order(HANG))
            (result,) = await one.ask(order(ANSWER, 1))  # would wait for ever behind the first
            assert output(result, "answer").tolist() == [[1, 2]]
            assert not stuck.done()
            alone = await hire(mother, bundle, instances=2)
            assert (alone.loaded.releases_gil, alone.worker.free) == (False, 2)

    drive(story)

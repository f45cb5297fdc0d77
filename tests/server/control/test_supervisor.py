import asyncio
import os
import resource
import signal
from pathlib import Path

import pytest

from ferryman.core.errors import NotReady
from ferryman.server.control.crew import Patience
from ferryman.server.control.shelf import peek
from ferryman.server.data.ask import Reply
from tests.bundle.making import bundle_affine
from tests.server.control.house import House, house, live, until
from tests.server.misbehaving import ABORT, ANSWER, HANG, LEAK, SLEEP, bundle_misbehaving


async def works(one: House, model: str = "misbehaving") -> None:
    """See that a model answers, within the lane's patience."""
    assert await one.first(model, order=[[ANSWER, 1]]) == ANSWER + 1


def test_a_crash_costs_what_was_in_flight_and_the_worker_comes_back(tmp_path: Path) -> None:
    path = bundle_misbehaving(tmp_path / "bundle").path
    other = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        async with house([path, other]) as one:
            first = one.pids("misbehaving")
            assert isinstance(await one.ask("misbehaving", order=[[ABORT, 0]]), NotReady)
            await works(one)  # waits in the lane until the new worker is there
            assert one.pids("misbehaving") != first
            assert one.supervisor("misbehaving").restarts == 1
            assert "SIGABRT" in one.supervisor("misbehaving").last_error
            assert one.supervisor("affine").restarts == 0
            assert 'reason="crash"' in one.metrics.render()[0].decode()

    live(story)


def test_the_other_worker_answers_while_one_is_gone(tmp_path: Path) -> None:
    path = bundle_misbehaving(tmp_path / "bundle").path

    async def story() -> None:
        async with house([path], processes=2, patience=Patience(first_s=5)) as one:
            os.kill(one.pids("misbehaving")[0], signal.SIGKILL)
            await until(lambda: len(one.pids("misbehaving")) == 1)
            replies = await asyncio.gather(*(one.ask("misbehaving", order=[[ANSWER, 1]]) for _ in range(50)))
            assert all(isinstance(reply, Reply) for reply in replies)
            assert one.plane.why_not_ready() == ""

    live(story)


def test_a_crash_loop_makes_the_version_unready_and_it_is_still_tried(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    path = bundle_misbehaving(tmp_path / "bundle", crash_file=str(flag)).path

    async def story() -> None:
        async with house([path]) as one:
            flag.touch()
            os.kill(one.pids("misbehaving")[0], signal.SIGKILL)
            waiting = one.ask("misbehaving", order=[[ANSWER, 1]])
            await until(lambda: bool(one.plane.why_not_ready()))
            assert isinstance(await waiting, NotReady)  # told, not kept waiting
            assert len(one.hired) >= 5
            assert isinstance(await one.ask("misbehaving", order=[[ANSWER, 1]]), NotReady)
            flag.unlink()
            await until(lambda: not one.plane.why_not_ready())
            await works(one)

    live(story)


def test_a_worker_comes_back_once_there_are_files_for_it_again(tmp_path: Path) -> None:
    path = bundle_misbehaving(tmp_path / "bundle").path

    async def story() -> None:
        async with house([path]) as one:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            try:
                os.kill(one.pids("misbehaving")[0], signal.SIGKILL)
                await until(lambda: "Too many open files" in one.supervisor("misbehaving").last_error)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await works(one)

    live(story)


def test_a_hanging_worker_is_killed_and_replaced(tmp_path: Path) -> None:
    path = bundle_misbehaving(tmp_path / "bundle").path

    async def story() -> None:
        async with house([path], hang_s=0.3) as one:
            first = one.pids("misbehaving")
            hung = one.ask("misbehaving", order=[[HANG, 0]])
            assert isinstance(await hung, NotReady)
            await works(one)
            assert one.pids("misbehaving") != first
            assert "hung" in one.supervisor("misbehaving").last_error

    live(story)


def test_a_worker_that_leaks_is_replaced_and_no_request_is_lost(tmp_path: Path) -> None:
    path = bundle_misbehaving(tmp_path / "bundle").path

    async def story() -> None:
        async with house([path], max_worker_mb=150) as one:
            first = one.pids("misbehaving")
            leak = one.ask("misbehaving", order=[[LEAK, 160]])
            answered = 0
            while one.pids("misbehaving") == first:
                replies = await asyncio.gather(*(one.ask("misbehaving", order=[[SLEEP, 0.01]]) for _ in range(4)))
                assert all(isinstance(reply, Reply) for reply in replies), replies
                answered += len(replies)
            await works(one)
            assert isinstance(await leak, Reply)
            assert answered > 0
            await until(lambda: not os.path.exists(f"/proc/{first[0]}"))

    live(story)


def test_a_worker_alive_serves_on_when_its_file_was_damaged_and_a_new_one_is_refused(tmp_path: Path) -> None:
    path = bundle_affine(tmp_path / "affine").path

    async def story() -> None:
        async with house([path]) as one:
            model = path / peek(path).model
            whole = model.read_bytes()
            model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
            assert await one.first("affine", values=[[1, 1, 1]]) == 3.0
            os.kill(one.pids("affine")[0], signal.SIGKILL)
            await until(lambda: bool(one.plane.why_not_ready()))
            assert "digest" in one.plane.why_not_ready()
            model.write_bytes(whole)
            await until(lambda: not one.plane.why_not_ready())
            assert await one.first("affine", values=[[1, 1, 1]]) == 3.0

    live(story)


def test_a_lost_worker_of_replaced_files_brings_the_new_version(tmp_path: Path) -> None:
    path = bundle_affine(tmp_path / "models" / "affine" / "1").path

    async def story() -> None:
        async with house([tmp_path / "models"]) as one:
            await asyncio.to_thread(lambda: bundle_affine(path, factor=7.0))
            assert await one.first("affine", values=[[1, 1, 1]]) == 3.0
            os.kill(one.pids("affine")[0], signal.SIGKILL)
            answers = set()
            while 8.0 not in answers:
                reply = await one.ask("affine", values=[[1, 1, 1]])
                if isinstance(reply, Reply) and reply.outputs is not None:
                    answers.add(float(reply.outputs["sum"][0, 0]))
                await asyncio.sleep(0.01)
            assert answers == {8.0}

    live(story)


@pytest.mark.parametrize(("releases_gil", "processes"), [(True, 1), (False, 3)])
def test_instances_are_threads_only_where_the_engine_lets_go_of_the_interpreter(
    tmp_path: Path, *, releases_gil: bool, processes: int
) -> None:
    path = bundle_misbehaving(tmp_path / "bundle", releases_gil=releases_gil).path

    async def story() -> None:
        async with house([path], instances=3) as one:
            assert len(one.pids("misbehaving")) == processes
            asked = [one.ask("misbehaving", order=[[SLEEP, 0.05]]) for _ in range(6)]
            assert all(isinstance(reply, Reply) for reply in await asyncio.gather(*asked))

    live(story)

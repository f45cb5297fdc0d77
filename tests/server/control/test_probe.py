import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from ferryman.core.errors import NotReady
from ferryman.server.control.crew import ControlSettings
from ferryman.server.control.forever import forever
from ferryman.server.control.probe import Probe
from ferryman.server.data.ask import Reply
from ferryman.server.data.job import GoldenVerdict, Job, Loaded
from ferryman.server.data.lane import Lane, LaneLimits
from tests.bundle.making import bundle_colour, bundle_table
from tests.server.control.house import house, live, until
from tests.server.misbehaving import ANSWER, NAN, bundle_misbehaving


def test_a_worker_that_begins_to_answer_wrong_is_taken_out_and_replaced(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    path = bundle_misbehaving(tmp_path / "bundle", wrong_file=str(flag)).path

    async def story() -> None:
        async with house([path], probe_s=0.05) as one:
            first = one.pids("misbehaving")
            metrics = one.supervisor("misbehaving")
            assert metrics.golden_ok is True
            flag.touch()
            await until(lambda: metrics.golden_ok is False)
            assert one.pids("misbehaving") == []
            flag.unlink()
            await until(lambda: metrics.golden_ok is True)
            assert one.pids("misbehaving") not in ([], first)
            assert await one.first("misbehaving", order=[[ANSWER, 1]]) == ANSWER + 1
            assert 'reason="golden"' in one.metrics.render()[0].decode()

    live(story)


def test_no_wrong_answer_is_given_once_the_mismatch_is_known(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    path = bundle_misbehaving(tmp_path / "bundle", wrong_file=str(flag)).path

    async def story() -> None:
        async with house([path], probe_s=0.05) as one:
            metrics = one.supervisor("misbehaving")
            flag.touch()
            await until(lambda: metrics.golden_ok is False)
            asked = [one.ask("misbehaving", order=[[ANSWER, 1]]) for _ in range(10)]
            flag.unlink()
            for reply in await asyncio.gather(*asked):
                if isinstance(reply, Reply):
                    assert reply.outputs is not None
                    assert reply.outputs["answer"][0, 0] == ANSWER + 1
                else:
                    assert isinstance(reply, NotReady)

    live(story)


def test_a_version_that_stays_wrong_is_unready_and_returns_when_it_is_right(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    path = bundle_misbehaving(tmp_path / "bundle", wrong_file=str(flag)).path

    async def story() -> None:
        async with house([path], probe_s=0.05) as one:
            flag.touch()
            await until(lambda: "golden samples wrong" in one.plane.why_not_ready())
            assert isinstance(await one.ask("misbehaving", order=[[ANSWER, 1]]), NotReady)
            flag.unlink()
            await until(lambda: not one.plane.why_not_ready())
            assert await one.first("misbehaving", order=[[ANSWER, 1]]) == ANSWER + 1

    live(story)


def test_an_answer_that_is_no_number_has_the_worker_asked_at_once(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    path = bundle_misbehaving(tmp_path / "bundle", wrong_file=str(flag)).path

    async def story() -> None:
        async with house([path], probe_s=3600) as one:
            flag.touch()
            reply = await one.ask("misbehaving", order=[[NAN, 0]])
            assert isinstance(reply, Reply) and not reply.is_finite
            await until(lambda: one.supervisor("misbehaving").golden_ok is False)
            flag.unlink()
            await until(lambda: one.supervisor("misbehaving").golden_ok is True)
            assert 'reason="nonfinite"' in one.metrics.render()[0].decode()

    live(story)


class Muddled:
    """Answer what no task of this kind would."""

    def __init__(self) -> None:
        self.free = 1

    def run(self, job: Job) -> None:
        asyncio.get_running_loop().call_soon(job.settled, job, [Reply(None, answers=[{}]) for _ in job.asks])


def test_an_answer_that_can_not_be_compared_is_wrong(tmp_path: Path) -> None:
    bundle = bundle_colour(tmp_path / "colour")
    loaded = Loaded(bundle.artifact.signature, "picture", GoldenVerdict("", 1), 8, "", True, 0.0)

    async def story() -> None:
        lane, worker = Lane(asyncio.get_running_loop(), LaneLimits(), "colour"), Muddled()
        lane.add(worker)
        assert "can't be compared" in await Probe(bundle, loaded, lane, ControlSettings()).ask(worker)

    live(story)


def test_what_goes_on_forever_outlives_its_failures(caplog: pytest.LogCaptureFixture) -> None:
    turns: list[int] = []

    async def turn() -> None:
        turns.append(len(turns))
        if turns == [0]:
            raise OSError("nothing is left")

    async def story() -> None:
        work = asyncio.create_task(forever(turn, "counting", every_s=0.001))
        await until(lambda: len(turns) > 2)
        work.cancel()

    live(story)
    assert [record.getMessage() for record in caplog.records] == ["counting failed; it goes on"]


def test_right_answers_keep_their_worker_on_every_task(tmp_path: Path) -> None:
    paths = [bundle_colour(tmp_path / "colour").path, bundle_table(tmp_path / "table").path]

    async def story() -> None:
        async with house(paths, probe_s=0.02) as one:
            asked = {name: one.supervisor(name) for name in ("colour", "table")}
            await until(lambda: all(one.probes >= 4 for one in asked.values()))
            assert all(supervisor.restarts == 0 and supervisor.golden_ok for supervisor in asked.values())

    live(story)


def test_the_front_compares_answers_without_an_engine_or_a_picture_library() -> None:
    code = """
import sys
import ferryman.server.control.repository, ferryman.server.control.admin
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.task import bind_task
from ferryman.tasks.detect import DetectTask
from ferryman.core.plugins import plugins, runtime_for
plugins("tasks"), runtime_for("onnx").require()
assert not {"cv2", "onnxruntime", "openvino", "torch", "onnx"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

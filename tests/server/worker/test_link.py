"""A worker answers what it is asked, and one bad ask never spoils another."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.bundle.read import load_bundle
from ferryman.core.errors import FerrymanError, InputError, NotReady, Overloaded
from ferryman.server.data.ask import Reply
from ferryman.server.data.worker.link import Worker
from tests.bundle.making import bundle_affine, bundle_colour, bundle_model, bundle_table, make_zoo
from tests.server.misbehaving import DATES, NAN, RAISE, REFUSE, bundle_misbehaving, with_plugin
from tests.server.worker.driving import drive, hire, items, open_files, order, output, tensors, until, zygote


def test_every_dtype_goes_there_and_back(tmp_path: Path) -> None:
    given: dict[str, Any] = {  # arrays: `tensors` takes lists, too
        "in_BOOL": np.array([[True, False]]),
        "in_BYTES": np.array([["a", "ü"]], object),
        "in_UINT8": np.array([[1, 255]], np.uint8),
        "in_INT32": np.array([[1, -2]], np.int32),
        "in_INT64": np.array([[1, -(2**62)]], np.int64),
        "in_UINT64": np.array([[1, 2**64 - 1]], np.uint64),
        "in_FP16": np.array([[1, 0.5]], np.float16),
        "in_FP32": np.array([[1, 1e-40]], np.float32),
        "in_FP64": np.array([[1, 1e300]], np.float64),
    }
    bundle_model(tmp_path / "zoo", make_zoo(tmp_path / "model"), {"kind": "tensor"}, [given], name="zoo")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "zoo")
            swapped = {name: values.astype(values.dtype.newbyteorder(">")) for name, values in given.items()}
            for result in [*await one.ask(tensors(**swapped)), *await one.ask(tensors(**given), tensors(**given))]:
                for name, values in given.items():
                    got = output(result, name.replace("in_", "out_"))
                    assert got.dtype == values.dtype
                    assert got.tolist() == values.tolist()

    drive(story)


def test_asks_of_one_job_get_their_own_rows(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "affine")
            asks = [tensors(rows=rows, values=np.full((rows, 3), rows, np.float32)) for rows in (1, 3, 2)]
            results = await one.ask(*asks)
            for rows, result in zip((1, 3, 2), results, strict=True):
                assert output(result, "sum").tolist() == [[rows * 2 + 1] * 3] * rows
                assert isinstance(result, Reply)
                assert (result.stages.asks, result.stages.rows, result.is_finite) == (3, 6, True)
                assert result.stages.infer_s > 0

    drive(story)


def test_only_wanted_outputs_come_back_and_an_unknown_one_is_the_asks_own_error(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "affine")
            row = np.ones((1, 3), np.float32)
            good, bad = await one.ask(tensors(values=row, outputs=("sum",)), tensors(values=row, outputs=("no",)))
            assert output(good, "sum").tolist() == [[3, 3, 3]]
            assert isinstance(bad, InputError)
            assert "'no'" in str(bad)

    drive(story)


def test_rows_and_pictures_are_answered_as_by_their_task_and_a_bad_one_fails_alone(tmp_path: Path) -> None:
    table, colour = bundle_table(tmp_path / "table"), bundle_colour(tmp_path / "colour")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, table.path)
            first, bad, both = await one.ask(
                items(table.golden[0].item), items({"width": "wide"}), items(*[g.item for g in table.golden])
            )
            assert isinstance(first, Reply)
            assert first.answers == [table.golden[0].answer]
            assert isinstance(bad, InputError)
            assert isinstance(both, Reply)
            assert both.answers == [golden.answer for golden in table.golden]
            two = await hire(mother, colour.path)
            pictures = [golden.item for golden in colour.golden]
            bad, both = await two.ask(items(b"no picture"), items(*pictures))
            assert isinstance(bad, InputError)
            assert isinstance(both, Reply)
            assert both.answers == [golden.answer for golden in colour.golden]
            pixels = np.full((48, 64, 3), (250, 10, 10), np.uint8)
            (decoded,) = await two.ask(items(pixels))
            assert isinstance(decoded, Reply)
            assert decoded.answers == [colour.golden[0].answer]

    drive(story)


def test_items_of_named_arrays_and_lists_are_answered(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "affine")
            results = await one.ask(items({"values": np.ones((1, 3), np.float32)}), items({"values": [1.0, 2.0, 3.0]}))
            data = [
                result.answers[0]["outputs"]["sum"]["data"]
                for result in results
                if isinstance(result, Reply) and result.answers
            ]
            assert data == [[[3, 3, 3]], [[3, 5, 7]]]
            unsendable, fine = await one.ask(items({"values": object()}), items({"values": [1.0, 2.0, 3.0]}))
            assert isinstance(unsendable, InputError)
            assert isinstance(fine, Reply)

    drive(story)


def test_an_ask_that_makes_the_engine_fail_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_plugin(monkeypatch)
    bundle_misbehaving(tmp_path / "one")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "one")
            results = await one.ask(order(0, 1), order(RAISE), order(0, 2), order(REFUSE))
            assert output(results[0], "answer").tolist() == [[1, 2]]
            assert output(results[2], "answer").tolist() == [[1, 3]]
            assert type(results[1]) is FerrymanError
            assert isinstance(results[3], InputError)
            assert results[3].hint == "send another order"

    drive(story)


def test_an_answer_that_is_no_number_is_marked_for_its_ask_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_plugin(monkeypatch)
    bundle_misbehaving(tmp_path / "one")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "one")
            for results in (
                await one.ask(order(0), order(NAN), order(0)),
                await one.ask(*[items({"order": np.array([[code, 0]], np.float32)}) for code in (0, NAN, 0)]),
            ):
                assert [result.is_finite for result in results if isinstance(result, Reply)] == [True, False, True]

    drive(story)


def test_outputs_that_are_no_tensors_are_the_asks_error_and_the_worker_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_plugin(monkeypatch)
    bundle_misbehaving(tmp_path / "one")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "one")
            (odd,) = await one.ask(order(DATES))
            assert type(odd) is FerrymanError
            assert "outputs can't be sent" in str(odd)
            assert output((await one.ask(order(0, 1)))[0], "answer").tolist() == [[1, 2]]
            assert one.losses == []

    drive(story)


def test_asks_that_do_not_fit_together_are_settled_and_the_worker_stays_free(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "affine")
            results = await one.ask(tensors(values=[[1, 2, 3]]), tensors(others=[[1, 2, 3]]))
            assert [type(result) for result in results] == [FerrymanError, FerrymanError]
            assert one.worker.free == 2

    drive(story)


def test_a_reply_that_another_thread_drops_is_given_back_on_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle_affine(tmp_path / "affine")
    senders: list[str] = []
    send = Worker._send

    def note(worker: Worker, frame: bytes) -> None:
        senders.append(threading.current_thread().name)
        send(worker, frame)

    monkeypatch.setattr(Worker, "_send", note)

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "affine")
            kept = list(await one.ask(tensors(rows=10_000, values=np.ones((10_000, 3), np.float32))))
            await asyncio.sleep(0)  # until then the loop holds the future, and it the reply
            before = len(senders)
            with ThreadPoolExecutor(1) as beside:
                beside.submit(kept.clear).result()
            await until(lambda: len(senders) > before)
            assert set(senders) == {threading.current_thread().name}

    drive(story)


@pytest.mark.parametrize("megabytes", [1, 30])
def test_large_tensors_go_through_shared_memory_and_come_back_to_it(tmp_path: Path, megabytes: int) -> None:
    bundle_affine(tmp_path / "affine")
    rows = megabytes * 1024 * 1024 // 12

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "affine", arena_bytes=rows * 12 + 4096)  # for one at a time
            values = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
            for _ in range(3):
                (result,) = await one.ask(tensors(rows=rows, values=values))
                np.testing.assert_array_equal(output(result, "sum"), values * 2 + 1)

    drive(story)


def test_a_reply_that_is_kept_is_never_written_over(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "affine", arena_bytes=4 << 20)
            kept = []
            for number in range(12):  # twelve times 1.2 MB: far more than there is shared memory
                (result,) = await one.ask(tensors(rows=100_000, values=np.full((100_000, 3), number, np.float32)))
                kept.append(output(result, "sum")[5:7])
            assert [part.tolist() for part in kept] == [[[n * 2 + 1] * 3] * 2 for n in range(12)]

    drive(story)


def test_a_job_that_does_not_fit_is_refused_and_the_next_is_answered(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "affine", arena_bytes=1 << 20)
            (refused,) = await one.ask(tensors(rows=100_000, values=np.ones((100_000, 3), np.float32)))
            assert isinstance(refused, Overloaded)
            (result,) = await one.ask(tensors(rows=10_000, values=np.ones((10_000, 3), np.float32)))
            assert output(result, "sum").shape == (10_000, 3)
            assert one.worker.free == 2

    drive(story)


def test_free_counts_the_jobs_inside(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "affine")
            assert one.worker.free == 2
            assert one.worker.oldest_job_s(0.0) == 0.0
            futures = [one.begin(tensors(values=[[1, 2, 3]])) for _ in range(2)]
            assert one.worker.free == 0
            for future in futures:
                await future
            await until(lambda: one.frees == [1, 2])
            assert one.worker.rss_bytes() > 1 << 20

    drive(story)


def test_shared_memory_that_a_large_request_filled_is_not_the_workers_own(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "affine", arena_bytes=1 << 28)
            resident, own = one.worker.rss_bytes(), one.worker.private_bytes()
            assert 0 < own < resident
            rows = 3_000_000
            (result,) = await one.ask(tensors(rows=rows, values=np.ones((rows, 3), np.float32)))
            assert output(result, "sum").nbytes == 12 * rows
            grown = one.worker.rss_bytes() - resident
            assert one.worker.private_bytes() - own <= grown - 12 * rows
            one.worker.kill()
            await until(lambda: one.worker.private_bytes() == 0)

    drive(story)


def test_a_bundle_that_answers_its_golden_samples_wrong_is_refused_with_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_plugin(monkeypatch)
    bundle_misbehaving(tmp_path / "one", wrong_after=0)

    async def story() -> None:
        async with zygote() as mother:
            with pytest.raises(NotReady, match=r"answers 2 of 2 golden samples wrong, first 'argument-0.25'"):
                await hire(mother, tmp_path / "one")

    drive(story)


def test_a_bundle_that_is_not_there_or_altered_is_refused(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "affine")

    async def story() -> None:
        async with zygote() as mother:
            with pytest.raises(FerrymanError, match="no bundle"):
                await hire(mother, tmp_path / "nowhere")
            load_bundle(bundle.path)
            bundle.artifact.path.write_bytes(b"swapped")
            with pytest.raises(FerrymanError, match="was changed"):
                await hire(mother, bundle.path)

    drive(story)


def test_workers_leave_no_open_files_behind(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "affine")
            await one.worker.stop(deadline_s=5)
            before = open_files()
            for _ in range(5):
                one = await hire(mother, tmp_path / "affine")
                await one.worker.stop(deadline_s=5)
                del one
            await until(lambda: open_files() <= before)

    drive(story)

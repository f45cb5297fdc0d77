"""Memory and descriptors stay where they are, however many jobs pass."""

import asyncio
import os
from collections import deque
from pathlib import Path

import numpy as np
import pytest

from tests.bundle.making import bundle_affine
from tests.server.worker.driving import Driven, drive, hire, open_files, output, tensors, zygote

_WARM, _JOBS = 2_000, 20_000
_LARGE_EVERY = 50


@pytest.mark.slow
def test_twenty_thousand_jobs_leave_memory_and_descriptors_as_they_were(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")

    async def pass_jobs(one: Driven, count: int) -> None:
        waiting: deque[asyncio.Future[object]] = deque()
        small = np.ones((1, 3), np.float32)
        large = np.ones((20_000, 3), np.float32)
        for number in range(count):
            if len(waiting) == 2:
                await waiting.popleft()
            is_large = number % _LARGE_EVERY == 0
            asks = [tensors(rows=20_000, values=large)] if is_large else [tensors(values=small) for _ in range(8)]
            waiting.append(one.begin(*asks))  # type: ignore[arg-type]  # futures are invariant
        for future in waiting:
            await future

    async def story() -> None:
        async with zygote() as mother:
            one = await hire(mother, tmp_path / "affine")
            await pass_jobs(one, _WARM)
            before = (_rss_bytes(), one.worker.rss_bytes(), open_files(), _files_of(one.worker.pid))
            await pass_jobs(one, _JOBS)
            after = (_rss_bytes(), one.worker.rss_bytes(), open_files(), _files_of(one.worker.pid))
            assert after[0] - before[0] < 8 << 20
            assert after[1] - before[1] < 8 << 20
            assert after[2:] == before[2:]
            assert output((await one.ask(tensors(values=[[1, 2, 3]])))[0], "sum").tolist() == [[3, 5, 7]]

    drive(story)


def _rss_bytes() -> int:
    with open("/proc/self/statm", "rb") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _files_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))

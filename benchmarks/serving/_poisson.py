"""Ask at random times that don't wait for answers, and count each from the time at which it should have been asked."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.serving._asks import Ask
from benchmarks.serving._theory import arrivals, in_turn

LOAD = 0.7
_ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Hold what an open loop gave; `fifo_ms` is what the same arrivals would take served in turn, each as long."""

    rate: float
    took_ms: list[float]
    failed: int
    fifo_ms: list[float]


def ask_at_random(ask: Ask, *, port: int, capacity: float, seconds: float, seed: int) -> Arrivals:
    """Ask at `LOAD` of the capacity for about `seconds`."""
    rate = LOAD * capacity
    times = arrivals(rate, count=max(20, math.ceil(rate * seconds)), seed=seed)
    took = asyncio.run(_Caller(ask, port).run(times.tolist()))
    good = [each * 1e3 for each in took if not math.isnan(each)]
    fifo = [each * 1e3 for each in in_turn(times, 1 / capacity)]
    return Arrivals(rate, good, len(took) - len(good), fifo)


class _Caller:
    """Keep connections that nobody uses, so that one is opened only where all are busy."""

    def __init__(self, ask: Ask, port: int) -> None:
        head = [f"POST {ask.path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(ask.body)}"]
        head += [f"{name}: {value}" for name, value in ask.headers.items()]
        self._request = "\r\n".join([*head, "", ""]).encode() + ask.body
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def run(self, times: list[float]) -> list[float]:
        """Ask at each time; gives the seconds each took from then on, nan where it failed."""
        loop = asyncio.get_running_loop()
        start = loop.time() + 0.05
        asked = []
        for time_s in times:
            await asyncio.sleep(max(0.0, start + time_s - loop.time()))
            asked.append(asyncio.create_task(self._ask(start + time_s)))
        took = await asyncio.gather(*asked)
        for _, writer in self._idle:
            writer.close()
        return took

    async def _ask(self, due: float) -> float:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_ANSWER_S):
                pair = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
                pair[1].write(self._request)
                status = await _read_answer(pair[0])
        except (OSError, EOFError, ValueError, TimeoutError):
            return math.nan
        self._idle.append(pair)
        return loop.time() - due if status == 200 else math.nan


async def _read_answer(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    await _skip_body(reader, headers)
    return int(first.split()[1])


async def _skip_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> None:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        await reader.readexactly(int(headers.get("content-length", 0)))
        return
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        await reader.readexactly(size + 2)
    await reader.readuntil(b"\r\n")

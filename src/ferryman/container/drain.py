"""Stop a container while it is asked: what it took it must answer, and then end by itself, in time and well."""

import asyncio
import time
from dataclasses import dataclass, field

from ferryman.client.load.connection import Connection
from ferryman.container.container import Container, State
from ferryman.container.outcome import Fails, Figure, Finding
from ferryman.container.visit import READY, Visit

_CALLERS = 8
_BEFORE_S = 1.0
_PROBE_S = 0.02
_ANSWER_S = 20.0
_REFUSALS = (429, 503)


@dataclass(slots=True)
class Sent:
    """Count what became of each request; one that found no connection was never sent."""

    sent: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    lost: int = 0
    after_signal: int = 0
    statuses: dict[int, int] = field(default_factory=dict)

    def settle(self, status: int) -> None:
        """Count one request's end; status 0 stands for no answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 200:
            self.answered += 1
        elif status == 0:
            self.lost += 1
        elif status in _REFUSALS:
            self.refused += 1
        else:
            self.failed += 1


def drain(visit: Visit) -> Finding:
    """Send SIGTERM under load, as a platform does that moves a container, and stop asking once it is unready."""
    requests, container = visit.questions.requests(visit.live.url), visit.live
    sent, stopped_s = asyncio.run(ask_while_it_stops(container, requests, visit.settings.grace_s))
    state = container.wait(max(visit.settings.grace_s - (time.monotonic() - stopped_s), 0.5))
    took_s = time.monotonic() - stopped_s
    figures: dict[str, Figure] = {
        "sent": sent.sent, "answered": sent.answered, "refused": sent.refused, "failed": sent.failed,
        "lost": sent.lost, "sent_after_sigterm": sent.after_signal, "stopped_after_s": round(took_s, 2),
    }  # fmt: skip
    told = f"{sent.sent} sent, {sent.answered} answered, {sent.refused} refused, {sent.lost} lost"
    _must_have_ended(state, visit.settings.grace_s, told, {**figures, "exit_code": state.exit_code})
    if sent.lost or sent.failed:
        raise Fails(f"{told}; {sent.failed} failed", hint="finish what runs before the port is closed", figures=figures)
    return Finding(f"{told}; exit code 0 after {took_s:.1f} s", {**figures, "exit_code": 0})


def _must_have_ended(state: State, grace_s: float, told: str, figures: dict[str, Figure]) -> None:
    if state.is_running:
        raise Fails(
            f"{told}; {grace_s:g} s after SIGTERM it still runs",
            hint="handle SIGTERM: as PID 1 there is no default; ENTRYPOINT in exec form, as a shell passes nothing on",
            figures=figures,
        )
    if state.exit_code:
        raise Fails(f"{told}; exit code {state.exit_code} after SIGTERM", hint="end with 0 where nothing went wrong",
                    figures=figures)  # fmt: skip


async def ask_while_it_stops(container: Container, requests: list[bytes], grace_s: float) -> tuple[Sent, float]:
    """Ask without a pause, send SIGTERM, and go on until it is unready; gives the counts, and when the signal went."""
    sent, is_asking, is_signalled = Sent(), asyncio.Event(), asyncio.Event()
    is_asking.set()
    # docker's proxy takes connections for a server that takes none any more: they would look lost.
    link = await _connect(container.inside) if container.inside[0] else None
    address = container.inside if link is not None else ("127.0.0.1", container.port)
    if link is not None:
        link.close()
    callers = [
        asyncio.create_task(_call(address, requests, place, sent, (is_asking, is_signalled)))
        for place in range(_CALLERS)
    ]
    await asyncio.sleep(_BEFORE_S)
    stopped_s = time.monotonic()
    is_signalled.set()
    await asyncio.to_thread(container.signal, "TERM")
    await _until_unready(address, stopped_s + grace_s)
    is_asking.clear()
    await asyncio.gather(*callers)
    return sent, stopped_s


async def _until_unready(address: tuple[str, int], deadline_s: float) -> None:
    """Probe readiness as a load balancer does, only more often."""
    request = f"GET {READY} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    while time.monotonic() < deadline_s:
        link = await _connect(address)
        if link is None or await link.ask(request, timeout_s=1.0) != 200:
            return
        link.close()
        await asyncio.sleep(_PROBE_S)


async def _call(
    address: tuple[str, int], requests: list[bytes], place: int, sent: Sent, events: tuple[asyncio.Event, asyncio.Event]
) -> None:
    is_asking, is_signalled = events
    link: Connection | None = None
    turn = place
    while is_asking.is_set():
        if link is None or not link.is_open:
            link = await _connect(address)
        if link is None:
            await asyncio.sleep(_PROBE_S)
            continue
        sent.sent += 1
        sent.after_signal += is_signalled.is_set()
        sent.settle(await link.ask(requests[turn % len(requests)], timeout_s=_ANSWER_S))
        turn += 1
    if link is not None:
        link.close()


async def _connect(address: tuple[str, int]) -> Connection | None:
    try:
        async with asyncio.timeout(2):
            _, link = await asyncio.get_running_loop().create_connection(Connection, *address)
    except (OSError, TimeoutError):
        return None
    return link

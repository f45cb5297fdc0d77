"""Ten times more than a model can do, and clients that never finish what they begin."""

import os
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bundle.making import bundle_affine
from tests.chaos.counts import Report, quantile_ms
from tests.chaos.load import HttpLoad, Target
from tests.chaos.questions import affine, order
from tests.chaos.serving import Serving, serving
from tests.server.misbehaving import SLEEP, bundle_misbehaving
from tests.server.running import wait_until

CALL_S = 0.02
QUEUE = 8
LASTS_S = 60.0 if os.environ.get("FERRYMAN_LONG") else 12.0
LORIS = 200


@pytest.mark.slow
def test_ten_times_overload_keeps_accepted_requests_quick_and_refuses_the_rest_at_once(
    tmp_path: Path, report: Report
) -> None:
    bundle = bundle_misbehaving(tmp_path / "slow")
    rate_rps = 10 / CALL_S
    with serving([bundle.path], "--max-batch", "1", "--max-queue", str(QUEUE)) as server:
        questions = order(SLEEP, CALL_S)
        before_rps = _unhurried_rps(server)
        with HttpLoad(Target(server.port), questions, callers=512, rate_rps=rate_rps) as http:
            began_s = time.monotonic()
            while time.monotonic() < began_s + LASTS_S:
                asked_s = time.monotonic()
                assert server.ask("GET", "/v2/health/ready")[0] == 200
                time.sleep(max(0.2 - (time.monotonic() - asked_s), 0))  # the pace of a probe, no wait for anything
            http.counts.hurt()
        counts = http.counts
        after_rps = _unhurried_rps(server)
    accepted_ms, refused_ms = quantile_ms(counts.answered_s, 0.99), quantile_ms(counts.refused_s, 0.5)
    # By Little's law: who finds the queue full to the last place waits for so many calls, at the pace of that time.
    queued_ms = 1e3 * (QUEUE + 3) / (counts.answered / LASTS_S)
    note = (
        f"accepted: p99 {accepted_ms} ms of {queued_ms:.0f} that the queue allows; "
        f"refusals: p50 {refused_ms}, p99 {quantile_ms(counts.refused_s, 0.99)} ms"
    )
    counts.hurt_s = 0.0
    report.add(f"10x overload for {LASTS_S:.0f} s", counts, note)
    assert (counts.lost, counts.wrong, counts.failed) == (0, 0, {}), counts.examples
    assert counts.answered > 0.25 * LASTS_S * min(before_rps, after_rps), "it does hardly any work"
    assert counts.refused > 5 * counts.answered
    # A machine that stands still for a second hurts all who wait just then, a dozen of some hundred: no p99 is judged.
    half_ms = quantile_ms(counts.answered_s, 0.5)
    assert half_ms < 2 * queued_ms
    assert refused_ms < 1e3 * CALL_S, "who is refused had to wait"
    assert quantile_ms(counts.refused_s, 0.9) < half_ms


def _unhurried_rps(server: Serving) -> float:
    """Give how many calls a second it answers to one caller; all must be answered."""
    began_s = time.monotonic()
    with HttpLoad(Target(server.port), order(SLEEP, CALL_S), callers=1) as load:
        load.wait_for_answers(50)
    assert load.counts.answered == load.counts.sent
    return load.counts.answered / (time.monotonic() - began_s)


@pytest.mark.slow
def test_two_hundred_slow_clients_are_cut_and_others_don_t_notice(tmp_path: Path, report: Report) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    head = b"POST /v2/models/affine/infer HTTP/1.1\r\nHost: chaos\r\n"
    begins = [
        head,  # and never an end of the headers
        head + b"Content-Length: 1000000\r\n\r\n",  # and hardly a body
        b"PRI * HTTP/2.0\r\n\r\nSM",  # and never the rest
        b"",
    ]
    with serving([bundle.path]) as server, HttpLoad(Target(server.port), affine()) as http:
        http.wait_for_answers(50)
        http.counts.hurt()
        began_s = time.monotonic()
        with ExitStack() as stack:
            links = [stack.enter_context(socket.create_connection(server.host_and_port)) for _ in range(LORIS)]
            for place, link in enumerate(links):
                link.setblocking(False)
                link.sendall(begins[place % len(begins)])
            cut_after_s = dribble(links, began_s)
        http.wait_for_answers(50)
    report.add(f"{LORIS} slow clients", http.counts, f"all of them were cut after {cut_after_s:.1f} s")
    assert http.counts.answered == http.counts.sent


def dribble(links: list[socket.socket], began_s: float) -> float:
    """Send a byte a second on each until the server has closed all; gives after how long it had."""
    open_links = set(links)
    next_s = time.monotonic()

    def is_over() -> bool:
        nonlocal next_s
        if time.monotonic() >= next_s:
            next_s += 1.0
            for link in list(open_links):
                if is_cut(link):
                    open_links.discard(link)
                    link.close()
        return not open_links

    wait_until(is_over, timeout_s=60)
    return time.monotonic() - began_s


def is_cut(link: socket.socket) -> bool:
    """Send one more byte; tells whether the server has closed."""
    try:
        link.send(b"x")
        while link.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True

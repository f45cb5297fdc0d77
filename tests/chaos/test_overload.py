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
from tests.chaos.serving import serving
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
        with HttpLoad(Target(server.port), questions, callers=512, rate_rps=rate_rps) as http:
            began_s = time.monotonic()
            while time.monotonic() < began_s + LASTS_S:
                asked_s = time.monotonic()
                assert server.ask("GET", "/v2/health/ready")[0] == 200
                time.sleep(max(0.2 - (time.monotonic() - asked_s), 0))  # the pace of a probe, no wait for anything
            http.counts.hurt()
        counts = http.counts
        with HttpLoad(Target(server.port), questions, callers=1) as after:
            after.wait_for_answers(10)
    accepted_ms, refused_ms = quantile_ms(counts.answered_s, 0.99), quantile_ms(counts.refused_s, 0.5)
    note = (
        f"accepted: p99 {accepted_ms} ms of {CALL_S * 1e3 * (QUEUE + 3):.0f} that the queue allows; "
        f"refusals: p50 {refused_ms}, p99 {quantile_ms(counts.refused_s, 0.99)} ms"
    )
    counts.hurt_s = 0.0
    report.add(f"10x overload for {LASTS_S:.0f} s", counts, note)
    assert (counts.lost, counts.wrong, counts.failed) == (0, 0, {}), counts.examples
    assert counts.answered > 0.5 * LASTS_S / CALL_S, "it did not stop to work"
    assert counts.refused > 5 * counts.answered
    assert accepted_ms < 1e3 * CALL_S * (QUEUE + 3) * 3
    assert refused_ms < 5
    assert quantile_ms(counts.refused_s, 0.99) < 100
    assert after.counts.answered == after.counts.sent


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

import asyncio
import socket
from typing import Any

import orjson
import pytest

from ferryman.core.errors import Overloaded
from ferryman.server.data.ask import Ask, Reply, Stages
from ferryman.server.data.look import Look, Place
from ferryman.server.data.watch.post import Post
from ferryman.server.watching.letters import read_looks, read_records


class Pair:
    """Hold a post and the far end of its socket."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.theirs.setblocking(False)
        self.post = Post(asyncio.get_running_loop(), ours)
        self._ours = ours

    def letters(self) -> list[tuple[int, int, dict[str, Any]]]:
        """Give what has come: the records before each letter, its own, and its content."""
        found: list[tuple[int, int, dict[str, Any]]] = []
        while True:
            try:
                head, _, body = self.theirs.recv(1 << 20).partition(b"\n")
            except BlockingIOError:
                return found
            before, records = head.split()
            found.append((int(before), int(records), orjson.loads(body)))

    def close(self) -> None:
        self.post.close()
        self._ours.close()
        self.theirs.close()


def ask(number: int, look: Look | None = None) -> Ask:
    made = Ask("street", None, lambda reply, error: None, id=f"r{number}", rows=2)
    made.note = Place(look, number) if look is not None else None
    return made


def test_facts_and_what_a_worker_saw_are_put_together() -> None:
    async def scenario() -> None:
        pair = Pair()
        look = Look(pair.post.seen)
        stages = Stages(0.1, 0.2, 0.3, 0.4, 2, 4)
        for number in range(2):
            pair.post.heard(ask(number, look), "street", "1", Reply({}, stages=stages), None, 0.5)
        look.tell(orjson.dumps({"p": [[0, 2], [1, 2]], "c": {"confidence": [0.1, 0.2, 0.3, 0.4]}, "t": 0.001}))
        pair.post.flush()
        [(before, count, letter)] = pair.letters()
        [seen] = read_looks(letter["looks"])
        assert (before, count, seen.looking_s) == (0, 2, 0.001)
        assert [(record.id, record.columns) for record in seen.records] == [
            ("r0", {"confidence": [0.1, 0.2]}),
            ("r1", {"confidence": [0.3, 0.4]}),
        ]
        record = seen.records[0]
        assert (record.model, record.version, record.outcome, record.total_s) == ("street", "1", "ok", 0.5)
        assert (record.queue_s, record.prepare_s, record.infer_s, record.finish_s) == (0.1, 0.2, 0.3, 0.4)
        assert (record.asks, record.rows) == (2, 2)
        pair.close()

    asyncio.run(scenario())


def test_of_what_nobody_looked_into_only_errors_are_kept() -> None:
    async def scenario() -> None:
        pair = Pair()
        pair.post.heard(ask(0), "street", "1", Reply({}), None, 0.5)
        pair.post.heard(ask(1), "street", "1", None, Overloaded("too many"), 0.5)
        pair.post.flush()
        [(_, count, letter)] = pair.letters()
        assert (count, pair.post.left_out) == (1, 1)
        assert [(record.id, record.outcome) for record in read_records(letter["records"])] == [("r1", "overloaded")]
        pair.close()

    asyncio.run(scenario())


def test_a_call_whose_worker_died_leaves_facts_without_signals() -> None:
    async def scenario() -> None:
        pair = Pair()
        look = Look(pair.post.seen)
        pair.post.heard(ask(0, look), "street", "1", Reply({}), None, 0.5)
        look.tell(b"")
        pair.post.flush()
        [(_, _, letter)] = pair.letters()
        assert [record.id for record in read_records(letter["records"])] == ["r0"]
        pair.close()

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_watch_that_reads_nothing_costs_records_and_bounded_memory_and_each_is_counted() -> None:
    async def scenario() -> None:
        pair = Pair()
        asked = 200_000
        for number in range(asked):
            pair.post.heard(ask(number), "street", "1", None, Overloaded("too many"), 0.5)
        pair.post.flush()
        lost = pair.post.lost["queue_full"]
        assert asked // 2 < lost < asked
        came = 0
        while letters := pair.letters():
            for before, count, _ in letters:
                assert before == came
                came += count
            pair.post.flush()
        assert came + lost == asked
        pair.close()

    asyncio.run(scenario())

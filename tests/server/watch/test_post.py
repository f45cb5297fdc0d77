import asyncio
import socket
import time
from typing import Any

import orjson
import pytest

from ferryman.core.errors import Overloaded
from ferryman.server.data.ask import Ask, Reply, Stages
from ferryman.server.data.look import Look, Place
from ferryman.server.data.watch.post import Post
from ferryman.server.watching.letters import read_looks, read_records
from ferryman.server.watching.packets import MOST_PACKET_BYTES, Joining, split


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

    def more_letters(self) -> list[tuple[int, int, dict[str, Any]]]:
        self.post.flush()
        return self.letters()

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


def test_long_ids_are_cut_and_cost_nobody_else_a_record() -> None:
    async def scenario() -> None:
        pair = Pair()
        for number in range(400):
            long = ask(number)
            long.id = f"{number}-" + "\N{SNOWMAN}" * 170_000
            pair.post.heard(long, "street", "1", None, Overloaded("too many"), 0.5)
        pair.post.flush()
        letters = pair.letters()
        while more := pair.more_letters():
            letters += more
        records = [record for _, _, letter in letters for record in read_records(letter["records"])]
        assert len(letters) > 1
        assert [record.id.split("-")[0] for record in records] == [str(number) for number in range(400)]
        assert not pair.post.lost
        pair.close()

    asyncio.run(scenario())


def test_what_is_watched_is_told_however_full_the_queue_is() -> None:
    async def scenario() -> None:
        pair = Pair()
        while pair.post.tell("figures", "x" * 100_000):
            pass
        assert pair.post.tell("watched", ["street"])
        kinds = [key for _, _, letter in pair.letters() for key in letter]
        while more := pair.more_letters():
            kinds += [key for _, _, letter in more for key in letter]
        assert kinds.pop() == "watched"
        assert not pair.post.tell("question", "x" * 200_000)
        pair.close()

    asyncio.run(scenario())


def test_a_clock_that_is_set_right_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        pair = Pair()
        now_s = time.time()
        for later_s in (0.0, 3.6e8):
            monkeypatch.setattr(time, "time", lambda later_s=later_s: now_s + later_s)
            pair.post.flush()
            made = ask(1)
            made.arrived_s = asyncio.get_running_loop().time()
            pair.post.heard(made, "street", "1", None, Overloaded("too many"), 0.5)
        pair.post.flush()
        before, after = (record.at_s for _, _, each in pair.letters() for record in read_records(each["records"]))
        assert after - before == pytest.approx(3.6e8, abs=5)
        pair.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [0, 1, 128_000, 128_001, 1_000_000])
def test_long_words_of_the_watch_come_whole(size: int) -> None:
    message, joining = bytes(index % 251 for index in range(size)), Joining()
    packets = list(split(message))
    assert max(map(len, packets)) <= MOST_PACKET_BYTES
    *before, last = [joining.add(packet) for packet in packets]
    assert before == [None] * len(before)
    assert last == message

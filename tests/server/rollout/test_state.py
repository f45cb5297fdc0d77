import asyncio
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ferryman.core.errors import ConfigError
from ferryman.server.control.state import State, StateNotWritten

WRITER = """
import asyncio, sys
from pathlib import Path
from ferryman.server.control.state import State

async def write():
    state = State(Path(sys.argv[1]))
    for number in range(1_000_000):
        await state.put("number", {"is": number, "filler": "x" * 20_000})
        print(number, flush=True)

asyncio.run(write())
"""


async def test_values_outlive_the_server(tmp_path: Path) -> None:
    state = State(tmp_path / "new" / ".ferryman")
    await state.put("active", {"street": "2"})
    await state.put("gone", 1)
    await state.put("gone", None)
    state.close()
    again = State(tmp_path / "new" / ".ferryman")
    assert again.get("active") == {"street": "2"}
    assert again.get("gone") is None


async def test_nothing_is_written_before_the_first_change(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    assert state.get("active") is None
    assert not (tmp_path / "state").exists()


async def test_what_the_caller_changes_later_is_not_remembered(tmp_path: Path) -> None:
    state = State(tmp_path)
    value = {"street": "2"}
    await state.put("active", value)
    value["street"] = "3"
    assert state.get("active") == {"street": "2"}


async def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    state = State(tmp_path)
    await asyncio.gather(*(state.put(f"key-{number}", number) for number in range(50)))
    state.close()
    again = State(tmp_path)
    assert [again.get(f"key-{number}") for number in range(50)] == list(range(50))


async def test_a_cancelled_change_leaves_memory_and_file_alike(tmp_path: Path) -> None:
    state = State(tmp_path)
    await state.put("key", 1)
    change = asyncio.create_task(state.put("key", 2))
    await asyncio.sleep(0)
    change.cancel()
    await asyncio.gather(change, return_exceptions=True)
    await state.put("other", 3)
    assert json.loads(state.path.read_text())["values"]["key"] == state.get("key")


def test_a_server_killed_while_it_writes_leaves_a_whole_file_with_the_last_change(tmp_path: Path) -> None:
    for round_ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(20 + round_):
                told = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            told = max([told, *(int(line) for line in writer.stdout if line.endswith(b"\n"))])
        assert State(tmp_path).get("number")["is"] in (told, told + 1)  # the last may be written and not told


@contextmanager
def small_files() -> Iterator[None]:
    """Have no file grow over 4096 bytes: for as short as can be, since the test runner's own output may be a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


async def test_a_full_disk_leaves_the_old_state_and_is_told(tmp_path: Path) -> None:
    state = State(tmp_path)
    await state.put("active", {"street": "2"})
    with small_files(), pytest.raises(StateNotWritten, match="the disk is full"):
        await state.put("active", {"street": "x" * 10_000})
    assert state.get("active") == {"street": "2"}
    state.close()
    assert State(tmp_path).get("active") == {"street": "2"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json"]


async def test_a_disk_with_room_again_is_written_again(tmp_path: Path) -> None:
    (tmp_path / ".state.json.new").mkdir()  # stands for whatever is in the way
    state = State(tmp_path)
    with pytest.raises(StateNotWritten):
        await state.put("active", 1)
    (tmp_path / ".state.json.new").rmdir()
    await state.put("active", 1)
    assert State(tmp_path).get("active") == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"schema": 1}', '{"values": {}}', '{"schema": 0, "values": {}}',
        '{"schema": 1, "values": []}', '{"schema": 1, "values": {}, "more": 1}', "\xff", "[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_file_is_told_and_kept_aside(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state.json").write_bytes(text.encode("latin-1"))
    for _ in range(2):  # it is said at every start
        caplog.clear()
        state = State(tmp_path)
        assert state.get("active") is None
        assert "state.json.corrupt is damaged: chosen versions and rollouts are not known" in caplog.text
    assert (tmp_path / "state.json.corrupt").read_bytes() == text.encode("latin-1")


def test_a_file_of_a_newer_server_is_refused_and_left_alone(tmp_path: Path) -> None:
    text = '{"schema": 2, "values": {"active": {}}, "new": 1}'
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(ConfigError, match="newer ferryman"):
        State(tmp_path)
    assert (tmp_path / "state.json").read_text() == text


async def test_a_second_server_can_not_write_over_the_first_one(tmp_path: Path) -> None:
    first, second = State(tmp_path), State(tmp_path)
    await first.put("active", 1)
    with pytest.raises(StateNotWritten, match="another running server"):
        await second.put("active", 2)
    first.close()
    await second.put("active", 2)
    assert json.loads((tmp_path / "state.json").read_text())["values"] == {"active": 2}


async def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    state = State(tmp_path / "there")
    (tmp_path / "there").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StateNotWritten, match="can't be written"):
        await state.put("key", 1)
    assert state.get("key") is None


async def test_after_it_is_closed_nothing_of_it_is_written_over_what_the_next_server_keeps(tmp_path: Path) -> None:
    for number in range(20):
        state = State(tmp_path)
        last = asyncio.create_task(state.put("last", ["long"] * 50_000))
        await asyncio.sleep(0.0005 * number)
        state.close()
        again = State(tmp_path)
        await again.put("number", number)
        with suppress(StateNotWritten):
            await last
        again.close()
        assert State(tmp_path).get("number") == number

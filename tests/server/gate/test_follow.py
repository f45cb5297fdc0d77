"""A file that is followed: taken again when it changes, and once more where that failed."""

import os
import threading
from pathlib import Path

import pytest

from ferryman.core.errors import ConfigError, Unauthorized
from ferryman.server.data.gate import follow
from ferryman.server.data.gate.follow import Followed
from ferryman.server.data.gate.key_file import KeyFile, write_keys
from ferryman.server.data.gate.key_store import KeyStore
from ferryman.server.data.gate.keys import Wish, add
from tests.server.gate.test_keys import opens, until


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("old")
    return path


def test_what_could_not_be_taken_for_a_moment_is_tried_again_and_told_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[Exception] = []
    taken: list[str] = []

    def take(path: Path) -> str:
        if faults:
            raise faults[0]
        taken.append(path.read_text())
        return "it"

    followed = Followed(file, take)
    file.write_text("newer")
    for fault in (ConfigError("it can't be read: denied"), RuntimeError("lost its way")):
        faults[:] = [fault]
        followed.look()
        followed.look()
        assert caplog.text.count(str(fault)) == 1
    assert taken == ["old"]
    faults.clear()
    followed.look()
    followed.look()
    assert taken == ["old", "newer"]


def test_a_file_whose_owner_or_mode_changes_is_taken_again(file: Path) -> None:
    taken: list[str] = []

    def take(path: Path) -> str:
        taken.append(path.read_text())
        return "it"

    followed = Followed(file, take)

    def is_taken_again() -> bool:
        file.chmod(0o600)
        followed.look()
        return len(taken) > 1

    until(is_taken_again)  # not at once: the file's clock is coarse


def test_nobody_waits_for_a_slow_disk_to_learn_that_a_key_is_unknown(tmp_path: Path) -> None:
    path, made = tmp_path / "keys.json", add(KeyFile(), Wish("web"))
    write_keys(path, KeyFile())
    store = KeyStore(path)
    path.unlink()
    os.mkfifo(path)  # who opens it waits for a writer, then for what is written
    reader = threading.Thread(target=store.look, daemon=True)
    reader.start()
    writers: list[int] = []

    def is_being_read() -> bool:
        try:
            writers.append(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    until(is_being_read)
    with pytest.raises(Unauthorized):
        store.find(made.token.encode())
    assert reader.is_alive()
    os.write(writers[0], made.file.model_dump_json().encode())
    os.close(writers[0])
    reader.join(10)
    assert opens(store, made.token)


def test_unknown_keys_make_the_file_be_looked_at_no_more_than_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "GLANCE_S", 3600.0)
    path = tmp_path / "keys.json"
    write_keys(path, KeyFile())
    store, first = KeyStore(path), add(KeyFile(), Wish("first"))
    write_keys(path, first.file)
    assert opens(store, first.token)
    second = add(first.file, Wish("second"))
    write_keys(path, second.file)
    assert not opens(store, second.token)
    store.look()
    assert opens(store, second.token)

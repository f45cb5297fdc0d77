"""A file that is written whole: what a kill, a full disk and a link leave of it."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ferryman.core.durable import write_whole

_WRITE_ON = """\
import sys
from pathlib import Path
from ferryman.core.durable import write_whole
number = 0
while True:
    number += 1
    write_whole(Path(sys.argv[1]), str(number % 10).encode() * 300_000)
    print(number, flush=True)
"""


def test_kills_leave_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for turn in range(8):
        program = [sys.executable, "-c", _WRITE_ON, str(path)]
        with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.003 * turn)
            process.send_signal(signal.SIGKILL)
        content = path.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1
    write_whole(path, b"after")
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_a_file_that_finds_no_room_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_whole(path, b"before")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_whole(path, b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_a_link_in_its_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / ".state.json.new").symlink_to("other")
    with pytest.raises(OSError, match="symbolic links"):
        write_whole(tmp_path / "state.json", b"mine")
    assert (tmp_path / "other").read_bytes() == b"other"


def test_its_mode_is_as_asked_for(tmp_path: Path) -> None:
    write_whole(tmp_path / "key", b"secret", mode=0o600)
    assert os.stat(tmp_path / "key").st_mode & 0o777 == 0o600

"""Isolated programs on a system that gives little, or that kills the caller."""

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.core.conftest import TINY, running, wait_until_none_runs

from ferryman.core.toolchain import Toolchain

PROGRAM = Path(__file__).with_name("program.py")
_NO_NAMESPACES = "echo 0 > /proc/sys/user/max_user_namespaces && echo 0 > /proc/sys/user/max_net_namespaces"
_BEGIN = """
import json, os, sys
from pathlib import Path
import numpy as np
from ferryman.core.errors import StepError
from ferryman.core.isolated import Worker
from ferryman.core.toolchain import Toolchain
program, given = Path(sys.argv[1]), sys.argv[2:]
def progress(stage, **news): print(json.dumps({"progress": stage}), flush=True)
worker = Worker(Toolchain(**json.loads(os.environ["TINY"])), program, progress=progress)
print(json.dumps({"folder": str(worker._folder)}), flush=True)
"""


def _caller(code: str, *words: str, within: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    tiny = json.dumps({"name": TINY.name, "summary": TINY.summary, "python": TINY.python})
    command = [*within, sys.executable, "-c", _BEGIN + textwrap.dedent(code), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TINY": tiny})


def _told(caller: "subprocess.Popen[str]") -> dict[str, Any]:
    lines, _ = caller.communicate(timeout=60)
    assert caller.returncode == 0
    return {key: value for line in lines.splitlines() for key, value in json.loads(line).items()}


def _as_root_of_little(setup: str) -> tuple[str, ...]:
    """Give a command prefix: namespaces of a user's own, in which `setup` has taken things away."""
    words = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
    script = setup + '; exec "$@"'
    if not shutil.which("unshare") or subprocess.run([*words, script, "sh", "true"], check=False).returncode:
        pytest.skip("this system has no user namespaces for us")
    return (*words, script, "sh")


@pytest.mark.parametrize("has_namespaces", [True, False])
def test_what_a_killed_caller_started_ends_and_leaves_no_tensors(tiny: Toolchain, has_namespaces: bool) -> None:
    marker = str(uuid.uuid4())
    taken = () if has_namespaces else _as_root_of_little(_NO_NAMESPACES)
    caller = _caller('worker.ask("hang", marker=given[0])', str(PROGRAM), marker, within=taken)
    assert caller.stdout is not None
    folder = Path(json.loads(caller.stdout.readline())["folder"])
    while "hanging" not in (line := caller.stdout.readline()):
        assert line, "the program has ended"
    (folder / "request-9.bin").write_bytes(b"tensors")
    deadline = time.monotonic() + 10
    while not running(marker):  # its child may not be there yet
        assert time.monotonic() < deadline
    caller.kill()
    caller.communicate()
    wait_until_none_runs(marker)
    while folder.exists():
        assert time.monotonic() < deadline + 10


@pytest.mark.parametrize("suffix", [".py", ".mjs"])
def test_a_system_without_namespaces_is_told_of_and_connections_are_still_refused(tiny: Toolchain, suffix: str) -> None:
    taken = _as_root_of_little(_NO_NAMESPACES)
    code = """
    print(json.dumps({"error": worker.ask("phone_home", host="127.0.0.1", port=int(given[0]))["error"]}))
    worker.close()
    """
    with socket.create_server(("127.0.0.1", 0)) as home:
        port = str(home.getsockname()[1])
        told = _told(_caller(code, str(PROGRAM.with_suffix(suffix)), port, within=taken))
    assert "a converter may not use the network" in told["error"]
    assert "lets a converter use the network" in told["progress"]


def test_little_shared_memory_is_left_alone_and_a_full_folder_is_an_error_with_a_way_out(
    tiny: Toolchain, tmp_path: Path
) -> None:
    small = "mount -t tmpfs -o size={} none {}"
    taken = _as_root_of_little(f"{small.format('64m', '/dev/shm')} && {small.format('1m', tmp_path)}")
    code = """
    try:
        worker.ask("double", values=np.zeros(1_000_000))
    except StepError as error:
        print(json.dumps({"error": str(error), "hint": error.hint, "left": os.listdir(os.environ["TMPDIR"])}))
    """
    told = _told(_caller(code, str(PROGRAM), within=(*taken, "env", f"TMPDIR={tmp_path}")))
    assert Path(told["folder"]).parent == tmp_path
    assert f"8 MB can't be written below {tmp_path}" in told["error"]
    assert "--shm-size" in told["hint"]
    assert told["left"] == []

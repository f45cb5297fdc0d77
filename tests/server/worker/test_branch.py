"""The zygote that is a fork of the server: what it shares, what it must not keep, and what comes after it."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ferryman.server.data.worker.branch import Branch
from tests.bundle.making import bundle_affine, bundle_model, make_affine
from tests.server.misbehaving import bundle_misbehaving, with_plugin
from tests.server.running import wait_until

_PROGRAM = r"""
import os, signal, sys, threading
from pathlib import Path
os.environ["OPENBLAS_NUM_THREADS"] = "1"
from ferryman.server.data.worker import zygote
from tests.server.worker.driving import Zygote, drive, hire, is_running, output, tensors, until

kept = open(sys.argv[1])  # what a worker has no business with
if "beside" in sys.argv:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
if "plug-in" in sys.argv:
    zygote.import_plugins = threading.Thread(target=threading.Event().wait, daemon=True).start
if "uncollected" in sys.argv:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
mother = Zygote(("numpy",))
mother.branch()

async def story():
    mother.start()
    for _ in range(2):
        one = await hire(mother, Path(sys.argv[2]))
        (reply,) = await one.ask(tensors(values=[[1, 2, 3]]))
        is_own = Path(f"/proc/{mother.pid}/cmdline").read_text().split("\0")[1] == "-m"
        files = [os.path.realpath(file) for file in Path(f"/proc/{one.worker.pid}/fd").iterdir()]
        print(is_own, output(reply, "sum").tolist(), os.path.realpath(sys.argv[1]) in files, flush=True)
        os.kill(mother.pid, signal.SIGKILL)
        await one.loss()
        await until(lambda: not is_running(one.worker.pid))

drive(story)
mother.close()
print("closed", flush=True)
"""

_WEIGHING = """
import os, sys
from pathlib import Path
os.environ["OPENBLAS_NUM_THREADS"] = "1"
from tests.server.worker.driving import Zygote, drive, hire

inherited = os.urandom(400_000_000)
mother = Zygote()
mother.branch()

async def story():
    one = await hire(mother, Path(sys.argv[1]))
    assert one.worker.rss_bytes() > len(inherited)
    print(one.worker.private_bytes(), flush=True)
    await one.worker.stop(deadline_s=5)

drive(story)
mother.close()
"""

_LOGGING = """
import logging, os, sys
from pathlib import Path
os.environ["OPENBLAS_NUM_THREADS"] = "1"
from tests.server.misbehaving import RAISE
from tests.server.worker.driving import Zygote, drive, hire, order, output

errors, sys.stderr = sys.stderr, open(Path(sys.argv[2], "errors"), "w", buffering=1)
for _ in range(12):  # so that whatever number a worker's link gets, it was one of theirs
    logging.getLogger("ferryman.server").addHandler(logging.FileHandler(Path(sys.argv[2], "log")))
answers, sys.stdout = sys.stdout, None  # as where it was closed
mother = Zygote()
mother.branch()
sys.stdout, sys.stderr = answers, errors

async def story():
    one = await hire(mother, Path(sys.argv[1]))
    for _ in range(3):
        await one.ask(order(RAISE))
        (reply,) = await one.ask(order(0, 1))
        print(output(reply, "answer").tolist(), flush=True)
    await one.worker.stop(deadline_s=5)

drive(story)
mother.close()
"""


def _told(tmp_path: Path, *words: str) -> list[str]:
    bundle = bundle_affine(tmp_path / "affine")
    (tmp_path / "kept").write_text("a")
    return _run(_PROGRAM, str(tmp_path / "kept"), str(bundle.path), *words).stdout.splitlines()


def _run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_a_branch_answers_keeps_no_file_open_and_is_replaced_by_a_process_of_its_own(tmp_path: Path) -> None:
    assert _told(tmp_path) == ["False [[3.0, 5.0, 7.0]] False", "True [[3.0, 5.0, 7.0]] False", "closed"]


@pytest.mark.parametrize("beside", ["beside", "plug-in"])
def test_a_process_of_several_threads_is_not_forked(tmp_path: Path, beside: str) -> None:
    assert _told(tmp_path, beside) == ["True [[3.0, 5.0, 7.0]] False", "True [[3.0, 5.0, 7.0]] False", "closed"]


def test_where_the_system_collects_ended_processes_a_branch_ends_well(tmp_path: Path) -> None:
    assert _told(tmp_path, "uncollected")[-1] == "closed"


def test_what_a_worker_inherited_is_not_its_own(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    done = _run(_WEIGHING, str(bundle.path))
    assert int(done.stdout) < 200_000_000, done


def test_a_worker_writes_into_no_file_that_was_its_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_plugin(monkeypatch)
    bundle = bundle_misbehaving(tmp_path / "one")
    done = _run(_LOGGING, str(bundle.path), str(tmp_path))
    assert done.stdout.splitlines() == ["[[1.0, 2.0]]"] * 3, done
    assert done.stderr.count("RuntimeError: told to raise") == 3
    assert [(tmp_path / name).read_text() for name in ("errors", "log")] == ["", ""]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_serve_needs_no_standard_files(tmp_path: Path, closed: str) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    with _served(bundle.path, tmp_path, closed) as (process, _):
        wait_until(lambda: any(_children(child) for child in _children(process.pid)))
        files = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)]
        assert not any(file.startswith(("socket:", "anon_inode:")) for file in files), files
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_setting_of_the_c_library_that_is_no_number_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "")
    bundle = bundle_affine(tmp_path / "affine")
    with _served(bundle.path, tmp_path) as (process, _):
        (mother,) = _children(process.pid)
        assert "zygote_main" not in Path(f"/proc/{mother}/cmdline").read_text()
        assert "ValueError" not in (tmp_path / "stderr").read_text()


def test_serve_shares_what_it_has_imported_with_its_workers(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    with _served(bundle.path, tmp_path) as (process, ready):
        assert ready["url"]
        (mother,) = _children(process.pid)
        (worker,) = [pid for pid in _children(mother) if _name(pid) == "ferryman-worker"]
        assert "zygote_main" not in Path(f"/proc/{mother}/cmdline").read_text()
        assert _sharing(worker) > 20_000_000  # numpy, pydantic, and what is made of them at import
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in (mother, worker)))


def test_a_worker_writes_each_line_of_its_log_once(tmp_path: Path) -> None:
    model = make_affine(tmp_path / "model")
    bundle = bundle_model(tmp_path / "unchecked", model, {"kind": "tensor"}, [], name="unchecked")
    with _served(bundle.path, tmp_path):
        assert (tmp_path / "stderr").read_text().count("has no golden samples") == 1


def test_the_end_of_a_branch_is_known() -> None:
    pid = os.fork()
    if not pid:
        os._exit(3)
    branch = Branch(pid)
    assert branch.wait(20) == 3
    branch.kill()  # of a process that has ended already: nothing
    assert branch.poll() == 3


def test_waiting_for_a_branch_that_goes_on_has_an_end() -> None:
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)
    branch = Branch(pid)
    with pytest.raises(subprocess.TimeoutExpired):
        branch.wait(0.01)
    branch.kill()
    assert branch.wait(20) == -signal.SIGKILL


@contextmanager
def _served(bundle: Path, folder: Path, closed: str = "") -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    words = [sys.executable, "-m", "ferryman", "serve", str(bundle), "--port", "0", "--json", "--access-log", "off"]
    command = ["/bin/sh", "-c", f"exec {shlex.join(words)} {closed}"]
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        yield process, json.loads(line or "{}")
    finally:
        process.kill()
        process.communicate(timeout=20)


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _children(pid: int) -> list[int]:
    tasks = os.listdir(f"/proc/{pid}/task")
    texts = [Path(f"/proc/{pid}/task/{task}/children").read_text() for task in tasks]
    return [int(child) for text in texts for child in text.split()]


def _sharing(pid: int) -> int:
    """Give the bytes of its own memory that others have, too."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
    return sizes["Anonymous"] - sizes["Private_Dirty"]

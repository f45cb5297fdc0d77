"""Adding toolchains: whole or not at all, once, and with errors that say what to do."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ferryman.build.toolchain import add_toolchain, describe, remove_toolchain, with_bases
from ferryman.core import toolchain as declared
from ferryman.core.errors import FerrymanError, PlanError
from ferryman.core.isolated import Worker
from ferryman.core.plugins import plugins
from ferryman.core.toolchain import RECORD, Toolchain, toolchains

EMPTY = Toolchain("empty", "Nothing but Python.", python=("six==1.17.0",), expected_mb=20)
PROGRAM = Path(__file__).parents[1] / "core" / "program.py"


ADDS_EMPTY = (
    "from ferryman.build.toolchain import add_toolchain\n"
    "from tests.build.test_toolchain import EMPTY\n"
    "add_toolchain(EMPTY)\n"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FERRYMAN_TOOLCHAINS", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.mark.slow
def test_what_was_made_is_told_found_again_and_removed(folder: Path) -> None:
    stages: list[str] = []
    made = add_toolchain(EMPTY, progress=lambda stage, **_: stages.append(stage))
    assert made.is_installed
    assert made.packages is not None
    assert made.packages["six"] == "1.17.0"
    assert made.mb > 1
    assert any("Collecting six" in stage or "Installing" in stage for stage in stages)
    stages.clear()
    assert add_toolchain(EMPTY, progress=lambda stage, **_: stages.append(stage)) == made
    assert not stages
    assert remove_toolchain(EMPTY, dry_run=True) == pytest.approx(made.mb, rel=0.1)
    assert describe(EMPTY).is_installed
    assert remove_toolchain(EMPTY) > 1
    assert not describe(EMPTY).is_installed
    assert not [path for path in folder.iterdir() if path.is_dir()]


@pytest.mark.slow
def test_another_pin_is_another_environment(folder: Path) -> None:
    add_toolchain(EMPTY)
    newer = Toolchain("empty", "Nothing but Python.", python=("six==1.16.0",))
    assert not newer.is_installed
    assert add_toolchain(newer).folder != str(EMPTY.folder)
    assert EMPTY.is_installed


@pytest.mark.slow
def test_a_toolchain_sees_the_packages_of_its_base(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Toolchain("base", "Numpy.", python=("numpy==2.4.6",))
    upper = Toolchain("upper", "Six beside it.", python=("six==1.17.0",), base="base")
    monkeypatch.setattr(declared, "toolchains", lambda: {"base": base, "upper": upper})
    for one in with_bases(["upper"]):
        add_toolchain(one)
    assert describe(upper).packages == {**(describe(upper).packages or {}), "six": "1.17.0"}
    assert "numpy" not in (describe(upper).packages or {})
    with Worker(upper, PROGRAM) as worker:
        assert worker.ask("double", values=np.ones(2))["values"].tolist() == [2.0, 2.0]
    remove_toolchain(base)
    assert not upper.is_installed


@pytest.mark.slow
def test_a_pin_that_can_not_be_had_is_told_with_the_last_lines(folder: Path) -> None:
    wrong = Toolchain("wrong", "None.", python=("six==999.0",), hint="set PIP_EXTRA_INDEX_URL")
    with pytest.raises(FerrymanError, match=r"six==999\.0") as told:
        add_toolchain(wrong)
    assert "PIP_EXTRA_INDEX_URL" in told.value.hint
    assert not wrong.folder.exists()


@pytest.mark.slow
def test_a_run_that_was_killed_leaves_nothing_that_counts(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ADDS_EMPTY], cwd=Path(__file__).parents[2], start_new_session=True
    )
    deadline = time.monotonic() + 30
    while not (EMPTY.folder / "bin").exists():
        assert time.monotonic() < deadline
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (EMPTY.folder / RECORD).exists()
    assert not EMPTY.is_installed
    assert add_toolchain(EMPTY).is_installed


@pytest.mark.slow
def test_nobody_begins_anew_while_an_orphaned_installer_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as index:  # it takes pip's request, and never answers
        index.settimeout(60)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{index.getsockname()[1]}/")
        adding = subprocess.Popen([sys.executable, "-c", ADDS_EMPTY], cwd=Path(__file__).parents[2])
        asked, _ = index.accept()
        installer = int(Path(f"/proc/{adding.pid}/task/{adding.pid}/children").read_text().split()[0])
        adding.kill()
        adding.wait()
        try:
            with EMPTY.folder.with_suffix(".lock").open("w") as lock:
                with pytest.raises(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.killpg(installer, signal.SIGKILL)
                assert _locks_by(lock.fileno(), time.monotonic() + 30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(installer, signal.SIGKILL)
            asked.close()


def _locks_by(descriptor: int, deadline: float) -> bool:
    while time.monotonic() < deadline:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


@pytest.mark.slow
def test_settings_that_send_packages_elsewhere_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PIP_DRY_RUN", "1")
    assert (add_toolchain(EMPTY).packages or {})["six"] == "1.17.0"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_a_pin_that_went_elsewhere_is_named_and_nothing_counts_as_made(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text(f"[install]\ntarget = {tmp_path / 'elsewhere'}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    with pytest.raises(FerrymanError, match=r"six==1\.17\.0 is not in .*/empty-py") as told:
        add_toolchain(EMPTY)
    assert "pip config list" in told.value.hint
    assert not EMPTY.folder.exists()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("npm"), reason="NOT TESTED: npm is not installed")
def test_what_npm_installed_is_recorded_whole_and_a_pin_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("npm_config_dry_run", "true")
    monkeypatch.setenv("NPM_CONFIG_GLOBAL", "true")
    with pytest.raises(FerrymanError, match=r"whatwg-url@~5\.0 is not in .*/url-py") as told:
        add_toolchain(Toolchain("url", "Loose.", node=("whatwg-url@~5.0",)))
    assert "npm config list" in told.value.hint
    packages = add_toolchain(Toolchain("url", "Pinned.", node=("whatwg-url@5.0.0",))).packages or {}
    assert packages["node_modules/whatwg-url"] == "5.0.0"
    assert {"node_modules/tr46", "node_modules/webidl-conversions"} < set(packages)


DAMAGED = ["", "[]", "null", '"made"', "{}", '{"digest": "0"}', "[" * 100_000, b"\xff\xfe"]


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_record_is_none(text: str | bytes) -> None:
    _pretend(EMPTY, text)
    assert not EMPTY.is_installed
    assert not describe(EMPTY).is_installed
    assert describe(EMPTY).packages is None


@pytest.mark.parametrize("wrong", [{"mb": "much"}, {"seconds": None}, {"packages": ["six"]}, {"digest": "0" * 64}])
def test_a_record_counts_only_where_all_in_it_is_right(wrong: dict[str, object]) -> None:
    right = {"digest": EMPTY.digest, "packages": {"six": "1.17.0"}, "mb": 20, "seconds": 1.5}
    _pretend(EMPTY, json.dumps(right | wrong))
    assert not describe(EMPTY).is_installed
    (EMPTY.folder / RECORD).write_text(json.dumps(right))
    assert describe(EMPTY).is_installed
    EMPTY.interpreter.unlink()
    assert not describe(EMPTY).is_installed, "its Python is gone"


def _pretend(toolchain: Toolchain, record: str | bytes) -> None:
    toolchain.interpreter.parent.mkdir(parents=True)
    toolchain.interpreter.symlink_to(sys.executable)
    (toolchain.folder / RECORD).write_bytes(record if isinstance(record, bytes) else record.encode())


def test_another_lock_of_npm_is_another_environment(tmp_path: Path) -> None:
    (tmp_path / "package-lock.json").write_text("{}")
    assert replace(EMPTY, node_lock=tmp_path / "package-lock.json").folder != EMPTY.folder


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: only root may mount a small disk")
@pytest.mark.slow
def test_a_full_disk_is_told_with_what_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("NOT TESTED: this machine doesn't let us mount a small disk")
    monkeypatch.setenv("FERRYMAN_TOOLCHAINS", str(small))
    try:
        with pytest.raises(FerrymanError, match=r"no space for the toolchain 'empty' .* about 20 MB") as told:
            add_toolchain(EMPTY)
        assert "FERRYMAN_TOOLCHAINS" in told.value.hint
        assert not EMPTY.folder.exists()
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_every_toolchain_pins_all_that_it_installs() -> None:
    for name, toolchain in toolchains().items():
        assert toolchain.name == name
        assert toolchain.summary.endswith(".")
        assert toolchain.expected_mb > 0
        for pin in (*toolchain.python, *toolchain.bare):
            assert "==" in pin, pin
        for pin in toolchain.node:
            assert pin.rpartition("@")[0], pin


def test_a_plugin_names_a_toolchain_that_there_is() -> None:
    for kind in ("steps", "runtimes", "sources"):
        for plugin in plugins(kind).values():
            if name := getattr(plugin.cls, "toolchain", ""):
                assert name in toolchains()
                if not plugin.is_available:
                    assert plugin.install_command == f"ferryman toolchain add {name}"


def test_a_name_that_nobody_declares_is_an_error() -> None:
    with pytest.raises(PlanError, match="no toolchain is called 'corelm'"):
        with_bases(["corelm"])

"""A process without a home or a usual place for temporary files finds one, or goes on without."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ferryman.core.engine_cache import engines_folder
from ferryman.core.scratch import choose_temporary_folder, user_cache
from ferryman.core.toolchain import toolchains_folder


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "FERRYMAN_TOOLCHAINS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 65532)  # of whom /etc/passwd says nothing


@pytest.mark.usefixtures("homeless")
def test_a_user_without_a_home_keeps_things_in_the_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/somewhere")
    assert user_cache() == Path("/somewhere/ferryman-65532")
    assert engines_folder() == Path("/somewhere/ferryman-65532/ferryman/engines")
    assert toolchains_folder() == Path("/somewhere/ferryman-65532/ferryman/toolchains")


def test_the_users_own_choice_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path


def test_where_no_usual_place_can_be_written_temporary_files_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc/nothing"])
    monkeypatch.setenv("TMPDIR", "/proc/nothing")
    choose_temporary_folder()
    assert tempfile.gettempdir() == "/dev/shm"
    told = subprocess.run(
        [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"], capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert told.stdout == "/dev/shm\n", "programs that are started find the same"


def test_a_place_that_can_be_written_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    choose_temporary_folder()
    assert tempfile.gettempdir() == str(tmp_path)

"""Scratch folders: locked while in use, gone afterwards, told apart by their exact names."""

import subprocess
import sys
from pathlib import Path

import pytest

from ferryman.core.scratch import clear_leftovers, leftovers, scratch_folder

_DIE = """
import os, sys
from pathlib import Path
from ferryman.core.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), prefix="work-") as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_scratch_folder_goes_at_the_end_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), scratch_folder(tmp_path, prefix="work-") as folder:
        (folder / "half").write_text("half")
        raise ValueError("no")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_one_that_works_stays_when_another_begins(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, prefix="work-") as first, scratch_folder(tmp_path, prefix="work-"):
        assert first.is_dir()


def test_what_a_killed_process_left_goes_when_the_next_one_begins(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", _DIE, str(tmp_path)], capture_output=True, text=True, timeout=60)
    left = Path(died.stdout.strip())
    assert (left / "half").is_file()
    with scratch_folder(tmp_path, prefix="work-"):
        assert not left.exists()


def test_names_are_matched_exactly_and_never_as_patterns(tmp_path: Path) -> None:
    for name in (".model.abc_1.partial", ".model.v2.abc_1.partial", ".modelx.abc_1.partial", ".[m]odel.abc_1.partial"):
        (tmp_path / name).mkdir()
    assert [path.name for path in leftovers(tmp_path, prefix=".model.", suffix=".partial")] == [".model.abc_1.partial"]
    clear_leftovers(tmp_path, prefix=".[m]odel.", suffix=".partial")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".model.abc_1.partial", ".model.v2.abc_1.partial", ".modelx.abc_1.partial"]

"""ELF files are read without being run, and what is cut off them changes nothing that runs."""

import shutil
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from ferryman.package.elf import read_elf, trimmed, without_paths
from ferryman.package.libraries import Libraries
from tests.package.making import in_process

MODULES = Path(sysconfig.get_config_var("DESTSHARED"))
DATETIME = next(MODULES.glob("_datetime.*.so"), None)
PROGRAM = Path(sys.executable).resolve()


def test_a_program_names_its_loader_and_its_libraries() -> None:
    elf = read_elf(PROGRAM)
    assert elf is not None
    assert elf.machine in ("amd64", "arm64")
    assert "ld-linux" in elf.interpreter
    assert "libc.so.6" in elf.needed


@pytest.mark.skipif(DATETIME is None, reason="this Python has it built in")
def test_a_module_without_its_debug_data_is_smaller_and_does_the_same(tmp_path: Path) -> None:
    assert DATETIME is not None
    lean = trimmed(DATETIME)
    if lean is None:
        pytest.skip("this Python's modules have no debug data")
    shutil.copyfile(DATETIME, tmp_path / DATETIME.name)
    (tmp_path / DATETIME.name).write_bytes(lean)
    assert len(lean) < DATETIME.stat().st_size
    look = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import _datetime as d"
    code = f"{look}; print(d.__file__, d.date(2026, 1, 2))"
    result = in_process(code)
    assert result.stdout.split() == [str(tmp_path / DATETIME.name), "2026-01-02"], result.stderr


@pytest.mark.parametrize("cut", [0, 3, 40, 64, 100, 300, 900])
def test_a_file_that_is_cut_off_is_no_elf_file_and_no_error(cut: int, tmp_path: Path) -> None:
    file = tmp_path / "cut"
    file.write_bytes(PROGRAM.read_bytes()[:cut])
    read_elf(file)
    assert trimmed(file) is None


def test_bytes_of_chance_behind_the_magic_number_are_no_error() -> None:
    random = np.random.default_rng(5)
    head = PROGRAM.read_bytes()[:4096]
    for _ in range(300):
        changed = bytearray(head)
        for place in random.integers(16, len(changed), 40):
            changed[place] = random.integers(256)
        read_elf(bytes(changed))


def test_paths_of_one_machine_are_blanked_in_place() -> None:
    elf = read_elf(PROGRAM)
    assert elf is not None
    changed = without_paths(PROGRAM.read_bytes(), elf)
    again = read_elf(changed)
    assert again is not None
    assert again.paths == ()
    assert len(changed) == PROGRAM.stat().st_size


def test_every_library_of_a_program_is_found_and_a_missing_one_is_named_with_who_wants_it(tmp_path: Path) -> None:
    elf = read_elf(PROGRAM)
    assert elf is not None
    found, missing = Libraries(Path("/"), elf.machine).closure([PROGRAM])
    assert not missing
    assert found["libc.so.6"].is_file()
    _, missing = Libraries(tmp_path, elf.machine).closure([PROGRAM])
    assert missing["libc.so.6"] == PROGRAM.name

"""Compiled files are the same bytes in each process, and Python takes them without looking at the source."""

import importlib.util
from pathlib import Path

from ferryman.package.pyc import compile_source, compiled_name, running_tag
from tests.package.making import in_process

SOURCE = (
    b"NAMES = {'b', 'a', 'c'}\ndef answer(x: int = 42, *, y='a b') -> int:\n    return x if x in {1, 2, 42} else 0\n"
)


def test_two_processes_compile_the_same_bytes() -> None:
    code = f"from ferryman.package.pyc import compile_source; print(compile_source({SOURCE!r}, 'opt/one.py').hex())"
    first, second = (
        in_process(code, PYTHONHASHSEED="1"),
        in_process(f"answer = 'a b'; import this\n{code}", PYTHONHASHSEED="2"),
    )
    assert first.stdout.strip()
    assert first.stdout.splitlines()[-1] == second.stdout.splitlines()[-1]


def test_a_compiled_file_is_taken_though_its_source_is_of_another_time(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_bytes(b"raise SystemExit('compiled anew')")
    compiled = compile_source(SOURCE, "one.py")
    assert compiled is not None
    place = tmp_path / compiled_name("one.py", running_tag())
    assert str(place) == importlib.util.cache_from_source(str(tmp_path / "one.py"))
    place.parent.mkdir()
    place.write_bytes(compiled)
    result = in_process(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import one; print(one.answer())")
    assert result.stdout.strip() == "42", result.stderr


def test_what_is_no_program_is_left_as_it_is() -> None:
    assert compile_source(b"def {{ template }}:", "a.py") is None
    assert compile_source(b"\x00\x01", "a.py") is None

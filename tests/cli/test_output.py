import json
from pathlib import Path

import numpy as np
import pytest

from ferryman.cli.machine import cpu_quota, describe_cache, describe_cores, describe_cpu, describe_memory
from ferryman.cli.output import check_writable, write_file, write_json
from ferryman.core.errors import UserError


def test_json_is_one_line_and_valid_whatever_the_figures_are(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"lost": float("nan"), "far": [float("inf")], "path": Path("a"), "array": np.array([0.5], np.float32)})
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert json.loads(line) == {"lost": None, "far": [None], "path": "a", "array": [0.5]}


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    write_file(tmp_path / "new" / "page.html", "✓")
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8") == "✓"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


def test_a_file_that_can_not_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match=r"taken can't be written"):
        write_file(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_what_could_not_be_written_later_is_refused_now_and_nothing_is_left_or_changed(tmp_path: Path) -> None:
    (tmp_path / "kept.html").write_text("kept", encoding="utf-8")
    for path in (None, tmp_path / "kept.html", tmp_path / "new.html"):
        check_writable(path)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("kept.html", "kept")]
    for path in (tmp_path, tmp_path / "kept.html" / "page.html"):
        with pytest.raises(UserError, match=f"{path} can't be written"):
            check_writable(path)


def test_the_machine_is_described_without_failing(tmp_path: Path) -> None:
    assert describe_cpu()
    assert "usable" in describe_cores()
    assert "GB" in describe_memory()
    quota = cpu_quota()
    assert quota is None or quota > 0
    (tmp_path / "blob").write_bytes(b"1" * 2_000_000)
    assert "(2.0 MB)" in describe_cache(tmp_path)
    assert "not there yet" in describe_cache(tmp_path / "none")

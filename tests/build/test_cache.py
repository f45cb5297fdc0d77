"""The cache: whole results or none, whatever happens."""

import os
from pathlib import Path

import pytest

from ferryman.build.cache import Cache, _code_digest
from ferryman.core.artifact import Artifact, digest_file
from ferryman.core.errors import FerrymanError, StepError
from ferryman.core.signature import Signature


def _artifact(workspace: Path, content: bytes) -> Artifact:
    path = workspace / "model.bin"
    path.write_bytes(content)
    return Artifact(path, "plain", Signature(inputs=(), outputs=()), digest_file(path), made_by=("test",))


def test_a_value_is_computed_once(tmp_path: Path) -> None:
    calls: list[int] = []
    for _ in range(2):
        assert Cache(tmp_path).values("kind", {"a": 1}, lambda: calls.append(1) or [1, 2]) == [1, 2]  # type: ignore[func-returns-value]  # append gives None
    assert calls == [1]


def test_another_key_is_another_value(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.values("kind", 1, lambda: "one") == "one"
    assert cache.values("kind", 2, lambda: "two") == "two"
    assert (cache.hits, cache.misses) == (0, 2)


def test_fresh_ignores_what_was_there_but_not_what_it_made_itself(tmp_path: Path) -> None:
    Cache(tmp_path).values("kind", 1, lambda: "old")
    fresh = Cache(tmp_path, fresh=True)
    assert fresh.values("kind", 1, lambda: "new") == "new"
    assert fresh.values("kind", 1, lambda: "newer") == "new"


def test_a_damaged_value_is_computed_again(tmp_path: Path) -> None:
    Cache(tmp_path).values("kind", 1, lambda: "right")
    (stored,) = (tmp_path / "values").glob("*.json")
    stored.write_text('"ri')
    assert Cache(tmp_path).values("kind", 1, lambda: "right again") == "right again"


def test_an_artifact_is_made_once_and_kept_outside_of_its_workspace(tmp_path: Path) -> None:
    first = Cache(tmp_path).artifact("step", "key", lambda workspace: _artifact(workspace, b"weights"))
    again = Cache(tmp_path).artifact("step", "key", lambda workspace: _artifact(workspace, b"other"))
    assert again == first
    assert first.path.read_bytes() == b"weights"
    assert first.made_by == ("test",)


def test_an_artifact_whose_bytes_changed_is_made_again(tmp_path: Path) -> None:
    first = Cache(tmp_path).artifact("step", "key", lambda workspace: _artifact(workspace, b"weights"))
    first.path.write_bytes(b"weighty")
    again = Cache(tmp_path).artifact("step", "key", lambda workspace: _artifact(workspace, b"weights"))
    assert again.path.read_bytes() == b"weights"


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(workspace: Path) -> Artifact:
        (workspace / "half").write_text("half")
        raise StepError("no")

    with pytest.raises(StepError):
        Cache(tmp_path).artifact("step", "key", fail)
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(FerrymanError, match="can't write under") as caught:
        Cache(blocked).values("kind", 1, lambda: 1)
    assert "FERRYMAN_CACHE" in caught.value.hint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    def fill(workspace: Path) -> Artifact:
        with open("/dev/full", "wb", buffering=0) as full:
            os.write(full.fileno(), b"x")
        return _artifact(workspace, b"")

    with pytest.raises(FerrymanError, match="No space left"):
        Cache(tmp_path).artifact("step", "key", fill)
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_our_code_is_all_that_results_depend_on_and_not_python_alone(tmp_path: Path) -> None:
    files = ["export/engines/web.mjs", "export/locks/web.txt", "export/web.py"]
    shown = ["cli/build.py", "verify/report.css", "export/__pycache__/web.cpython-311.pyc"]
    for name in (*files, *shown):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    digests = [_code_digest(tmp_path)]
    for name in files:
        (tmp_path / name).write_text("after")
        digests.append(_code_digest(tmp_path))
    assert len(set(digests)) == 1 + len(files)
    for name in shown:
        (tmp_path / name).write_text("after")
    assert _code_digest(tmp_path) == digests[-1]

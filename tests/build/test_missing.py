"""Whether a table's model takes empty cells is told by the rows of its build, or by the user."""

from pathlib import Path

import pytest

from ferryman.build.cache import Cache
from ferryman.build.run import build_project, open_workshop
from ferryman.build.samples import golden_samples
from ferryman.build.workshop import Workshop
from ferryman.core.deployment import Project, parse_deployment
from ferryman.core.errors import ConfigError, DataError
from ferryman.core.progress import silent
from tests.bundle.making import COLUMNS, make_table_model

_FULL, _EMPTY = "1,2,3,heavy\n", "4,,6,heavy\n"


def table_project(folder: Path, rows: str, *, calibration: str = _FULL, **settings: bool) -> Project:
    """Write a project with these rows, and further keys of `[task]`."""
    make_table_model(folder)
    for name, content in {"rows.csv": rows, "others.csv": calibration}.items():
        (folder / name).write_text("width,height,weight,kind\n" + content)
    given = {
        "model": {"name": "table", "source": "table.onnx"},
        "task": {"kind": "tabular", "columns": list(COLUMNS), "labels": ["light", "heavy"], **settings},
        "data": {"evaluation": {"items": "rows.csv", "target": "kind"}, "calibration": "others.csv"},
    }
    return Project(folder, parse_deployment(given, origin="test"))


def open_table(folder: Path, rows: str, *, calibration: str = _FULL, **settings: bool) -> Workshop:
    """Open such a project."""
    project = table_project(folder, rows, calibration=calibration, **settings)
    return open_workshop(project, Cache(folder / "cache"), silent)


def takes_missing(workshop: Workshop) -> object:
    return getattr(workshop.deployment.task, "missing")  # noqa: B009 - of a TaskSpec, only TabularSpec has it


@pytest.mark.parametrize(
    ("last", "expected"),
    [(_FULL, False), (_EMPTY, True), ("4,-nan,6,heavy\n", True), ("4,+NaN,6,heavy\n", True)],
)
def test_a_build_on_empty_cells_declares_them(tmp_path: Path, last: str, expected: bool) -> None:
    assert takes_missing(open_table(tmp_path, _FULL * 100 + last)) is expected


def test_empty_cells_of_the_calibration_count(tmp_path: Path) -> None:
    assert takes_missing(open_table(tmp_path, _FULL, calibration=_FULL + _EMPTY)) is True


@pytest.mark.parametrize(("said", "rows"), [(True, _FULL), (False, _FULL + _EMPTY)])
def test_what_the_user_says_of_empty_cells_is_kept(tmp_path: Path, said: bool, rows: str) -> None:
    assert takes_missing(open_table(tmp_path, rows, missing=said)) is said


def test_no_golden_sample_is_one_that_the_server_refuses(tmp_path: Path) -> None:
    workshop = open_table(tmp_path, _EMPTY + _FULL + _EMPTY + _FULL + _EMPTY, missing=False)
    golden = golden_samples(workshop, workshop.source)
    assert [sample.name for sample in golden] == ["rows.csv row 2", "rows.csv row 4"]


def test_rows_that_are_all_refused_are_no_data_to_build_with(tmp_path: Path) -> None:
    project = table_project(tmp_path, _EMPTY, missing=False)
    with pytest.raises(DataError, match="every sample has an empty cell"):
        build_project(project, tmp_path / "bundle", Cache(tmp_path / "cache"))


def test_a_promise_of_no_target_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    given = {
        "model": {"name": "table", "source": "not there.onnx"},
        "task": {"kind": "tensor"},
        "contract": {"targets": {"browser": {"max_size_mb": 1}}},
    }
    project = Project(tmp_path, parse_deployment(given, origin="test"))
    with pytest.raises(ConfigError, match=r"contract\.targets\.browser"):
        open_workshop(project, Cache(tmp_path / "cache"), silent)

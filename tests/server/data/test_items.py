import logging
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.errors import InputError
from ferryman.core.task import Item, bind_task
from ferryman.server.data.items import Refuse, refusal_of_missing
from tests.bundle.making import COLUMNS, bundle_model, make_table_model

_FULL = {"width": 1.0, "height": 2.0, "weight": 0.5}
_EMPTY = {**_FULL, "height": None}


def refusal(folder: Path, golden: Item, **said: bool) -> tuple[Refuse | None, Any]:  # the task of tables
    task = {"kind": "tabular", "columns": list(COLUMNS), "labels": ["light", "heavy"], **said}
    bundle = bundle_model(folder / "bundle", make_table_model(folder), task, [golden], name="table")
    bound = bind_task(bundle.deployment.task, bundle.artifact.signature)
    return refusal_of_missing(bundle, bound), bound


def test_a_bundle_that_takes_no_empty_cells_refuses_them(tmp_path: Path) -> None:
    refuse, task = refusal(tmp_path, _FULL, missing=False)
    assert refuse is not None
    refuse(task.preprocess([_FULL]).inputs)
    with pytest.raises(InputError, match="row 1, column 'height' is empty"):
        refuse(task.preprocess([_EMPTY]).inputs)


@pytest.mark.parametrize(
    ("golden", "said", "warnings"), [(_FULL, {"missing": True}, 0), (_EMPTY, {}, 0), (_FULL, {}, 1)]
)
def test_a_bundle_that_says_nothing_of_empty_cells_takes_them_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, golden: Item, said: dict[str, bool], warnings: int
) -> None:
    with caplog.at_level(logging.WARNING):
        refuse, _ = refusal(tmp_path, golden, **said)
    assert refuse is None
    said_here = [record.getMessage() for record in caplog.records if record.name.startswith("ferryman")]
    assert [("model 'table'" in text) for text in said_here] == [True] * warnings

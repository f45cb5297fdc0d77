"""What is wrong with the user's own model or data is said, and before anything stands on it where it is an error."""

import os
from pathlib import Path

import pytest

from ferryman import api
from ferryman.build.cache import Cache
from ferryman.build.doubt import count_classes, least_share
from ferryman.build.run import build_project
from ferryman.core.errors import DataError
from ferryman.core.proof import Attempt
from ferryman.core.signature import Signature, TensorSpec
from ferryman.tasks.classify import ClassifySpec
from ferryman.verify.figures import attempt_time
from ferryman.verify.recheck import verify_bundle
from ferryman.verify.report import render_bundle, render_table
from ferryman.verify.report_html import render_html
from tests.build.making import write_toml
from tests.build.test_missing import table_project

ROWS = "".join(f"{a},{b},{c},{{}}\n" for a in (1, 2, 3) for b in (1, 5) for c in (1, 4))


def test_a_source_that_answers_by_chance_is_told_wherever_its_proof_is_read(tmp_path: Path) -> None:
    project = table_project(tmp_path, "".join(row.format("light") for row in ROWS.splitlines(keepends=True)))
    right = build_project(project, tmp_path / "one", Cache(tmp_path / "cache")).proof
    share = right.source_figures["accuracy"]
    other = "heavy" if share > 0.5 else "light"
    project = table_project(tmp_path, "".join(row.format(other) for row in ROWS.splitlines(keepends=True)))
    built = build_project(project, tmp_path / "two", Cache(tmp_path / "cache"))
    count = round(min(share, 1 - share) * 12)
    told = (
        f"the source itself is right on {count} of 12 (chance: 6): are labels and [task] input right? the contract "
        "only compares with it"
    )
    assert built.proof.warnings == (told,)
    assert built.holds, "nothing is broken"
    for shown in (
        render_table(built.proof, width=200, color=False),
        render_bundle(built.bundle, width=200),
        render_html(built.bundle),
    ):
        assert f"warning: {told}" in shown
    assert verify_bundle(built.bundle, threads=1).warnings == (told,)


@pytest.mark.parametrize(("classes", "share"), [(2, 0.55), (10, 0.19), (100, 0.05), (1001, 0.05)])
def test_what_is_hardly_better_than_chance_depends_on_the_number_of_classes(classes: int, share: float) -> None:
    assert least_share(classes) == pytest.approx(share)
    scores = TensorSpec(name="scores", dtype="float32", shape=("batch", classes))
    assert count_classes(ClassifySpec(), Signature(inputs=(), outputs=(scores,))) == classes


def test_a_calibration_picture_that_is_none_stops_the_build_before_any_work(project: Path, shared_cache: Path) -> None:
    write_toml(project, build='candidates = ["onnx-fp32", "onnx-int8"]')
    (project / "calibration" / "017.png").write_text("no picture")
    (project / "dist").mkdir()
    heard: list[str] = []
    with pytest.raises(DataError, match=r"data\.calibration: .*017\.png is not a picture"):
        api.build(project, progress=lambda stage, **_: heard.append(stage))
    assert os.listdir(project / "dist") == []
    assert not any(stage.startswith(("onnx", "source model")) for stage in heard)
    write_toml(project, build='candidates = ["onnx-fp32"]')
    assert api.build(project).holds, "nothing calibrates"


def test_a_try_that_the_cache_had_says_so() -> None:
    assert attempt_time(Attempt(label="a", holds=True, seconds=31.6)) == "32 s"
    assert attempt_time(Attempt(label="a", holds=True, seconds=0.2, is_cached=True)) == "from the cache"

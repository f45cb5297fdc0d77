"""A new user's day with a detector: init, build, inspect, verify, serve, infer; each verb in a process of its own."""

import json
from pathlib import Path

import cv2
import pytest

from tests.build.making import make_detector, write_pictures
from tests.cli.running import ferryman
from tests.scenarios.serving import served

DATA = ["--calibration", "calibration/*.png", "--evaluation", "evaluation/*.png", "--labels", "evaluation/*.txt"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder as the user has it: a model, pictures, class names."""
    folder = tmp_path_factory.mktemp("home")
    make_detector(folder / "squares.onnx")
    (folder / "classes.txt").write_text("red\ngreen\n", encoding="utf-8")
    write_pictures(folder / "calibration", count=32, seed=1, has_labels=False)
    write_pictures(folder / "evaluation", count=16, seed=2)
    return folder


@pytest.fixture(scope="module")
def built(home: Path) -> Path:
    """Run init and build as they come; a user edits one line between."""
    started = ferryman("init", "squares.onnx", *DATA, folder=home)
    assert started.returncode == 0, started.stderr
    assert started.stdout == "ferryman.toml\n"
    assert "check: Is [task] input what the model was trained with" in started.stderr
    assert started.stderr.rstrip().endswith("next: ferryman build")
    path = home / "ferryman.toml"
    text = path.read_text(encoding="utf-8").replace('prefer = "latency"', 'prefer = "size"')
    path.write_text(text + '\n[build]\ncandidates = ["onnx-fp32", "onnx-int8"]\n', encoding="utf-8")
    done = ferryman("build", "--html", "report.html", folder=home)
    assert done.returncode == 0, done.stderr
    assert "★ onnx-int8" in done.stdout
    assert "↻ repaired" in done.stdout
    assert "Concat 'join' is the first stage that diverges" in done.stdout
    assert "✓ onnx-int8 keeps the contract and is the smallest of the 2 candidates that do" in done.stdout
    assert done.stdout.rstrip().endswith("dist/squares")
    assert "onnx-int8: as configured: refused, metric drop 0.017 > 0.01, score shift 0.23" in done.stderr
    assert "onnx-int8: decode tail kept in float: holds" in done.stderr
    assert (home / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    return home


def test_plan_shows_the_way_to_each_candidate(built: Path, tmp_path: Path) -> None:
    planned = ferryman("plan", str(built), folder=tmp_path)
    heading, first, second = planned.stdout.splitlines()[:3]
    assert heading.split() == ["candidate", "takes", "steps"]
    assert (first.split()[0], second.split()[0]) == ("onnx-fp32", "onnx-int8")
    assert second.endswith("onnx -> int8")


def test_inspect_shows_the_proof_as_text_json_and_a_page(built: Path) -> None:
    shown = ferryman("inspect", "dist/squares", folder=built)
    assert shown.returncode == 0
    for words in ("squares  onnx int8", "made by", "contract", "golden samples", "✓ holds"):
        assert words in shown.stdout
    told = json.loads(ferryman("inspect", "dist/squares", "--json", folder=built).stdout)
    assert (told["proof"]["winner"], told["proof"]["holds"]) == ("onnx-int8", True)
    paged = ferryman("inspect", "dist/squares", "--html", "squares.html", folder=built)
    assert "wrote squares.html" in paged.stderr
    assert "<svg" in (built / "squares.html").read_text(encoding="utf-8")


def test_verify_checks_the_bundle_again_here(built: Path) -> None:
    checked = ferryman("verify", "dist/squares", folder=built)
    assert checked.returncode == 0, checked.stdout
    assert "✓ golden samples are answered right" in checked.stdout
    assert "✓ the contract holds here" in checked.stdout


def test_a_bundle_and_its_server_give_the_same_answer_and_draw_it(built: Path) -> None:
    picture = "evaluation/000.png"
    alone = json.loads(ferryman("infer", "dist/squares", picture, "--json", folder=built).stdout)["answer"]
    assert alone["labels"][0] in ("red", "green")
    with served(built, "dist/squares") as url:
        asked = json.loads(ferryman("infer", url, picture, "--json", folder=built).stdout)["answer"]
        drawn = ferryman("infer", url, picture, "--draw", "drawn.png", folder=built)
    assert asked == alone
    assert (drawn.returncode, drawn.stderr) == (0, "drew drawn.png\n")
    assert drawn.stdout.splitlines()[1].split() == ["label", "score", "x1", "y1", "x2", "y2"]
    before, after = cv2.imread(str(built / picture)), cv2.imread(str(built / "drawn.png"))
    assert before is not None
    assert after is not None
    assert (before != after).any()


def test_a_server_that_is_gone_is_told_with_its_address(built: Path) -> None:
    with served(built, "dist/squares") as url:
        pass
    gone = ferryman("infer", url, "evaluation/000.png", folder=built)
    assert gone.returncode in (1, 2)
    assert url.removeprefix("http://") in gone.stderr
    assert "Traceback" not in gone.stderr


def test_a_second_build_says_that_it_had_nothing_to_do(built: Path) -> None:
    again = ferryman("build", folder=built)
    assert again.returncode == 0
    assert " 0 steps ran" in again.stderr


def test_a_contract_that_nothing_holds_is_exit_code_3_and_loud(built: Path, tmp_path: Path) -> None:
    text = (built / "ferryman.toml").read_text(encoding="utf-8")
    strict = built / "strict.toml"
    strict.write_text(text.replace("[contract]", "[contract]\nmax_size_mb = 0.001"), encoding="utf-8")
    failed = ferryman("build", "strict.toml", "--output", str(tmp_path / "strict"), folder=built)
    assert failed.returncode == 3
    assert "✗ NO candidate keeps the contract: the bundle holds the source model as it is (onnx-fp32)" in failed.stdout
    assert "its size 0.08" in failed.stdout
    checked = ferryman("verify", str(tmp_path / "strict"), folder=built)
    assert checked.returncode == 3
    assert "✗ the contract doesn't hold here" in checked.stdout


def test_a_second_init_does_not_touch_the_users_file(built: Path) -> None:
    before = (built / "ferryman.toml").read_bytes()
    again = ferryman("init", "squares.onnx", folder=built)
    assert again.returncode == 2
    assert "hint: --force" in again.stderr
    assert (built / "ferryman.toml").read_bytes() == before

"""The verbs on real bundles of tiny models, each in a process of its own."""

import json
from pathlib import Path

import pytest

from tests.bundle.making import bundle_colour, bundle_table, plain_picture
from tests.cli.running import ferryman


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    bundle_table(folder / "table")
    bundle_colour(folder / "colour")
    (folder / "rows.csv").write_text("width,height,weight\n1,2,0.5\n0,0,3\n", encoding="utf-8")
    (folder / "blue.png").write_bytes(plain_picture(250, 10, 10))
    return folder


def test_inspect_shows_the_bundle_and_its_proof(bundles: Path) -> None:
    answer = ferryman("inspect", "table", folder=bundles)
    assert answer.returncode == 0
    assert "table  onnx fp32" in answer.stdout
    assert "★ onnx-fp32" in answer.stdout


def test_inspect_in_json_is_one_valid_document(bundles: Path) -> None:
    told = json.loads(ferryman("inspect", "table", "--json", folder=bundles).stdout)
    assert told["manifest"]["name"] == "table"
    assert [golden["name"] for golden in told["golden"]] == ["item-0", "item-1"]


def test_inspect_writes_a_page_named_after_the_model(bundles: Path) -> None:
    answer = ferryman("inspect", "colour", "--html", folder=bundles)
    assert answer.returncode == 0
    text = (bundles / "colour.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert text.count("data:image/jpeg;base64,") == 2


def test_inspect_refuses_a_page_that_can_not_be_written(bundles: Path) -> None:
    answer = ferryman("inspect", "colour", "--html", "/proc/page.html", folder=bundles)
    assert answer.returncode == 2
    assert "error: /proc/page.html can't be written" in answer.stderr


def test_infer_asks_about_every_row_of_a_table(bundles: Path) -> None:
    lines = ferryman("infer", "table", "rows.csv", folder=bundles).stdout.splitlines()
    assert lines[0].split() == ["row", "label", "p(light)", "p(heavy)"]
    assert [line.split()[:2] for line in lines[1:]] == [["rows.csv:2", "light"], ["rows.csv:3", "heavy"]]


def test_infer_in_json_is_a_document_a_line(bundles: Path) -> None:
    row = '{"width": 0, "height": 0, "weight": 3}'
    answer = ferryman("infer", "table", "-", "--json", folder=bundles, stdin=f"{row}\n{row}\n")
    documents = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [document["answer"]["label"] for document in documents] == ["heavy", "heavy"]
    assert [document["input"] for document in documents] == ["stdin[0]", "stdin[1]"]


def test_infer_classifies_a_picture_and_draws_the_answer(bundles: Path) -> None:
    answer = ferryman("infer", "colour", "blue.png", "--draw", "drawn.png", folder=bundles)
    assert answer.returncode == 0
    assert answer.stdout.splitlines()[2].split()[0] == "blue"
    assert (bundles / "drawn.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_can_not_be_drawn(bundles: Path) -> None:
    answer = ferryman("infer", "table", "rows.csv", "--draw", "rows.png", folder=bundles)
    assert answer.returncode == 2
    assert "--draw needs pictures" in answer.stderr


def test_verify_answers_the_golden_samples_again(bundles: Path) -> None:
    answer = ferryman("verify", "colour", "--json", "--quiet", folder=bundles)
    told = json.loads(answer.stdout)
    assert (answer.returncode, told["golden_ok"], told["holds"]) == (0, True, True)
    assert answer.stderr == ""


def test_a_damaged_bundle_is_refused_by_every_verb_that_reads_one(bundles: Path, tmp_path: Path) -> None:
    bundle_table(tmp_path / "table")
    model = next((tmp_path / "table" / "model").iterdir())
    model.write_bytes(model.read_bytes()[:-1] + b"\xff")
    for words in (["inspect", "table"], ["verify", "table"], ["infer", "table", "-"], ["serve", "table"]):
        answer = ferryman(*words, folder=tmp_path, stdin='{"width": 0, "height": 0, "weight": 3}')
        assert answer.returncode == 2, words
        assert answer.stderr.count("error: ") == 1
        assert "Traceback" not in answer.stderr

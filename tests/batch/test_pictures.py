"""Scores of pictures, and the command line."""

import json
import shutil
from pathlib import Path

import pytest

from ferryman import api
from ferryman.core.bundle import Bundle
from ferryman.core.errors import DataError, InputError
from tests.batch.making import COLUMNS, Row, read_folder, write_csv, write_parquet
from tests.bundle.making import bundle_colour, bundle_model
from tests.cli.running import ferryman

INPUT = {"size": [416, 416], "fit": "letterbox", "anchor": "top-left", "pad": 114, "channels": "BGR", "scale": 1.0}


@pytest.fixture(scope="session")
def street(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    model, pictures = shared_data / "models" / "yolox_nano.onnx", sorted((shared_data / "coco128_val").rglob("*.jpg"))
    task = {"kind": "detect", "decoder": "yolox", "labels": "coco80.names", "input": INPUT}
    folder = tmp_path_factory.mktemp("street")
    return bundle_model(folder / "bundle", model, task, pictures[:1], name="street")


def test_boxes_of_a_folder_are_those_of_infer(tmp_path: Path, street: Bundle, shared_data: Path) -> None:
    folder = tmp_path / "in"
    (folder / "night").mkdir(parents=True)
    for at, picture in enumerate(sorted((shared_data / "coco128_val").rglob("*.jpg"))[:6]):
        shutil.copy(picture, folder / ("night" if at % 2 else ".") / picture.name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    scored = api.score(street.path, folder, tmp_path / "out", chunk=2, processes=1)
    found = read_folder(tmp_path / "out")
    assert (scored.figures["answered"], scored.figures["refused"]) == (6, {"refused": 1, "failed": 0, "killed": 0})
    answers = api.infer(street, [folder / row["file"] for row in found], threads=1)
    assert sum(len(row["boxes"]) for row in found) > 20
    for row, answer in zip(found, answers, strict=True):
        assert [[side for side in box] for box in row["boxes"]] == answer["boxes"]
        assert (row["scores"], row["labels"]) == (answer["scores"], answer["labels"])
    [refused] = [json.loads(line) for line in (tmp_path / "out" / "refused.jsonl").read_text().splitlines()]
    assert refused["keys"] == {"file": "broken.jpg"}


def test_a_list_of_files_and_a_glob_are_taken(tmp_path: Path) -> None:
    from tests.bundle.making import plain_picture

    bundle = bundle_colour(tmp_path / "colour")
    for name, colour in (("a.png", (250, 0, 0)), ("b.png", (0, 250, 0)), ("c.png", (0, 0, 250))):
        (tmp_path / name).write_bytes(plain_picture(*colour))
    (tmp_path / "list.txt").write_text("c.png\na.png\ngone.png\n")
    api.score(bundle.path, tmp_path / "list.txt", tmp_path / "out", processes=1)
    assert [(row["file"], row["label"]) for row in read_folder(tmp_path / "out")] == [
        ("c.png", "red"),
        ("a.png", "blue"),
    ]
    api.score(bundle.path, str(tmp_path / "[ab].png"), tmp_path / "some", processes=1)
    assert [row["label"] for row in read_folder(tmp_path / "some")] == ["blue", "green"]
    with pytest.raises(DataError, match="holds no pictures"):
        (tmp_path / "none").mkdir()
        api.score(bundle.path, tmp_path / "none", tmp_path / "other")
    with pytest.raises(InputError, match="not what this model takes"):
        api.score(bundle.path, write_csv(tmp_path / "in.csv", [{"a": 1}]), tmp_path / "other")


def test_the_command_shows_drift_and_fails_where_it_is_to(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    rows = [{**row, "nswdemand": row["nswdemand"] + 0.5} for row in elec[:300]]
    write_parquet(tmp_path / "in.parquet", rows)
    words = ("score", str(bundle.path), "in.parquet", "-o", "out", "--processes", "1")
    planned = ferryman(*words, "--dry-run", "--json", folder=tmp_path)
    assert json.loads(planned.stdout)["rows"] == 300
    assert not (tmp_path / "out").exists()
    told = ferryman(*words, "--fail-on-drift", folder=tmp_path)
    assert (told.returncode, "300 of 300 rows answered" in told.stdout) == (3, True)
    assert "cell.nswdemand" in told.stdout
    again = ferryman(*words, "--json", folder=tmp_path)
    assert again.returncode == 0
    figures = json.loads(again.stdout)
    assert (figures["resumed_rows"], figures["drifted"]) == (300, True)


def test_the_command_names_a_column_that_is_missing(tmp_path: Path, bundle: Bundle, elec: list[Row]) -> None:
    write_csv(tmp_path / "in.csv", [{COLUMNS[0]: 1.0}])
    told = ferryman("score", str(bundle.path), "in.csv", "-o", "out", folder=tmp_path)
    assert told.returncode == 2
    assert f"lacks column '{COLUMNS[1]}'" in told.stderr

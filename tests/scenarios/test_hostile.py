"""Hostile input at every public door: a clear refusal that names the thing and a way out, and nothing left behind."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman import api
from ferryman.cli.main import main
from tests.build.making import write_project
from tests.bundle.making import bundle_affine, bundle_colour, make_affine, make_table_model
from tests.scenarios import attacking as a
from tests.server.running import Running, running

EVALUATION = 'evaluation = { items = "evaluation/*.png", labels = "evaluation/*.txt", format = "yolo" }'
OPEN_BOX = 'kind = "detect"'
ROWS = "width,height,weight,kind\n1,2,3,light\n3,2,1,heavy\n"
BUNDLE = ["inspect", "dist/squares"]


@dataclass(frozen=True)
class Case:
    """Hold an attack on the command line, its exit code and words that the refusal must hold."""

    attack: a.Attack
    words: tuple[str, ...]
    code: int = 2


@dataclass(frozen=True)
class Request:
    """Hold an attack on the server, its status and words that the answer must hold."""

    path: str
    body: Any
    words: tuple[str, ...]
    status: int = 400
    type: str = "application/json"


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3], **changes}]}


AFFINE, COLOUR = "/v2/models/affine/infer", "/v2/models/colour/infer"
CASES: dict[str, Case | Request] = {
    # ferryman.toml
    "config: none": Case(a.without("ferryman.toml", a.PLAN), ("there is no ferryman.toml", "ferryman init")),
    "config: a folder": Case(a.nothing("plan", "evaluation"), ("evaluation/ferryman.toml",)),
    "config: binary": Case(a.content("ferryman.toml", b"\xff\xfe\0\1", a.PLAN), ("ferryman.toml", "UTF-8")),
    "config: no TOML": Case(a.content("ferryman.toml", b"[model\n", a.PLAN), ("not valid TOML", "line 1")),
    "config: empty": Case(a.content("ferryman.toml", b"", a.PLAN), ("'model' is missing", "'task'")),
    "config: a key twice": Case(a.toml("[data]", "[data]\ngolden = 2\ngolden = 3"), ("not valid TOML",)),
    "config: unknown key": Case(a.toml("[contract]", "[contract]\nmax_drp = 1"), ("max_drp", "did you mean")),
    "config: unknown section": Case(a.toml("[contract]", "[contrct]"), ("contrct", "did you mean 'contract'")),
    "config: wrong type": Case(a.toml("[contract]", '[contract]\nmax_drop = "little"'), ("max_drop", "little")),
    "config: NaN": Case(a.toml("[contract]", "[contract]\nmax_drop = nan"), ("contract.max_drop", "nan")),
    "config: infinite": Case(a.toml("[contract]", "[contract]\np99_ms = inf"), ("contract.p99_ms", "inf")),
    "config: negative": Case(a.toml("[build]", "[build]\nbudget_s = -1"), ("build.budget_s", "-1")),
    "config: absurd": Case(a.toml("[build]", "[build]\nthreads = 1000000"), ("build.threads", "1024")),
    "config: name with a path": Case(a.toml('"squares"', '"../squares"'), ("model.name", "../squares")),
    "config: unknown task": Case(a.toml(OPEN_BOX, 'kind = "detec"'), ("detec", "did you mean 'detect'")),
    "config: no task": Case(a.toml(OPEN_BOX, ""), ("kind",)),
    "config: unknown decoder": Case(a.toml("yolov8", "yolov99"), ("decoder", "yolov99", "yolox")),
    "config: decoder of another shape": Case(a.toml("yolov8", "yolox"), ("yolox", "[1, 6, 100]")),
    "config: too many labels": Case(a.toml('"red", ', '"red", "blue", '), ("3 labels", "[1, 6, 100]")),
    "config: label file missing": Case(a.toml('["red", "green"]', '"my.names"'), ("my.names",)),
    "config: unknown candidate": Case(a.toml('["onnx-fp32"]', '["onnx-int9"]'), ("onnx-int9", "did you mean")),
    "config: unknown step": Case(a.toml("[build]", "[build.options.int9]\n[build]"), ("int9", "installed steps")),
    # models
    "model: missing": Case(a.without("squares.onnx", a.PLAN), ("squares.onnx", "there is no file")),
    "model: empty": Case(a.content("squares.onnx", b"", a.PLAN), ("squares.onnx", "empty")),
    "model: garbage": Case(a.content("squares.onnx", b"\x07garbage" * 99, a.PLAN), ("squares.onnx",)),
    "model: a web page": Case(a.content("squares.onnx", b"<!DOCTYPE html>", a.PLAN), ("squares.onnx", "HTML page")),
    "model: an LFS pointer": Case(
        a.content("squares.onnx", b"version https://git-lfs.github.com/spec/v1\noid", a.PLAN), ("git lfs pull",)
    ),
    "model: cut short": Case(a.truncated_model, ("squares.onnx", "cut")),
    "model: a folder": Case(a.toml("squares.onnx", "evaluation"), ("evaluation", "is a folder")),
    "model: opset 8": Case(a.model(a.lower_opset), ("opset 8", "oldest", "9")),
    "model: foreign operator": Case(a.model(a.foreign_operator), ("com.nobody::Concat",)),
    "model: data in ..": Case(a.external("../secret.bin"), ("../secret.bin", "outside of the model's folder")),
    "model: data at an absolute path": Case(a.external("/etc/passwd"), ("/etc/passwd", "outside")),
    "model: data behind a link": Case(a.external("link.bin", link_to="/etc/passwd"), ("link.bin", "outside")),
    "model: data missing": Case(a.external("gone.bin"), ("gone.bin", "missing")),
    "model: pickle without trust": Case(a.pickled, ("model.pkl", "trust = true")),
    "model: weights without a factory": Case(a.as_source("w.safetensors", a.safetensors()), ("factory",)),
    "model: other digest": Case(a.toml("[task]", f'sha256 = "{"0" * 64}"\n[task]'), ("sha256", "pinned")),
    "model: foreign scheme": Case(a.toml("squares.onnx", "ftp://h/m.onnx"), ("'ftp'", "http(s)")),
    "model: weights listed as inputs": Case(a.model(a.list_weights_as_inputs), (), 0),
    # pictures
    "picture: 0 bytes": Case(a.asked("new.jpg", b""), ("new.jpg", "empty")),
    "picture: cut short": Case(a.asked("new.jpg", a.PICTURES["cut"]), ("new.jpg", "cut off")),
    "picture: text": Case(a.asked("new.jpg", b"this is no picture"), ("new.jpg", "looks like text")),
    "picture: bomb": Case(a.asked("new.png", a.PICTURES["bomb"]), ("new.png", "30000 x 30000", "limit")),
    "picture: missing": Case(a.nothing("infer", "dist/squares", "gone.jpg"), ("gone.jpg", "doesn't exist")),
    "picture: a folder": Case(a.nothing("infer", "dist/squares", "evaluation"), ("evaluation", "is a folder")),
    "picture: CMYK": Case(a.asked("new.jpg", a.PICTURES["cmyk"]), (), 0),
    "picture: 16 bits": Case(a.asked("new.png", a.PICTURES["16-bit"]), (), 0),
    "picture: grey": Case(a.asked("new.png", a.PICTURES["grey"]), (), 0),
    "picture: alpha": Case(a.asked("new.png", a.PICTURES["alpha"]), (), 0),
    "picture: turned": Case(a.asked("new.jpg", a.PICTURES["turned"]), (), 0),
    "picture: animated": Case(a.asked("new.gif", a.PICTURES["animated"]), (), 0),
    # data sets
    "data: label is no number": Case(a.relabel("red 0.5 0.5 0.1 0.1"), ("000.txt, line 1", "no number")),
    "data: label in pixels": Case(a.relabel("0 80 80 16 16"), ("000.txt, line 1", "shares of the picture")),
    "data: label with too few numbers": Case(a.relabel("0 0.5 0.5"), ("000.txt, line 1", "3 numbers")),
    "data: label NaN": Case(a.relabel("0 nan 0.5 0.1 0.1"), ("000.txt, line 1", "finite")),
    "data: no such class": Case(a.relabel("7 0.5 0.5 0.1 0.1"), ("000.txt, line 1", "class number 7", "2 labels")),
    "data: binary label": Case(a.content("evaluation/000.txt", b"\xff\xfe\0", a.BUILD), ("000.txt",)),
    "data: no picture matches": Case(a.toml("evaluation/*.png", "evalution/*.png"), ("evalution/*.png", "matches no")),
    "data: no label matches": Case(a.toml("evaluation/*.txt", "labels/*.txt"), ("labels/*.txt",)),
    "data: picture cut short": Case(a.content("evaluation/003.png", b"\x89PNG\r\n\x1a\n", a.BUILD), ("003.png",)),
    "data: unknown format": Case(a.toml('"yolo"', '"yollo"'), ("yollo", "coco")),
    "data: nothing at all": Case(a.toml(EVALUATION, ""), ("nothing to verify with", "calibration")),
    "table: ragged": Case(a.tabular(f"{ROWS}1,2\n"), ("rows.csv, line 4", "2 cells")),
    "table: text in a number's column": Case(a.tabular(f"{ROWS}1,tall,3,light\n"), ("height", "tall")),
    "table: no such column": Case(a.tabular(ROWS.replace("weight", "mass")), ("weight", "rows.csv")),
    "table: no rows": Case(a.tabular("width,height,weight,kind\n"), ("rows.csv", "no rows")),
    "arrays: pickled": Case(a.arrays(a.npz(values=np.array([{}], object))), ("values.npz",)),
    "arrays: cut short": Case(a.arrays(a.npz(values=np.ones((9, 3)))[:90]), ("values.npz",)),
    "arrays: wrong shape": Case(a.arrays(a.npz(values=np.ones((9, 4), np.float32))), ("[1, 4]", "['batch', 3]")),
    "arrays: text": Case(a.arrays(a.npz(values=np.full((9, 3), "one"))), ("<U3", "float32")),
    # bundles
    **{
        f"bundle: a bit of {name}": Case(a.flipped(name), (Path(name).name,))
        for name in (
            "bundle.json", "deployment.json", "proof.json", "artifact.json", "baseline.json", "versions.json",
            "golden/samples.json", "golden/0000.png", "model/squares.onnx",
        )
    },
    "bundle: none": Case(a.nothing("inspect", "dist/gone"), ("dist/gone",)),
    "bundle: a file missing": Case(a.without("dist/squares/model/squares.onnx", BUNDLE), ("model/squares.onnx",)),
    "bundle: a file too many": Case(a.content("dist/squares/run.py", b"", BUNDLE), ("run.py", "does not belong")),
    "bundle: a link": Case(a.linked_bundle, ("baseline.json", "not a plain file")),
    "bundle: newer": Case(a.forged(lambda raw: raw.update(spec_version=2)), ("spec_version 2", "upgrade ferryman")),
    "bundle: path outside": Case(a.forged(lambda raw: raw.update(model="../../m")), ("../../m", "outside")),
    "bundle: .ferry cut short": Case(a.cut_ferry, ("squares.ferry",)),
    "bundle: .ferry with a path outside": Case(a.escaping_ferry, ("../escaped.txt", "not listed")),
    "bundle: built over what is none": Case(a.nothing("build", "--output", "evaluation"), ("not a bundle", "another")),
    # requests
    "request: no JSON": Request(AFFINE, b'{"inputs": [', ("not valid JSON",)),
    "request: empty": Request(AFFINE, b"", ("not valid JSON",)),
    "request: wrong name": Request(AFFINE, tensor(name="value"), ("'value'", "values")),
    "request: wrong dtype": Request(AFFINE, tensor(datatype="FP64"), ("FP64", "FP32")),
    "request: wrong shape": Request(AFFINE, tensor(shape=[3, 1]), ("[3, 1]", "[-1, 3]")),
    "request: huge shape": Request(AFFINE, tensor(shape=[2**31 - 1] * 4), ("shape",)),
    "request: text for numbers": Request(AFFINE, tensor(data=["1", 2, 3]), ('"1" is not a number',)),
    "request: nested too deep": Request(AFFINE, b"[" * 90_000, ()),
    "request: too large": Request(AFFINE, b" " * 200_001, ("200000 bytes",), 413),
    "request: unknown model": Request("/v2/models/nobody/infer", tensor(), ("nobody",), 404),
    "request: other type": Request(AFFINE, b"values=1", ("text/plain",), 415, "text/plain"),
    "request: picture cut short": Request(COLOUR, a.PICTURES["cut"], ("cut off",), 400, "image/jpeg"),
    "request: picture bomb": Request(COLOUR, a.PICTURES["bomb"], ("30000 x 30000",), 400, "image/png"),
    "request: path outside": Request("/v2/models/../../etc/passwd", b"{}", (), 404),
}  # fmt: skip


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a project with its bundle, and small models of other tasks."""
    folder = write_project(
        tmp_path_factory.mktemp("world") / "project",
        data=EVALUATION,
        build='candidates = ["onnx-fp32"]',
    )
    make_affine(folder)
    make_table_model(folder)
    api.build(folder)
    shutil.rmtree(folder / ".ferryman")
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    bundles = [bundle_affine(folder / "affine").path, bundle_colour(folder / "colour").path]
    with running(bundles, max_body_bytes=200_000) as one:
        yield one


def listing(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case, Case)])
def test_what_is_hostile_is_refused_at_the_command_line(
    name: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    assert isinstance(case, Case)
    folder = Path(shutil.copytree(world, tmp_path / "project", symlinks=True))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FERRYMAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "unpacked"))
    words = case.attack(folder)
    before = listing(folder)
    code = main([*words, "--quiet"])
    told = capsys.readouterr()
    assert code == case.code, told.err
    assert "Traceback" not in told.err + told.out
    assert listing(folder) == before, "a refusal leaves the folder as it was"
    assert not list(tmp_path.rglob("unfinished-*"))
    assert not (tmp_path / "escaped.txt").exists()
    if case.code:
        assert told.err.startswith("error: ")
        assert "\nhint: " in told.err, "every refusal names a way out"
        assert told.out == "" or set(json.loads(told.out)) == {"error", "hint"}, "--json tells errors in JSON, too"
    for word in case.words:
        assert word in told.err


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if isinstance(case, Request)])
def test_what_is_hostile_is_refused_by_the_server(name: str, server: Running) -> None:
    case = CASES[name]
    assert isinstance(case, Request)
    body = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    status, answer, _ = server.ask("POST", case.path, body, {"Content-Type": case.type})
    assert (status, list(answer)) == (case.status, ["error"])
    assert "Traceback" not in answer["error"]
    for word in case.words:
        assert word in answer["error"]
    assert server.infer("affine", tensor())[0] == 200, "and it still answers the next one"


def test_cells_for_which_the_model_has_no_answer_are_a_contract_that_does_not_hold(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(world, tmp_path / "project"))
    monkeypatch.chdir(folder)
    assert main([*a.tabular(f"{ROWS}3,2,1,light\nnan,2,3,light\n")(folder), "--quiet"]) == 3
    assert "NO candidate keeps the contract" in (told := capsys.readouterr().out)
    assert "score shift is not a number" in told


@pytest.mark.parametrize("kind", ["16-bit", "turned", "animated"])
def test_an_odd_picture_is_answered_in_its_upright_frame(
    kind: str, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / f"odd.{'png' if kind == '16-bit' else 'jpg' if kind == 'turned' else 'gif'}"
    picture.write_bytes(a.PICTURES[kind])
    assert main(["infer", str(world / "dist" / "squares"), str(picture), "--json", "--quiet"]) == 0
    answer = json.loads(capsys.readouterr().out)["answer"]
    assert answer["labels"][0] == "red"
    assert np.abs(np.array(answer["boxes"][0]) - (112, 32, 128, 48)).max() < 1


def test_the_table_has_the_breadth_that_it_should() -> None:
    kinds = {name.split(":")[0] for name in CASES}
    assert len(CASES) >= 100
    assert kinds == {"config", "model", "picture", "data", "table", "arrays", "bundle", "request"}

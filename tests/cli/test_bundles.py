"""The verbs on real bundles of tiny models, each in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from ferryman.bundle.read import load_bundle
from tests.bundle.making import bundle_affine, bundle_colour, bundle_model, bundle_table, plain_picture, save
from tests.cli.running import ferryman
from tests.server.running import Running, running, wait_until


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
    assert [line.split()[:2] for line in lines[1:]] == [["rows.csv[0]", "light"], ["rows.csv[1]", "heavy"]]


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


def test_a_text_that_looks_like_a_number_stays_the_text_that_it_is(tmp_path: Path) -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.STRING, ["batch", 1]) for name in ("code", "label")]
    model = save(tmp_path / "codes.onnx", [helper.make_node("Identity", ["code"], ["label"])], ports[:1], ports[1:])
    bundle_model(tmp_path / "codes", model, {"kind": "tabular"}, [{"code": "007"}], name="codes")
    (tmp_path / "codes.csv").write_text("code\n01234\n", encoding="utf-8")
    answer = ferryman("infer", "codes", "codes.csv", "--json", folder=tmp_path)
    assert json.loads(answer.stdout)["answer"]["label"] == "01234"


@pytest.fixture(scope="module")
def server(bundles: Path) -> Iterator[Running]:
    affine = bundle_affine(bundles / "affine")
    with running([affine.path]) as one:
        yield one


@pytest.mark.parametrize("shape", [(1, 3), (3,), (2, 3)], ids=["a batch of one", "without its batch", "a batch of two"])
def test_arrays_get_the_same_answer_from_a_server_as_from_its_bundle(
    bundles: Path, server: Running, shape: tuple[int, ...]
) -> None:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.savez(bundles / "values.npz", values=values)
    np.save(bundles / "values.npy", values)
    (bundles / "values.json").write_text(json.dumps({"values": values.tolist()}), encoding="utf-8")
    words = ("infer", "values.npz", "values.npy", "values.json", "--json")
    here = ferryman(words[0], "affine", *words[1:], folder=bundles)
    there = ferryman(words[0], server.url, *words[1:], folder=bundles)
    assert (there.returncode, there.stdout) == (0, here.stdout), there.stderr
    wanted = (values.reshape(-1, 3) * 2 + 1).tolist()
    assert json.loads(here.stdout.splitlines()[0])["answer"]["outputs"]["sum"]["data"] == wanted


def test_arrays_that_a_server_does_not_take_are_told_before_they_are_sent(bundles: Path, server: Running) -> None:
    np.savez(bundles / "others.npz", others=np.ones(3))
    answer = ferryman("infer", server.url, "others.npz", folder=bundles)
    assert answer.returncode == 2
    assert "no input is called 'others'" in answer.stderr


def test_pack_makes_one_file_that_is_the_bundle(bundles: Path, tmp_path: Path) -> None:
    answer = ferryman("pack", "table", str(tmp_path / "sent.ferry"), "--json", folder=bundles)
    assert json.loads(answer.stdout) == {
        "file": str(tmp_path / "sent.ferry"),
        "bytes": (tmp_path / "sent.ferry").stat().st_size,
    }
    packed = load_bundle(tmp_path / "sent.ferry", unpack_into=tmp_path / "cache")
    assert packed.manifest == load_bundle(bundles / "table").manifest


def test_pack_names_the_file_after_the_bundle_and_leaves_a_strangers_file_alone(tmp_path: Path) -> None:
    bundle_table(tmp_path / "table")
    assert ferryman("pack", ".", folder=tmp_path / "table").stdout == f"{tmp_path / 'table.ferry'}\n"
    (tmp_path / "table.ferry").write_text("precious", encoding="utf-8")
    answer = ferryman("pack", "table", folder=tmp_path)
    assert (answer.returncode, "is not a .ferry file" in answer.stderr) == (2, True)
    assert (tmp_path / "table.ferry").read_text(encoding="utf-8") == "precious"


def test_the_options_of_serve_reach_the_server(bundles: Path, tmp_path: Path) -> None:
    log = tmp_path / "stderr"
    options = ["--port", "0", "--access-log", "-", "--drain-s", "5", "--max-queue", "7", "--json"]
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "ferryman", "serve", "table", *options],
            cwd=bundles,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            server = Running(url, process, log)
            assert server.ask("GET", "/v2")[0] == 200
            wait_until(lambda: '"path":"/v2"' in server.log())
            assert any(line.startswith("{") and json.loads(line)["path"] == "/v2" for line in server.log().splitlines())
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.communicate()

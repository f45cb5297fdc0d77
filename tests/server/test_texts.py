"""A model of texts is asked in plain JSON, and no text takes more than its share."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferryman import api
from tests.bundle.making import bundle_model
from tests.server.running import Running, running
from tests.tasks.making_texts import make_mean_model, make_tokenizer

_TEXTS = ["open a file", "a thread waits", "the mean of numbers"]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("texts")
    make_tokenizer(folder / "tokenizer.json")
    model = make_mean_model(folder / "model")
    task = {"kind": "text-classify", "tokenizer": str(folder / "tokenizer.json"), "labels": ["calm", "wild"]}
    vector = {"kind": "embed", "tokenizer": str(folder / "tokenizer.json")}
    pair = {"question": "open?", "answer": "a file"}
    made = [
        bundle_model(folder / "one", model, task, [{"text": text} for text in _TEXTS], name="one"),
        bundle_model(folder / "pair", model, {**task, "columns": list(pair)}, [pair], name="pair"),
        bundle_model(folder / "vector", model, vector, [{"text": _TEXTS[0]}], name="vector"),
    ]
    return {bundle.manifest.name: bundle.path for bundle in made}


@pytest.fixture(scope="module")
def server(bundles: dict[str, Path]) -> Iterator[Running]:
    with running(list(bundles.values()), max_body_bytes=20_000_000) as one:
        yield one


def answers(server: Running, model: str, body: dict[str, Any]) -> list[dict[str, Any]]:  # JSON
    status, answer = server.infer(model, body)
    assert status == 200, answer
    found: list[dict[str, Any]] = answer["answers"]
    return found


def test_one_text_several_and_rows_get_the_same_answers(server: Running, bundles: dict[str, Path]) -> None:
    wanted = api.infer(bundles["one"], [{"text": text} for text in _TEXTS])
    assert [answers(server, "one", {"text": text})[0] for text in _TEXTS] == wanted
    assert answers(server, "one", {"text": _TEXTS, "id": "7"}) == wanted
    assert answers(server, "one", {"rows": [{"text": text} for text in _TEXTS]}) == wanted


def test_a_pair_and_a_vector_are_asked_for_in_the_same_way(server: Running) -> None:
    pairs = answers(server, "pair", {"question": ["open?", "close?"], "answer": ["a file", "never"]})
    assert len(pairs) == 2 and set(pairs[0]) == {"classes", "labels", "scores"}
    assert len(answers(server, "vector", {"text": _TEXTS})[2]["embedding"]) == 2


@pytest.mark.parametrize(
    ("model", "body", "said"),
    [
        ("one", {"text": "a" * 10_000_000}, "10000000 characters; at most 200000"),
        ("one", {"text": ["fine", 5]}, "text 2: 'text' is a number"),
        ("one", {"text": "a", "texts": 1}, "'texts', which the model doesn't take"),
        ("one", {"text": []}, "rows"),
        ("one", {"txt": "a"}, "no 'inputs'"),
        ("one", {}, 'no \'text\'; send {"text": "..."}'),
        ("one", {"text": {"deep": 1}}, "no single value"),
        ("pair", {"question": "open?"}, "no 'answer'"),
        ("pair", {"question": ["open?"], "answer": ["a", "b"]}, "differ in length"),
    ],
)
def test_what_can_t_be_read_is_refused_and_says_why(server: Running, model: str, body: Any, said: str) -> None:
    status, answer = server.infer(model, body)
    assert status == 400 and said in answer["error"], answer


def test_the_longest_text_that_is_taken_costs_little(server: Running) -> None:
    begun = time.monotonic()
    answers(server, "one", {"text": "a" * 200_000})
    answers(server, "one", {"text": "a b " * 50_000})
    assert time.monotonic() - begun < 20  # hours, were it quadratic
    assert server.ask("POST", "/v2/models/one/infer", b'{"text": "\\ud800"}')[0] == 400


def test_metadata_and_openapi_name_the_texts(server: Running) -> None:
    _, metadata, _ = server.ask("GET", "/v2/models/pair")
    assert metadata["parameters"]["columns"] == ["question", "answer"]
    _, description, _ = server.ask("GET", "/openapi.json")
    body = json.dumps(description["paths"]["/v2/models/one/infer"]["post"]["requestBody"])
    assert '"required": ["text"]' in body


def test_the_workers_load_no_transformers_and_no_torch(server: Running) -> None:
    answers(server, "one", {"text": "warm"})
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            parent = (maps.parent / "stat").read_text().rpartition(")")[2].split()[1]
            loaded = maps.read_text() if _descends(parent, server.process.pid) else ""
        except OSError:
            continue
        assert "libtorch" not in loaded and "transformers" not in loaded


def _descends(parent: str, pid: int) -> bool:
    while parent not in ("0", "1"):
        if parent == str(pid):
            return True
        parent = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1]
    return False

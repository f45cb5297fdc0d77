"""What is told of texts: length, tokens, what the tokenizer doesn't know, and language."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ferryman.core.record import Value
from ferryman.core.signature import Array, Signature, TensorSpec
from ferryman.core.task import Item, bind_task
from ferryman.monitor.signals.languages import guess_language
from ferryman.monitor.signals.read import Signals
from ferryman.tasks.text_classify import TextClassifySpec

TEXTS: dict[str, str] = json.loads((Path(__file__).parent / "rights.json").read_text())
"""Article 1 of the Universal Declaration of Human Rights, or its beginning, by the language that is to be guessed."""


@pytest.mark.parametrize("language", TEXTS)
def test_the_language_of_a_text_is_guessed(language: str) -> None:
    assert guess_language(TEXTS[language]) == language


def test_a_text_of_unknown_words_is_of_its_script() -> None:
    assert guess_language("Lorem ipsum dolor sit amet consectetur adipiscing elit") == "latin"
    assert guess_language("") == "none"
    assert guess_language("\ud800 \x00") == "none"


@pytest.fixture
def spec(tmp_path: Path) -> TextClassifySpec:
    pytest.importorskip("tokenizers", reason="NOT TESTED: the extra 'text' is not installed")
    words = ["[PAD]", "[UNK]", "all", "human", "beings", "are", "born", "free"]
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer: dict[str, object] = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "post_processor": None,
        "normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"}, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    return TextClassifySpec(tokenizer="tokenizer.json", truncate=True, max_tokens=16).resolved(tmp_path)


SIGNATURE = Signature(
    inputs=tuple(
        TensorSpec(name=name, dtype="int64", shape=("batch", "tokens")) for name in ("input_ids", "attention_mask")
    ),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 2)),),
)


def read(spec: TextClassifySpec, items: list[Item]) -> dict[str, list[Value]]:
    signals = Signals(spec, SIGNATURE)
    batch = bind_task(spec, SIGNATURE).preprocess(items)
    found = signals.read(
        inputs=batch.inputs, items=items, contexts=batch.contexts, answers=None, outputs=None, rows=len(items)
    )
    assert not signals.unread
    return found


def test_a_text_has_length_tokens_unknown_ones_and_a_language(spec: TextClassifySpec) -> None:
    found = read(spec, [{"text": "All human beings are born free"}, {"text": "All xyzzy"}])
    assert found == {
        "text.characters": [30.0, 9.0],
        "text.tokens": [6.0, 2.0],
        "text.unknown": [0.0, 0.5],
        "text.language": ["en", "latin"],
    }


def test_tensors_of_a_caller_have_tokens_but_no_language(spec: TextClassifySpec) -> None:
    ids = np.array([[2, 3, 1, 0]])
    inputs: dict[str, Array] = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}
    found = Signals(spec, SIGNATURE).read(inputs=inputs, items=None, contexts=(), answers=None, outputs=None, rows=1)
    assert found["text.tokens"] == [3.0]
    assert found["text.unknown"] == [pytest.approx(1 / 3)]
    assert found["text.language"] == [None]
    assert math.isnan(found["text.characters"][0])  # type: ignore[arg-type]  # a number


def test_a_huge_text_is_read_in_bounded_time(spec: TextClassifySpec) -> None:
    found = read(spec, [{"text": "free " * 20_000}])
    assert found["text.characters"] == [100_000.0]
    assert found["text.tokens"] == [16.0]
    assert guess_language("the and " * 200) == "en"


def test_a_tokenizer_that_is_gone_is_counted_and_hides_nothing_else(spec: TextClassifySpec, tmp_path: Path) -> None:
    signals = Signals(spec, SIGNATURE)
    (tmp_path / "tokenizer.json").unlink()
    inputs: dict[str, Array] = {name: np.ones((1, 3), np.int64) for name in ("input_ids", "attention_mask")}
    answers = [{"labels": ["a", "b"], "scores": [0.75, 0.25], "classes": [0, 1]}]
    for _ in range(2):
        found = signals.read(inputs=inputs, items=None, contexts=(), answers=answers, outputs=None, rows=1)
    assert found["answer.label"] == ["a"]
    assert dict(signals.unread) == {"text": 2}

"""Texts become tokens: as the tokenizer says, bounded, and with errors that name the text."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from tokenizers import Tokenizer

from ferryman.core.errors import BundleError, ConfigError, InputError
from ferryman.core.runtime import Session
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.task import infer_items
from ferryman.tasks.text import TOKENIZER, TextPort, bind_text
from ferryman.tasks.text_classify import TextClassifySpec, TextClassifyTask
from tests.bundle.making import bundle_model, describe
from tests.sources.docstrings import labelled
from tests.tasks.making_texts import make_mean_model, make_tokenizer, text_signature

MakePort = Callable[..., TextPort]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer(folder / "tokenizer.json")
    make_tokenizer(folder / "bare.json", has_marks=False)
    return folder


@pytest.fixture
def port(folder: Path) -> MakePort:
    def make(signature: Signature | None = None, **keys: Any) -> TextPort:  # any key of [task]
        spec = TextClassifySpec(**{"tokenizer": "tokenizer.json", "pad_token": "[PAD]", **keys}).resolved(folder)
        return bind_text(spec, signature or text_signature())

    return make


def test_shorter_texts_are_padded_and_the_mask_leaves_the_padding_out(port: MakePort) -> None:
    inputs = port().write([{"text": "open a file"}, {"text": "open"}])
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    assert ids.dtype == np.int64 and ids.shape == mask.shape
    assert mask[0].all() and mask[1].tolist() == [1] * 3 + [0] * (mask.shape[1] - 3)
    assert (ids[1][mask[1] == 0] == 0).all()


def test_padding_goes_to_the_left_where_the_model_wants_it_there(port: MakePort) -> None:
    mask = port(pad_side="left").write([{"text": "open a file"}, {"text": "open"}])["attention_mask"]
    assert mask[1].tolist() == [0] * (mask.shape[1] - 3) + [1] * 3


def test_padding_never_changes_an_answer(folder: Path, tmp_path: Path) -> None:
    bundle = bundle_of(folder, tmp_path)
    items = [{"text": text} for text, _ in labelled()[:20]]
    task, session = opened(bundle)
    for item, together in zip(items, infer_items(task, session, items), strict=True):
        alone = infer_items(task, session, [item])[0]
        assert together["classes"] == alone["classes"]
        # Answers are rounded to 6 digits: the last may fall to either side, as sums of other shapes differ by one bit.
        assert together["scores"] == pytest.approx(alone["scores"], abs=1.5e-6, rel=0)


def test_a_long_text_is_cut_on_the_side_that_the_spec_names(port: MakePort) -> None:
    item = {"text": "zero one two three four five six seven eight nine"}
    right = port(max_tokens=6).write([item])["input_ids"][0].tolist()
    left = port(max_tokens=6, truncate_side="left").write([item])["input_ids"][0].tolist()
    whole = port().write([item])["input_ids"][0].tolist()
    assert right == whole[:5] + whole[-1:] and left == whole[:1] + whole[-5:]


@pytest.mark.parametrize("tokenizer", ["tokenizer.json", "bare.json"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_texts_and_pairs_are_cut_as_the_library_itself_cuts_them(
    folder: Path, port: MakePort, tokenizer: str, side: Literal["left", "right"]
) -> None:
    library: Any = Tokenizer.from_file(str(folder / tokenizer))
    random = np.random.default_rng(0)
    words = np.array(["open", "a", "file", "thread", "É漢", "unseen-word", "1,5"])
    for most in (*range(4, 14), 40):
        library.enable_truncation(most, strategy="longest_first", direction=side)
        keys = {"tokenizer": tokenizer, "pad_token": None, "max_tokens": most, "truncate_side": side}
        signature = text_signature(segments=True)
        ports = [port(signature, columns=names, **keys) for names in (["text"], ["text", "other"])]
        for _ in range(20):
            texts = [" ".join(random.choice(words, random.integers(1, 12))) for _ in range(2)]
            for bound, given in zip(ports, (texts[:1], texts), strict=True):
                wanted = library.encode(*given)
                inputs = bound.write([dict(zip(("text", "other"), given, strict=False))])
                count = len(wanted.ids)
                assert inputs["input_ids"][0, :count].tolist() == wanted.ids, given
                assert inputs["token_type_ids"][0, :count].tolist() == wanted.type_ids
                assert inputs["attention_mask"][0].sum() == count


def test_a_pair_of_two_long_texts_costs_what_its_texts_cost(folder: Path) -> None:
    # In a process of its own: the most memory that one ever had never falls again.
    code = f"""
import resource
from pathlib import Path
from ferryman.tasks.text import bind_text
from ferryman.tasks.text_classify import TextClassifySpec
from tests.tasks.making_texts import text_signature
spec = TextClassifySpec(tokenizer="tokenizer.json", columns=["a", "b"], max_tokens=64).resolved(Path({str(folder)!r}))
port = bind_text(spec, text_signature(segments=True))
port.write([{{"a": "file", "b": "file"}}])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert port.write([{{"a": "file " * 10_000, "b": "open " * 10_000}}])["input_ids"].shape == (1, 64)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    root = Path(__file__).parents[2]
    asked = [sys.executable, "-c", code]
    found = subprocess.run(asked, cwd=root, capture_output=True, text=True, timeout=120, check=True)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    assert int(found.stdout) * unit < 50 * 2**20


def test_a_long_text_is_refused_where_it_must_not_be_cut(port: MakePort) -> None:
    with pytest.raises(InputError, match=r"text 2 has \d+ tokens; the model takes 6") as caught:
        port(max_tokens=6, truncate=False).write([{"text": "file"}, {"text": "file " * 50}])
    assert "truncate = true" in caught.value.hint


def test_a_model_of_fixed_length_gets_that_length_in_its_own_dtype(port: MakePort) -> None:
    inputs = port(text_signature(tokens=16, dtype="int32")).write([{"text": "file"}, {"text": "file " * 50}])
    assert {array.shape for array in inputs.values()} == {(2, 16)} and inputs["input_ids"].dtype == np.int32


def test_the_second_text_of_a_pair_is_told_apart(port: MakePort) -> None:
    given = port(text_signature(segments=True), columns=["question", "answer"])
    segments = given.write([{"question": "open", "answer": "file"}])["token_type_ids"][0].tolist()
    assert segments == sorted(segments) and set(segments) == {0, 1}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"text": "a" * 10_000_000}, "has 10000000 characters; at most 200000"),
        ({"text": "half \ud800 of one"}, "character 6 is half of one"),
        ({"text": 5}, "'text' is a number, not text"),
        ({"text": None}, "'text' is nothing"),
        ({"txt": "typo"}, "'text' is missing"),
        ({"text": "a", "more": 1}, "has 'more', which the model doesn't take"),
        (b"bytes", "is a file's content"),
    ],
)
def test_what_is_no_text_is_refused_by_place(port: MakePort, item: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"text 2.*{said}"):
        port().write([{"text": "fine"}, item])


@pytest.mark.parametrize("text", ["", "\0", "\0" * 1000, " \n\t", "a" * 200_000, "\u202e\ufeff", "🙂" * 10_000])
def test_odd_texts_are_answered_within_the_model_s_length(port: MakePort, text: str) -> None:
    ids = port(max_tokens=32).write([{"text": text}])["input_ids"]
    assert 2 <= ids.shape[1] <= 32


def test_a_text_that_a_tokenizer_without_marks_makes_nothing_of_is_refused(port: MakePort) -> None:
    with pytest.raises(InputError, match="text 1 is empty"):
        port(tokenizer="bare.json").write([{"text": " "}])
    assert port(tokenizer="bare.json").write([{"text": "a"}])["attention_mask"].tolist() == [[1, 0]]


def test_a_model_without_a_mask_is_refused(port: MakePort) -> None:
    only = Signature(
        inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", "tokens")),),
        outputs=text_signature().outputs,
    )
    with pytest.raises(ConfigError, match="needs a model with inputs input_ids and attention_mask"):
        port(only)


def test_a_tokenizer_that_is_absent_other_or_damaged_is_named(folder: Path, port: MakePort, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*absent\.json"):
        port(tokenizer="absent.json")
    with pytest.raises(ConfigError, match="tokenizer_sha256 is 0000"):
        port(tokenizer_sha256="0" * 64)
    with pytest.raises(ConfigError, match=r"pad_token = '\[NONE\]' is no token"):
        port(pad_token="[NONE]").write([{"text": "a"}])
    with pytest.raises(ConfigError, match="hold no text"):
        port(text_signature(tokens=2)).write([{"text": "a"}])
    (tmp_path / "tokenizer.json").write_text("{}")
    spec = TextClassifySpec(tokenizer="tokenizer.json").resolved(tmp_path)
    with pytest.raises(ConfigError, match="can't be read"):
        bind_text(spec, text_signature()).write([{"text": "a"}])


def test_a_bundle_carries_its_tokenizer_and_answers_without_the_project(folder: Path, tmp_path: Path) -> None:
    bundle = bundle_of(folder, tmp_path)
    shown = bundle.deployment.task.model_dump()
    assert shown["tokenizer"] == TOKENIZER and shown["tokenizer_sha256"] == bundle.manifest.files[TOKENIZER].sha256
    moved = tmp_path / "elsewhere"
    bundle.path.rename(moved)
    from ferryman.bundle.read import load_bundle

    task, session = opened(load_bundle(moved))
    assert infer_items(task, session, [{"text": "open a file"}])[0]["labels"]
    assert bundle_of(folder, tmp_path / "again").manifest.digest == bundle.manifest.digest


def test_a_bundle_that_names_a_file_outside_is_refused(folder: Path) -> None:
    spec = TextClassifySpec(tokenizer="../../etc/passwd", tokenizer_sha256="0" * 64)
    with pytest.raises(BundleError, match="not its own"):
        spec.unpacked(folder)


def bundle_of(folder: Path, place: Path) -> Any:  # core.bundle.Bundle
    model = make_mean_model(place / "source")
    task = {"kind": "text-classify", "tokenizer": str(folder / "tokenizer.json"), "labels": ["calm", "wild"]}
    return bundle_model(place / "bundle", model, task, [{"text": "open a file"}, {"text": "a thread"}], name="texts")


def opened(bundle: Any) -> tuple[TextClassifyTask, Session]:  # core.bundle.Bundle
    from ferryman.core.plugins import runtime_for

    session: Session = runtime_for("onnx").require()().load(bundle.artifact, threads=1)
    return TextClassifyTask(bundle.deployment.task, describe(bundle.artifact.path).signature), session

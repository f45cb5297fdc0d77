"""What a Hugging Face folder says of itself is read without running any of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.sources.conftest import MakeSection

from ferryman.core.artifact import Artifact
from ferryman.core.errors import SourceError, StepError
from ferryman.core.signature import Signature
from ferryman.runtimes.huggingface import HuggingFaceRuntime
from ferryman.sources._huggingface_folder import read_folder
from ferryman.sources.detect import open_source
from ferryman.sources.huggingface import HuggingFaceSource, _text_task

_BERT = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}


def write(folder: Path, *, weights: str = "model.safetensors", **files: Any) -> Path:  # JSON
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / weights).write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return folder


def test_a_folder_is_known_by_its_config_and_weights(tmp_path: Path) -> None:
    source = HuggingFaceSource()
    assert source.recognises(write(tmp_path / "a", config=_BERT))
    assert source.recognises(write(tmp_path / "b", config=_BERT, weights="pytorch_model.bin"))
    assert not source.recognises(write(tmp_path / "c", config={"some": "tool's settings"}))
    assert not source.recognises(write(tmp_path / "d", config=[1]))
    assert not source.recognises(write(tmp_path / "e", config=_BERT, weights="weights.h5"))
    assert not source.recognises(tmp_path / "a" / "config.json")
    inside = write(tmp_path / "f" / "0_Transformer", config=_BERT).parent
    write(inside, modules=[{"type": "x.Transformer", "path": "0_Transformer"}], weights="README")
    assert source.recognises(inside)


@pytest.mark.parametrize("name", ["config", "tokenizer_config", "preprocessor_config"])
def test_a_model_that_needs_its_own_code_is_refused(tmp_path: Path, section: MakeSection, name: str) -> None:
    files: dict[str, Any] = {
        "config": _BERT,
        "tokenizer": {},
        name: {**_BERT, "auto_map": {"AutoModel": "modeling_own.Own"}},
    }
    with pytest.raises(SourceError, match=r"asks for Python code .*\(auto_map: AutoModel\), which is never run"):
        HuggingFaceSource().open(write(tmp_path / "own", **files), section(), tmp_path)


def test_a_pickle_of_weights_needs_trust_and_an_old_tokenizer_a_new_form(tmp_path: Path, section: MakeSection) -> None:
    folder = write(tmp_path / "old", config=_BERT, weights="pytorch_model.bin")
    with pytest.raises(SourceError, match="weights in a pickle") as caught:
        HuggingFaceSource().open(folder, section(), tmp_path)
    assert "trust = true" in caught.value.hint
    with pytest.raises(SourceError, match=r"has no tokenizer\.json, nor any other tokenizer"):
        HuggingFaceSource().open(folder, section(trust=True), tmp_path)
    (folder / "vocab.txt").touch()
    with pytest.raises(SourceError, match=r"only the older form of a tokenizer \(vocab\.txt\)"):
        HuggingFaceSource().open(folder, section(trust=True), tmp_path)


def test_settings_that_were_cut_short_are_called_so(tmp_path: Path, section: MakeSection) -> None:
    folder = write(tmp_path / "cut")
    (folder / "config.json").write_text('{"model_type": "bert", "hid')
    with pytest.raises(SourceError, match=r"config\.json is damaged or cut short") as caught:
        open_source(folder, section(), tmp_path)
    assert "copy it again" in caught.value.hint


@pytest.mark.parametrize("vocab", [{"a": 0, "far": 99}, ["a"] * 99 + ["far"]])
def test_a_token_beyond_the_model_is_found(vocab: object, tmp_path: Path) -> None:
    files: dict[str, Any] = {"config": {**_BERT, "vocab_size": 40}, "tokenizer": {"model": {"vocab": vocab}}}
    assert read_folder(write(tmp_path / "far", **files)).foreign_token == ("far", 99, 40)
    files["config"]["vocab_size"] = 100
    assert read_folder(write(tmp_path / "near", **files)).foreign_token is None


def test_a_model_that_does_something_else_is_refused_by_name(tmp_path: Path, section: MakeSection) -> None:
    folder = write(tmp_path / "gpt", config={"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]})
    with pytest.raises(SourceError, match=r"holds a GPT2LMHeadModel: text classification"):
        read_folder(folder).head()


def test_a_folder_of_nothing_known_is_refused(tmp_path: Path, section: MakeSection) -> None:
    with pytest.raises(SourceError, match="a folder of no known kind"):
        open_source(write(tmp_path / "no", config={}), section(), tmp_path)


@pytest.mark.parametrize(
    ("pooling", "modules", "wanted"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, ["Normalize"], ("mean", True)),
        ({"pooling_mode_cls_token": True, "include_prompt": True}, [], ("cls", False)),
        ({"pooling_mode": "mean"}, [], ("mean", False)),
    ],
)
def test_the_pooling_of_sentence_transformers_is_taken(
    tmp_path: Path, pooling: dict[str, Any], modules: list[str], wanted: tuple[str, bool]
) -> None:
    head = read_folder(embedder(tmp_path, pooling, modules)).head()
    assert (head["pooling"], head["normalize"]) == wanted


@pytest.mark.parametrize(
    ("pooling", "modules", "said"),
    [
        ({"pooling_mode_max_tokens": True}, [], "its pooling is max_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, [], "its pooling is cls, mean"),
        ({"pooling_mode_mean_tokens": True}, ["Dense"], "a module 'Dense'"),
    ],
)
def test_a_pooling_that_is_not_known_is_refused(
    tmp_path: Path, pooling: dict[str, Any], modules: list[str], said: str
) -> None:
    with pytest.raises(SourceError, match=said):
        read_folder(embedder(tmp_path, pooling, modules)).head()


def embedder(folder: Path, pooling: dict[str, Any], modules: list[str]) -> Path:
    kinds = ["Transformer", "Pooling", *modules]
    listed = [
        {"type": f"sentence_transformers.models.{kind}", "path": "" if not n else f"{n}"}
        for n, kind in enumerate(kinds)
    ]
    write(folder / "model" / "1", config=pooling, weights="unused")
    return write(folder / "model", config={"model_type": "bert", "architectures": ["BertModel"]}, modules=listed)


def test_a_module_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="outside of the model"):
        read_folder(write(tmp_path / "out", config=_BERT, modules=[{"type": "Transformer", "path": "../../etc"}]))


def test_a_pooling_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = embedder(tmp_path, {"pooling_mode": "mean"}, [])
    for place in ("../1", "/etc"):
        modules = [{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": place}]
        with pytest.raises(SourceError, match=f"outside of the model: '{place}'"):
            read_folder(write(folder, modules=modules))


def test_what_changes_texts_before_the_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = embedder(tmp_path, {"pooling_mode": "mean"}, [])
    prompts = {"query": "query: ", "document": ""}
    write(folder, config_sentence_transformers={"prompts": prompts, "default_prompt_name": "query"})
    with pytest.raises(SourceError, match="puts 'query: ' before each text"):
        read_folder(folder).head()
    write(folder, config_sentence_transformers={"prompts": prompts, "default_prompt_name": "document"})
    assert read_folder(folder).head()["pooling"] == "mean"
    write(folder, sentence_bert_config={"do_lower_case": True})
    with pytest.raises(SourceError, match="do_lower_case = true"):
        read_folder(folder).head()


def test_prompts_that_a_model_was_trained_with_are_asked_about(tmp_path: Path) -> None:
    folder = embedder(tmp_path, {"pooling_mode": "mean"}, [])
    assert not told(folder)["questions"]
    write(folder, config_sentence_transformers={"prompts": {"query": "query: ", "document": ""}})
    (question,) = told(folder)["questions"]
    assert "(query = 'query: ')" in question


@pytest.mark.parametrize(
    ("config", "activation", "asked"),
    [
        ({"id2label": {"0": "LABEL_0"}, "problem_type": "regression"}, "none", ""),
        ({"id2label": {"0": "LABEL_0"}}, "sigmoid", "activation = 'none'"),
        ({"id2label": {"0": "a", "1": "b"}, "problem_type": "multi_label_classification"}, "sigmoid", ""),
        ({"id2label": {"0": "a", "1": "b"}}, "softmax", ""),
    ],
)
def test_a_model_of_numbers_is_not_taken_for_one_of_yes_or_no(
    tmp_path: Path, config: dict[str, Any], activation: str, asked: str
) -> None:
    found = told(write(tmp_path / "model", config={**_BERT, **config}))
    assert found["spec"]["activation"] == activation
    assert ("activation = 'none'" in " ".join(found["questions"])) == bool(asked)


def told(path: Path) -> dict[str, Any]:
    folder = read_folder(path)
    tokenizer = {"max_tokens": 64, "pad_token": "", "pad_side": "right", "truncate_side": "right"}
    return _text_task(folder, folder.head(), tokenizer)


def test_a_runtime_refuses_an_artifact_that_does_not_say_how_it_is_loaded(tmp_path: Path) -> None:
    signature = Signature(inputs=(), outputs=())
    for loader, said in (({}, "doesn't say its inner"), ({"inner": "../x", "head": {}, "trust": False}, "outside of")):
        with pytest.raises(StepError, match=said):
            HuggingFaceRuntime().load(Artifact(tmp_path, "huggingface", signature, "", loader=loader), threads=1)

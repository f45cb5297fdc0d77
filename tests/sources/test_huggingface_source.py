"""Tiny models of transformers' own classes, trained on real data: opened, imported, and as right as before."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.sources.docstrings import NAMES, labelled

from ferryman import api
from ferryman.core.artifact import Artifact
from ferryman.core.deployment import ModelSection
from ferryman.core.errors import SourceError
from ferryman.core.isolated import isolated
from ferryman.core.plugins import find, runtime_for
from ferryman.core.step import StepContext
from ferryman.core.task import bind_task, infer_items
from ferryman.sources.detect import open_source
from ferryman.sources.huggingface import HuggingFaceToOnnx
from ferryman.tasks.guess import guess_task

pytestmark = [pytest.mark.slow, pytest.mark.toolchain("huggingface")]

_MAKER = Path(__file__).parent / "huggingface_maker.py"
_SHARE = 0.7


def train_and_test() -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    rows = labelled()
    return rows[: int(len(rows) * _SHARE)], rows[int(len(rows) * _SHARE) :]


def digits() -> tuple[Any, Any]:  # uint8 [N, 32, 32, 3] and their numbers
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = np.kron(found.images, np.ones((1, 4, 4))) * 15.9
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8), found.target


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train a text classifier and a picture classifier, and write the first one's encoder as an embedder."""
    base = tmp_path_factory.mktemp("huggingface")
    made = {name: base / name for name in ("bert", "embed", "vit")}
    rows, _ = train_and_test()
    pictures, numbers = digits()
    planar = pictures[:1200].transpose(0, 3, 1, 2).astype(np.float32)
    with isolated("huggingface", _MAKER) as worker:
        texts, labels = [text for text, _ in rows], [label for _, label in rows]
        worker.ask("text", folder=str(made["bert"]), texts=texts, labels=labels, names=NAMES, steps=150)
        worker.ask("embedder", source=str(made["bert"]), folder=str(made["embed"]))
        names = [str(number) for number in range(10)]
        about: dict[str, Any] = {"labels": numbers[:1200].tolist(), "names": names, "steps": 400}
        worker.ask("pictures", folder=str(made["vit"]), pictures=planar, **about)
    return made


@pytest.fixture(scope="module")
def artifacts(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Artifact, Artifact]]:
    """Give each model as opened, and as ONNX."""
    made = {}
    for name, folder in folders.items():
        opened = open_source(folder, ModelSection(name=name, source=str(folder)), tmp_path_factory.mktemp("work"))
        imported = HuggingFaceToOnnx().run(opened, StepContext(tmp_path_factory.mktemp(name)))
        made[name] = (opened, imported)
    return made


def tokens(artifact: Artifact, count: int, length: int) -> dict[str, Any]:
    random = np.random.default_rng(length)
    mask = np.ones((count, length), np.int64)
    mask[-1, length // 2 :] = 0
    values = {"input_ids": random.integers(5, 400, (count, length)), "attention_mask": mask}
    return {spec.name: values.get(spec.name, np.zeros_like(mask)) for spec in artifact.signature.inputs}


@pytest.mark.parametrize("name", ["bert", "embed"])
def test_onnx_answers_as_torch_does_for_any_batch_and_length(
    artifacts: dict[str, tuple[Artifact, Artifact]], name: str
) -> None:
    opened, imported = artifacts[name]
    assert {spec.shape for spec in imported.signature.inputs} == {("batch", "tokens")}
    runtimes = [runtime_for(artifact.format).require()() for artifact in (opened, imported)]
    with (
        closing(runtimes[0].load(opened, threads=1)) as torch,
        closing(runtimes[1].load(imported, threads=1)) as onnx,
    ):
        for count, length in ((1, 2), (3, 7), (2, 32), (5, 64 if name == "bert" else 31)):
            inputs = tokens(opened, count, length)
            (wanted,), (got,) = torch.infer(inputs).values(), onnx.infer(inputs).values()
            assert np.abs(wanted - got).max() < 1e-5
    assert name == "bert" or np.allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)


def test_equal_folders_make_equal_bytes(artifacts: dict[str, tuple[Artifact, Artifact]], tmp_path: Path) -> None:
    opened, imported = artifacts["bert"]
    again = HuggingFaceToOnnx().run(opened, StepContext(tmp_path / "again"))
    assert again.digest == imported.digest
    assert str(opened.path.parent).encode() not in again.path.read_bytes()


def test_tokens_are_those_of_transformers_on_200_texts_and_pairs(
    folders: dict[str, Path], artifacts: dict[str, tuple[Artifact, Artifact]]
) -> None:
    opened, _ = artifacts["bert"]
    texts = [text for text, _ in labelled()[:188]] + [
        "", " ", "É è ß", "漢字かな交じり文", "🙂🙃 emoji", "a" * 500, "tab\tnew\nline", "\0nul", 
        "1,234.5 %", "…—“”", "x " * 200, "MiXeD",
    ]  # fmt: skip
    assert len(texts) == 200
    about: dict[str, Any] = {"folder": str(folders["bert"]), "texts": texts, "max_length": 48}
    given_pairs: list[list[str]] = [[], texts[::-1]]
    with isolated("huggingface", _MAKER) as worker:
        told = [worker.ask("tokenize", **about, pairs=pairs) for pairs in given_pairs]
    for pairs, wanted in zip(given_pairs, told, strict=True):
        spec = guess_task(opened, folder=folders["bert"].parent).spec_toml | {"max_tokens": 48}
        spec |= {"columns": ["text", "other"]} if pairs else {}
        task = find("tasks", "text-classify").require()
        bound = task.Spec.model_validate(spec).resolved(folders["bert"].parent)
        for place, text in enumerate(texts):
            item = {"text": text, "other": pairs[place]} if pairs else {"text": text}
            given = task(bound, opened.signature).preprocess([item]).inputs
            for name, values in given.items():
                assert values[0].tolist() == wanted[name][place], text


def test_a_text_classifier_is_as_right_as_before_from_init_to_the_bundle(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    _, held_back = train_and_test()
    shutil.copytree(folders["bert"], tmp_path / "bert")
    for name, rows in (("labelled", held_back), ("texts", labelled()[:40])):
        lines = [json.dumps({"text": text, "label": NAMES[label]}) for text, label in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    written = api.init("bert", folder=tmp_path, evaluation="labelled.jsonl", calibration="texts.jsonl")
    assert 'kind = "text-classify"' in written.text and 'tokenizer = "bert/tokenizer.json"' in written.text
    chosen = '\n[build]\ncandidates = ["onnx-fp32", "onnx-int8-dynamic"]\nthreads = 1\n'
    written.path.write_text(written.text.replace("latency", "size") + chosen)
    built = api.build(tmp_path)
    assert built.holds and built.proof.winner == "onnx-int8-dynamic" and built.proof.metric == "accuracy"
    assert built.proof.source_value is not None and built.proof.source_value > 0.6
    for candidate in built.proof.candidates:
        assert candidate.accuracy is not None and candidate.accuracy.drop <= 0.01
    with isolated("huggingface", _MAKER) as worker:
        wanted = worker.ask("answer", folder=str(folders["bert"]), texts=[text for text, _ in held_back[:20]])["scores"]
    answers = api.infer(built.bundle, [{"text": text} for text, _ in held_back[:20]])
    for scores, answer in zip(wanted, answers, strict=True):
        assert answer["classes"][0] == int(np.argmax(scores)) and answer["scores"][0] == pytest.approx(
            max(scores), abs=0.03
        )
    report = api.verify(built.bundle.path)
    assert report.holds


def test_a_picture_classifier_is_as_right_as_before(
    artifacts: dict[str, tuple[Artifact, Artifact]], tmp_path: Path
) -> None:
    opened, imported = artifacts["vit"]
    guess = guess_task(opened, folder=tmp_path)
    assert guess.spec_toml["input"]["mean"] == [0.5] * 3 and guess.spec_toml["labels"] == list("0123456789")
    task = bind_task(find("tasks", "classify").cls.Spec.model_validate(guess.spec_toml), opened.signature)
    pictures, numbers = digits()
    hits = {}
    for artifact in (opened, imported):
        with closing(runtime_for(artifact.format).require()().load(artifact, threads=1)) as session:
            batch = task.preprocess(list(pictures[1200:]))
            answers = task.postprocess(session.infer(batch.inputs), batch)
        hits[artifact.format] = task.measure(answers, numbers[1200:].tolist(), None).value
    assert hits["huggingface"] > 0.6 and hits["onnx"] == hits["huggingface"]


def test_embeddings_of_like_texts_lie_close(
    folders: dict[str, Path], artifacts: dict[str, tuple[Artifact, Artifact]]
) -> None:
    opened, imported = artifacts["embed"]
    spec = guess_task(opened, folder=folders["embed"].parent).spec_toml
    assert spec["kind"] == "embed" and spec["max_tokens"] == 32
    cls = find("tasks", "embed").require()
    task = cls(cls.Spec.model_validate(spec).resolved(folders["embed"].parent), opened.signature)
    _, held_back = train_and_test()
    with closing(runtime_for("onnx").require()().load(imported, threads=1)) as session:
        answers = infer_items(task, session, [{"text": text} for text, _ in held_back[:120]])
    measured = task.measure(answers, [NAMES[label] for _, label in held_back[:120]], None)
    assert measured.metric == "nearest" and measured.value > 0.5  # of four topics


def test_a_head_that_was_never_trained_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "headless"
    shutil.copytree(folders["bert"], folder)
    weights = {
        name: value for name, value in load_file(folder / "model.safetensors").items() if "classifier" not in name
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SourceError, match=r"lack 2 tensors of this model, first classifier\.bias"):
        open_source(folder, ModelSection(name="m", source="m"), tmp_path)
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(SourceError, match="transformers can't load this folder"):
        open_source(folder, ModelSection(name="m", source="m"), tmp_path)


def test_a_pooler_is_forgiven_only_where_nothing_uses_it(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "unpooled"
    shutil.copytree(folders["bert"], folder)
    weights = {name: value for name, value in load_file(folder / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SourceError, match=r"lack 2 tensors of this model, first bert\.pooler"):
        open_source(folder, ModelSection(name="m", source="m"), tmp_path)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BertModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    assert open_source(folder, ModelSection(name="m", source="m"), tmp_path).loader["head"]["kind"] == "embed"


def test_a_tokenizer_that_transformers_reads_otherwise_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(folders["bert"], folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "cls_token": "[MASK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(SourceError, match="makes other tokens"):
        open_source(folder, ModelSection(name="m", source="m"), tmp_path)

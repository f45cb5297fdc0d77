"""What is measured of classified and embedded texts."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from ferryman.core.deployment import DataSection, EvaluationSection
from ferryman.core.errors import ConfigError, DataError
from ferryman.core.signature import Signature, TensorSpec
from ferryman.core.task import Batch
from ferryman.tasks.data import read_calibration, read_samples
from ferryman.tasks.embed import EmbedSpec, EmbedTask
from ferryman.tasks.text_classify import TextClassifySpec, TextClassifyTask
from tests.tasks.making_texts import text_signature


def classifier(**keys: Any) -> TextClassifyTask:  # any key of [task]
    spec = TextClassifySpec(tokenizer="tokenizer.json", labels=("calm", "wild"), **keys)
    return TextClassifyTask(spec, text_signature())


def embedder(**keys: Any) -> EmbedTask:  # any key of [task]
    return EmbedTask(EmbedSpec(tokenizer="tokenizer.json", **keys), text_signature())


def answers_of(task: TextClassifyTask | EmbedTask, values: Any) -> list[dict[str, Any]]:  # Answers
    array = np.asarray(values, np.float32)
    return task.postprocess({"logits": array}, Batch({}, (None,) * len(array)))


def test_truths_of_texts_are_labels_or_class_numbers() -> None:
    task = classifier()
    answers = answers_of(task, [[2, 0], [0, 1], [3, 0], [0, 4]])
    for truths in (["calm", "wild", "wild", "wild"], [0, 1, 1, 1], ["0", "1", "1.0", 1.0]):
        measured = task.measure(answers, truths, None)
        assert (measured.metric, measured.value) == ("accuracy", 0.75)
        assert set(measured.figures) == {"accuracy", "f1", "auc"} and measured.outcomes is not None
    with pytest.raises(DataError, match="row 1: 'clam' is neither"):
        task.measure(answers, ["clam", "wild", "wild", "wild"], None)
    with pytest.raises(ConfigError, match="no metric 'bleu'"):
        task.measure(answers, [0, 1, 1, 1], "bleu")


def test_a_model_of_other_classes_than_labels_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 classes, but there are 3 labels"):
        TextClassifyTask(TextClassifySpec(tokenizer="t.json", labels=("a", "b", "c")), text_signature())


def test_equal_vectors_agree_and_turned_ones_are_as_far_as_their_angle() -> None:
    task = embedder()
    before = answers_of(task, [[1, 0], [0, 2], [0, 0]])
    same = task.agreement(before, before).figures
    assert same == {"max_cosine_distance": 0.0, "mean_cosine_distance": 0.0, "score_shift": 0.0}
    turned = task.agreement(before, answers_of(task, [[1, 1], [0, 1], [0, 0]]))
    assert turned.figures["max_cosine_distance"] == pytest.approx(1 - np.sqrt(0.5), abs=1e-6)
    assert turned.beyond(task.tolerance)
    lost = task.agreement(before, answers_of(task, [[np.nan, 1], [0, 1], [0, 0]]))
    assert lost.beyond(task.tolerance)


def test_correlations_of_pairs_are_those_of_scipy_and_pairs_are_resampled_whole() -> None:
    task, random = embedder(pairs=("a", "b")), np.random.default_rng(0)
    vectors = random.normal(size=(40, 2))
    likeness = np.round(random.random(20), 1)  # with ties
    truths = [[place // 2, float(likeness[place // 2])] for place in range(40)]
    answers = answers_of(task, vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (unit[::2] * unit[1::2]).sum(axis=1)
    measured = task.measure(answers, truths, None)
    assert measured.metric == "spearman"
    assert measured.figures["spearman"] == pytest.approx(spearmanr(cosines, likeness).statistic, abs=1e-4)
    assert measured.figures["pearson"] == pytest.approx(pearsonr(cosines, likeness).statistic, abs=1e-4)
    drawn = random.integers(0, 40, (30, 40))
    assert measured.resampled(drawn)[3] == pytest.approx(
        spearmanr(cosines[drawn[3, :20] // 2], likeness[drawn[3, :20] // 2]).statistic, abs=1e-4
    )


def test_pairs_go_by_their_number_and_a_text_without_its_other_is_refused() -> None:
    task, random = embedder(pairs=("a", "b")), np.random.default_rng(0)
    truths = [[place // 2, float(place // 2)] for place in range(40)]
    answers = answers_of(task, random.normal(size=(40, 2)))
    mixed = random.permutation(40).tolist()
    measured = task.measure([answers[place] for place in mixed], [truths[place] for place in mixed], None)
    assert measured.value == pytest.approx(task.measure(answers, truths, None).value)
    with pytest.raises(DataError, match="pair 0 has 1 texts here, not 2"):
        task.measure(answers[::2], truths[::2], None)


def test_the_nearest_of_many_texts_are_found_in_little_memory() -> None:
    task, count = embedder(), 4000
    answers = answers_of(task, [[np.cos(place // 2), np.sin(place // 2)] for place in range(count)])
    tracemalloc.start()
    measured = task.measure(answers, [place // 2 for place in range(count)], None)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert measured.value > 0.9
    assert most < count * count * 8 / 4, "a quarter of the matrix of all with all"


def test_nearest_counts_texts_whose_nearest_other_has_their_label() -> None:
    task = embedder()
    answers = answers_of(task, [[1, 0], [1, 0.1], [0, 1], [0.1, 1], [0.9, 0.3]])
    measured = task.measure(answers, ["x", "x", "y", "y", "y"], None)
    assert measured.metric == "nearest" and measured.value == pytest.approx(0.8)
    with pytest.raises(ConfigError, match="no metric 'spearman'"):
        task.measure(answers, ["x", "x", "y", "y", "y"], "spearman")


def test_a_table_of_pairs_becomes_two_texts_a_row(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b,score\none,two,0.5\nthree,four,1\nfive,six,0\n")
    spec = EmbedSpec(tokenizer="t.json", pairs=("a", "b"))
    samples = read_samples(EvaluationSection(items="pairs.csv", target="score", limit=2), tmp_path, spec)
    assert list(samples.items) == [{"text": word} for word in ("one", "two", "three", "four")]
    assert samples.truths == [[0, 0.5], [0, 0.5], [1, 1.0], [1, 1.0]]
    unlabelled = read_calibration(DataSection(calibration="pairs.csv"), tmp_path, spec)
    assert len(unlabelled.items) == 6 and unlabelled.truths is None
    (tmp_path / "pairs.csv").write_text("a,b,score\none,two,much\n")
    with pytest.raises(DataError, match=r"pairs\.csv row 1: 'much'"):
        read_samples(EvaluationSection(items="pairs.csv", target="score"), tmp_path, spec)


def test_an_output_that_is_no_one_vector_a_text_is_refused() -> None:
    states = TensorSpec(name="states", dtype="float32", shape=("batch", "tokens", 2))
    with pytest.raises(ConfigError, match="not one vector a text"):
        EmbedTask(EmbedSpec(tokenizer="t.json"), Signature(inputs=text_signature().inputs, outputs=(states,)))

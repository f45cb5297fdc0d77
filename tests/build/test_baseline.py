"""What a build keeps of the signals of its samples, and what live traffic is told by it."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferryman.build.baseline import measure_baseline
from ferryman.build.cache import Cache
from ferryman.build.run import open_workshop
from ferryman.bundle.write import write_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.deployment import Project, parse_deployment
from ferryman.core.progress import silent
from ferryman.core.record import Value
from ferryman.core.task import Item, bind_task
from ferryman.monitor.baseline import Baseline, CategoryBaseline, NumberBaseline, numbers_of
from ferryman.monitor.signals.read import Signals
from tests.build.conftest import Build
from tests.build.test_missing import open_table
from tests.bundle.making import make_affine
from tests.cli.running import ferryman
from tests.sources.docstrings import labelled
from tests.tasks.making_texts import make_mean_model, make_tokenizer

ONNX = 'candidates = ["onnx-fp32"]'


def baseline_of(bundle: Bundle) -> Baseline:
    found = Baseline.from_json(bundle.baseline)
    assert found is not None
    return found


def number_of(baseline: Baseline, name: str) -> NumberBaseline:
    signal = baseline.signals[name]
    assert isinstance(signal, NumberBaseline)
    return signal


def read(bundle: Bundle, items: list[Item]) -> dict[str, list[Value]]:
    task = bind_task(bundle.deployment.task, bundle.artifact.signature)
    signals = Signals(bundle.deployment.task, bundle.artifact.signature)
    found: dict[str, list[Value]] = {}
    for item in items:
        batch = task.preprocess([item])
        one = signals.read(
            inputs=batch.inputs, items=[item], contexts=batch.contexts, answers=None, outputs=None, rows=1
        )
        for name, values in one.items():
            found.setdefault(name, []).extend(values)
    return found


def test_a_build_keeps_the_signals_of_every_evaluation_sample(build: Build, project: Path) -> None:
    built = build(build=ONNX)
    baseline = baseline_of(built.bundle)
    assert baseline.count == len(list((project / "evaluation").glob("*.png")))
    assert {"picture.brightness", "picture.noise", "answer.objects", "answer.label", "answer.box_area"} <= set(
        baseline.signals
    )
    labels = baseline.signals["answer.label"]
    assert isinstance(labels, CategoryBaseline)
    assert set(labels.shares) == {"red", "green"}
    assert number_of(baseline, "picture.repeated").high == 0


def test_darker_pictures_lie_below_the_baseline_and_the_same_ones_do_not(build: Build, project: Path) -> None:
    bundle = build(build=ONNX).bundle
    signal = number_of(baseline_of(bundle), "picture.brightness")
    files = sorted((project / "evaluation").glob("*.png"))
    same = read(bundle, list(files))["picture.brightness"]
    pictures: list[Item] = [(np.asarray(cv2.imread(str(file))) * 0.6).astype(np.uint8) for file in files]
    darker = read(bundle, pictures)["picture.brightness"]
    assert signal.rank(numbers_of(same)).mean() == pytest.approx(0.5, abs=0.01)
    assert signal.rank(numbers_of(darker)).max() < 0.05


def test_inspect_tells_the_baseline(build: Build) -> None:
    bundle = build(build=ONNX).bundle
    told = ferryman("inspect", str(bundle.path)).stdout
    line = next(line for line in told.splitlines() if line.startswith("picture.brightness"))
    median = float(line.split()[3])
    assert median == pytest.approx(
        float(np.median(number_of(baseline_of(bundle), "picture.brightness").quantiles)), rel=0.01
    )
    assert "answer.label  " in told


def test_samples_that_were_made_up_are_no_baseline(tmp_path: Path) -> None:
    make_affine(tmp_path)
    given = {"model": {"name": "affine", "source": "affine.onnx"}, "task": {"kind": "tensor"}}
    workshop = open_workshop(
        Project(tmp_path, parse_deployment(given, origin="test")), Cache(tmp_path / "cache"), silent
    )
    assert Baseline.from_json(measure_baseline(workshop, workshop.source)) == Baseline({}, 0)


def test_the_rows_of_a_table_are_kept_without_those_that_a_server_refuses(tmp_path: Path) -> None:
    rows = "".join(f"{number},{number % 7},3,heavy\n" for number in range(60)) + "4,,6,heavy\n" * 5
    workshop = open_table(tmp_path, rows, missing=False)
    stored = measure_baseline(workshop, workshop.source)
    baseline = Baseline.from_json(stored)
    assert baseline is not None
    assert baseline.count == 60
    assert number_of(baseline, "row.missing").high == 0
    width = number_of(baseline, "cell.width")
    assert (width.low, width.high, len(width.quantiles)) == (0, 59, 60)
    assert "answer.label" in baseline.signals


def test_a_row_is_judged_by_a_baseline_of_other_rows(tmp_path: Path) -> None:
    """By its own no row is out of range; fresh rows of the same kind are, as often as these."""
    rng = np.random.default_rng(0)

    def table(count: int) -> str:
        return "".join(",".join(f"{value:.4f}" for value in rng.normal(size=3)) + ",heavy\n" for _ in range(count))

    workshop = open_table(tmp_path, table(300))
    baseline = Baseline.from_json(measure_baseline(workshop, workshop.source))
    assert baseline is not None
    kept = number_of(baseline, "row.out_of_range")
    signals = Signals(workshop.deployment.task, workshop.source.signature, baseline)
    fresh = {workshop.source.signature.inputs[0].name: rng.normal(size=(5000, 3)).astype(np.float32)}
    found = signals.read(inputs=fresh, items=None, contexts=(), answers=None, outputs=None, rows=5000)
    assert kept.mean == pytest.approx(float(np.mean(numbers_of(found["row.out_of_range"]))), abs=0.006)
    assert kept.mean > 0


@pytest.mark.parametrize(("kind", "signal"), [("text-classify", "answer.entropy"), ("embed", "answer.embedding.7")])
def test_a_model_of_texts_keeps_lengths_language_and_its_answers(tmp_path: Path, kind: str, signal: str) -> None:
    make_tokenizer(tmp_path / "tokenizer.json")
    model = make_mean_model(tmp_path)
    texts = [text for text, _ in labelled()][:100]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    given = {
        "model": {"name": "texts", "source": str(model)},
        "task": {"kind": kind, "tokenizer": "tokenizer.json"},
        "data": {"calibration": "texts.jsonl"},
    }
    project = Project(tmp_path, parse_deployment(given, origin="test"))
    workshop = open_workshop(project, Cache(tmp_path / "cache"), silent)
    baseline = Baseline.from_json(measure_baseline(workshop, workshop.source))
    assert baseline is not None
    assert (baseline.count, signal in baseline.signals) == (100, True)
    characters = number_of(baseline, "text.characters")
    assert (characters.low, characters.high) == (min(map(len, texts)), max(map(len, texts)))
    assert number_of(baseline, "text.unknown").high < 0.5
    language = baseline.signals["text.language"]
    assert isinstance(language, CategoryBaseline)
    assert language.shares["en"] > 0.5


def test_a_second_measurement_comes_from_the_cache(tmp_path: Path) -> None:
    workshop = open_table(tmp_path, "1,2,3,heavy\n2,3,4,light\n")
    first = measure_baseline(workshop, workshop.source)
    misses = workshop.cache.misses
    assert measure_baseline(workshop, workshop.source) == first
    assert workshop.cache.misses == misses


def test_a_bundle_of_before_there_were_signals_is_shown_without(build: Build, tmp_path: Path) -> None:
    bundle = build(build=ONNX).bundle
    old = write_bundle(
        tmp_path / "old", deployment=bundle.deployment, artifact=bundle.artifact, proof=bundle.proof,
        golden=bundle.golden, tolerance=bundle.tolerance, baseline={"inputs": {}, "answers": {"count": 3}}, versions={},
    )  # fmt: skip
    assert "baseline of" in ferryman("inspect", str(bundle.path)).stdout
    answer = ferryman("inspect", str(old.path))
    assert (answer.returncode, "baseline of" in answer.stdout) == (0, False)

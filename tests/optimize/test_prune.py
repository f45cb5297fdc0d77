"""Pruning with recovery: it learns, keeps its promises on bytes and time, and says what it can't do."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ferryman.core.artifact import Artifact
from ferryman.core.errors import ConfigError, DataError, NotApplicable, StepError
from ferryman.core.signature import Tensors
from ferryman.core.step import StepContext
from ferryman.demo.belt import render
from ferryman.optimize._onnx import load
from ferryman.optimize._recovery import describe, save_samples
from ferryman.optimize.prune import Prune
from ferryman.runtimes.onnx import OnnxSession
from tests.optimize.making import artifact_of, make_convolutions, pictures
from tests.optimize.test_atoms import DRAWN, Drawing, model_of

DETECTOR = Path(__file__).parents[2] / "src" / "ferryman" / "demo" / "factory_nano.onnx"
QUICK = Prune(steps=30, batch=8, multiple=8, threads=1)
in_torch = pytest.mark.toolchain("torch")


class Told:
    """Keep what a step says."""

    def __init__(self) -> None:
        self.news: list[tuple[str, str]] = []

    def __call__(self, stage: str, *, done: int = 0, total: int = 0, note: str = "") -> None:
        self.news.append((stage, note))

    def of(self, stage: str) -> list[str]:
        return [note for one, note in self.news if one == stage and note]


def context(folder: Path, calibration: Sequence[Tensors], told: Told | None = None) -> StepContext:
    return StepContext(folder, calibration, threads=1, progress=told or Told())


def drawn(folder: Path, write: Any) -> Artifact:
    draw = Drawing()
    onnx.save(model_of(draw, write(draw)), folder / "model.onnx")
    return artifact_of(folder / "model.onnx")


def belt(count: int, *, seed: int) -> list[Tensors]:
    drawn_at = [render(seed + index)[0][..., ::-1].transpose(2, 0, 1) for index in range(count)]
    return [{"images": (np.ascontiguousarray(one)[None] / np.float32(255))} for one in drawn_at]


def scores_off(one: Path, other: Path, questions: list[Tensors]) -> float:
    sessions = [OnnxSession(path, threads=1) for path in (one, other)]
    asked = [
        [np.asarray(session.infer(question)["output0"][:, 4:], np.float64) for session in sessions]
        for question in questions
    ]
    return float(np.mean([np.abs(left - right).mean() for left, right in asked]))


@in_torch
@pytest.mark.slow
def test_the_shipped_detector_learns_to_do_without_half_of_its_work(tmp_path: Path) -> None:
    source, told = artifact_of(DETECTOR), Told()
    learnt, unseen = belt(32, seed=1_000_000), belt(4, seed=9_000_000)
    usual = {"batch": 4, "threads": 1}
    barely = Prune(steps=1, **usual).run(source, context(tmp_path / "barely", learnt))  # type: ignore[arg-type]
    taught = Prune(steps=60, **usual).run(source, context(tmp_path / "taught", learnt, told))  # type: ignore[arg-type]
    assert taught.size_bytes < 0.7 * source.size_bytes
    assert taught.signature == source.signature
    assert scores_off(taught.path, DETECTOR, unseen) < 0.5 * scores_off(barely.path, DETECTOR, unseen)
    assert "50% of the multiplications are gone" in told.of("cut")[0]
    assert told.of("recovered")[0].startswith("60 steps, ")


@in_torch
def test_rounds_cut_step_by_step_and_leave_nothing_else_behind(tmp_path: Path) -> None:
    source, told = drawn(tmp_path, DRAWN[0]), Told()
    made = Prune(steps=40, rounds=2, batch=8, multiple=4, threads=1, sparsity=0.6).run(
        source, context(tmp_path / "work", pictures(40), told)
    )
    shares = [int(note.split("; ")[1].split("%")[0]) for note in told.of("cut")]
    assert 30 <= shares[0] < 60 <= shares[1]
    assert len(told.of("recovered")) == 2
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["model.onnx"]
    assert made.precision == "pruned"


@in_torch
def test_of_each_four_weights_two_are_zero(tmp_path: Path) -> None:
    source = drawn(tmp_path, DRAWN[0])
    made = Prune(pattern="2:4", steps=30, batch=8, threads=1).run(source, context(tmp_path / "work", pictures(40)))
    weights = [numpy_helper.to_array(entry) for entry in load(made.path).graph.initializer if len(entry.dims) == 4]
    deep = [weight for weight in weights if weight.shape[1] % 4 == 0]
    assert len(deep) == 3  # not the first: a picture has three channels
    for weight in deep:
        by_four = np.moveaxis(weight, 1, -1).reshape(-1, 4)
        assert (np.count_nonzero(by_four, axis=1) <= 2).all()
        assert np.count_nonzero(by_four) > 0.4 * by_four.size


@in_torch
def test_time_that_is_over_ends_the_recovery_and_is_told(tmp_path: Path) -> None:
    source, told = make_convolutions(tmp_path / "model.onnx"), Told()
    step = Prune(steps=10**6, minutes=0.02, batch=8, threads=1)
    step.run(source, context(tmp_path / "work", pictures(40), told))
    assert "of 1000000: the 0.02 min were over" in told.of("recovered")[0]


@in_torch
def test_a_model_of_a_fixed_batch_learns_in_batches_of_another_size(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx", batch=1)
    made = QUICK.run(source, context(tmp_path / "work", pictures(40)))
    assert made.signature.max_batch == 1


@in_torch
def test_an_operator_that_nothing_is_learnt_through_is_named(tmp_path: Path) -> None:
    def write(draw: Drawing) -> str:
        given = draw.node("LRN", draw.conv("images", 3, 32), size=3)
        return draw.conv(draw.node("Relu", draw.conv(given, 32, 32)), 32, 4, 1)

    with pytest.raises(StepError, match=r"no way to train through LRN: node 'LRN_1'"):
        QUICK.run(drawn(tmp_path, write), context(tmp_path / "work", pictures(40)))
    assert not list((tmp_path / "work").iterdir())


def test_a_model_in_which_nothing_may_go_is_no_candidate(tmp_path: Path) -> None:
    source = drawn(tmp_path, lambda draw: draw.conv("images", 3, 4))
    with pytest.raises(NotApplicable, match="no channel may go"):
        QUICK.run(source, context(tmp_path / "work", pictures(40)))


def test_too_few_samples_are_refused_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 32"):
        QUICK.run(make_convolutions(tmp_path / "model.onnx"), context(tmp_path / "work", pictures(5)))


def test_a_sample_that_holds_no_number_is_named(tmp_path: Path) -> None:
    samples = pictures(40)
    samples[7] = {"images": np.full_like(samples[7]["images"], np.nan)}
    with pytest.raises(DataError, match="sample 7 holds values in 'images'"):
        QUICK.run(make_convolutions(tmp_path / "model.onnx"), context(tmp_path / "work", samples))


def test_samples_of_another_size_are_named(tmp_path: Path) -> None:
    samples = pictures(40)
    samples[7] = {"images": samples[7]["images"][..., :8]}
    with pytest.raises(DataError, match=r"sample 7 is of another size .* 'images' has \[3, \d+, 8\], not"):
        QUICK.run(make_convolutions(tmp_path / "model.onnx"), context(tmp_path / "work", samples))


def test_one_number_that_16_bits_don_t_bear_gives_all_of_them_32(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    samples = pictures(3)
    for largest, kind in ((1.0, np.float16), (1e5, np.float32)):
        samples[2] = {"images": np.full_like(samples[2]["images"], largest)}
        files = save_samples(source.signature, context(tmp_path / "work", samples), tmp_path, most=0)
        kept = np.fromfile(files["images"]["path"], kind).reshape(files["images"]["shape"])
        assert files["images"]["dtype"] == np.dtype(kind).name
        assert kept[2].max() == np.float32(largest)


@pytest.mark.parametrize(
    "options",
    [
        {"sparsity": 1.0},
        {"pattern": "4:8"},
        {"rounds": 0},
        {"minutes": 0.0},
        {"samples": -1},
        {"threads": -1},
        {"noise": -0.1},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Prune(**options)


def network_of(model: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:  # the module that learns; its heads
    pytest.importorskip("torch")
    path = DETECTOR.parents[1] / "optimize" / "programs" / "learning_network.py"
    spec = importlib.util.spec_from_file_location("learning_network_tested", path)
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    monkeypatch.setattr("builtins.Refused", RuntimeError, raising=False)
    spec.loader.exec_module(program)
    described = describe(model, model, None)
    return program.Network(described["teacher"], 0), [head["tensor"] for head in described["heads"]]


def check_same(path: Path, monkeypatch: pytest.MonkeyPatch, size: Sequence[int], *, largest: float = 1.0) -> None:
    import torch

    from ferryman.optimize._onnx import fold, infer_shapes, name_nodes, raise_opset

    model = infer_shapes(fold(raise_opset(load(path), 13, "test")))
    name_nodes(model)
    network, heads = network_of(model, monkeypatch)
    images = np.random.default_rng(0).random(size, np.float32) * np.float32(largest)
    with torch.no_grad():
        given = network([torch.from_numpy(images)])
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in heads)
    engine = __import__("onnxruntime").InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = engine.run(None, {engine.get_inputs()[0].name: images})
    for name, array in zip(heads, wanted, strict=True):
        assert np.abs(given[name].numpy() - array).max() <= 1e-4 * max(1.0, float(np.abs(array).max())), name


@pytest.mark.parametrize("write", DRAWN, ids=lambda write: str(write.__name__))
def test_what_learns_computes_what_the_engine_does(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_same(drawn(tmp_path, write).path, monkeypatch, (2, 3, 16, 16))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "side", "largest"), [("yolox_nano", 416, 255), ("deeppcb_nano_320", 320, 1), ("squeezenet_v1.1", 227, 1)]
)
def test_what_learns_computes_what_the_engine_does_on_real_models(
    name: str, side: int, largest: float, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_same(shared_data / "models" / f"{name}.onnx", monkeypatch, (1, 3, side, side), largest=largest)


def test_heads_know_which_of_their_numbers_become_probabilities() -> None:
    from ferryman.optimize._onnx import fold, infer_shapes, name_nodes

    model = infer_shapes(fold(load(DETECTOR)))
    name_nodes(model)
    heads = describe(model, model, None)["heads"]
    assert sorted(tuple(head["kinds"].tolist()) for head in heads) == [(0,) * 4] * 2 + [(1,) * 4] * 2

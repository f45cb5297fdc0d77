"""Requests share a call of the engine only where that changes no answer."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ferryman.server.data.ask import Reply
from tests.bundle.making import (
    SIDE,
    bundle_affine,
    bundle_colour,
    bundle_model,
    bundle_table,
    make_colour_model,
    plain_picture,
    save,
)
from tests.server.misbehaving import bundle_misbehaving, with_plugin
from tests.server.worker.driving import Driven, drive, hire, items, output, tensors, zygote


def _load(path: Path, expect: Any = None) -> Driven:  # a coroutine function of the driven worker
    found: list[Driven] = []

    async def story() -> None:
        async with zygote() as mother:
            found.append(await hire(mother, path))
            if expect is not None:
                await expect(found[0])

    drive(story)
    return found[0]


def _model(folder: Path, nodes: list[Any], output: list[Any], first: Any = "batch", **weights: Any) -> Path:
    return save(
        folder / "model.onnx",
        nodes,
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, [first, 4])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, output)],
        **weights,
    )


_ROWS = [{"values": np.array([row], np.float32)} for row in ([1, 2, 3, 4], [4, 3, 2, 1], [0, 0, 5, 0])]


def _bundle(folder: Path, model: Path, **given: Any) -> Path:
    samples = given.get("samples", _ROWS)
    return bundle_model(folder / "bundle", model, {"kind": "tensor"}, samples).path


def _free_pictures(folder: Path) -> Path:
    """Give the colour model with a free batch."""
    model = onnx.load(make_colour_model(folder))
    for port in (*model.graph.input, *model.graph.output):
        port.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, folder / "free.onnx")
    return folder / "free.onnx"


def test_rows_that_do_not_know_of_each_other_share_calls_and_answers_stay_the_same(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine")
    bundle = bundle_table(tmp_path / "table")
    assert _load(tmp_path / "affine").loaded.max_batch == 256

    async def together(one: Driven) -> None:
        rows = [{"width": n / 7, "height": n % 3, "weight": 2 - n / 5} for n in range(16)]
        alone = [(await one.ask(items(row)))[0] for row in rows]
        shared = await one.ask(*[items(row) for row in reversed(rows)])
        for first, second in zip(alone, reversed(shared), strict=True):
            assert isinstance(first, Reply)
            assert isinstance(second, Reply)
            assert first.answers is not None
            assert second.answers is not None
            before, after = first.answers[0], second.answers[0]
            assert before["label"] == after["label"]
            np.testing.assert_allclose(
                list(before["probabilities"].values()), list(after["probabilities"].values()), rtol=1e-5
            )

    assert _load(bundle.path, together).loaded.max_batch == 256


def test_pictures_share_calls_where_the_batch_is_free_and_not_where_it_is_one(tmp_path: Path) -> None:
    fixed = bundle_colour(tmp_path / "fixed")
    assert (_load(fixed.path).loaded.max_batch, _load(fixed.path).loaded.why_unbatched) == (1, "")
    task = {
        "kind": "classify",
        "labels": ["blue", "green", "red"],
        "input": {"size": [SIDE, SIDE], "fit": "stretch", "channels": "BGR", "scale": 0.01},
    }
    pictures = [plain_picture(250 - 60 * n, 10 + 50 * n, 10) for n in range(4)]
    free = bundle_model(tmp_path / "free", _free_pictures(tmp_path / "model"), task, pictures)

    async def together(one: Driven) -> None:
        shared = await one.ask(*[items(golden.item) for golden in reversed(free.golden)])
        for golden, reply in zip(reversed(free.golden), shared, strict=True):
            assert isinstance(reply, Reply)
            assert reply.answers == [golden.answer]
            assert reply.stages.asks == 4

    assert _load(free.path, together).loaded.max_batch == 256


def test_scales_that_are_taken_over_the_batch_are_found_out(tmp_path: Path) -> None:
    """What dynamic INT8 does: DynamicQuantizeLinear has one scale for all rows."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["values"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["out"]),
    ]
    path = _bundle(tmp_path, _model(tmp_path, nodes, ["batch", 4]), samples=_ROWS[:1])
    loaded = _load(path).loaded
    assert loaded.max_batch == 1
    assert "changes by" in loaded.why_unbatched


def test_a_normalization_over_the_batch_is_found_out(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["values"], ["mean"], keepdims=1, axes=[0]),
        helper.make_node("Sub", ["values", "mean"], ["centred"]),
        helper.make_node("Add", ["centred", "one"], ["out"]),
    ]
    path = _bundle(tmp_path, _model(tmp_path, nodes, ["batch", 4], one=np.float32(1)))
    assert "changes by" in _load(path).loaded.why_unbatched


def test_an_output_without_a_row_for_each_is_found_out(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["values", "axes"], ["out"], keepdims=1)]
    path = _bundle(tmp_path, _model(tmp_path, nodes, [1, 4], axes=np.array([0], np.int64)))
    loaded = _load(path).loaded
    assert loaded.max_batch == 1
    assert "not a row for each" in loaded.why_unbatched


def test_an_unbatched_model_answers_several_items_of_one_ask_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_plugin(monkeypatch)
    bundle_misbehaving(tmp_path / "one", scales_over_batch=True)

    async def together(one: Driven) -> None:
        rows = [{"order": np.array([[0, value]], np.float32)} for value in (0.1, 100.0)]
        (both,) = await one.ask(items(*rows))
        alone = [(await one.ask(items(row)))[0] for row in rows]
        assert isinstance(both, Reply)
        assert both.answers == [reply.answers[0] for reply in alone if isinstance(reply, Reply) and reply.answers]

    loaded = _load(tmp_path / "one", together).loaded
    assert loaded.max_batch == 1
    assert "changes by" in loaded.why_unbatched


def test_a_fixed_batch_is_filled_up_and_cut_and_padding_changes_nothing(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["values", "two"], ["out"])]
    path = _bundle(tmp_path, _model(tmp_path, nodes, [4, 4], first=4, two=np.float32(2)))

    async def short(one: Driven) -> None:
        results = await one.ask(*[tensors(values=[[n, 0, 0, 1]]) for n in range(3)])
        assert [output(result, "out").tolist() for result in results] == [[[2 * n, 0, 0, 2]] for n in range(3)]

    assert _load(path, short).loaded.max_batch == 4


def test_a_fixed_batch_whose_rows_know_of_each_other_is_not_shared(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["values"], ["most"], keepdims=1),
        helper.make_node("Div", ["values", "most"], ["out"]),
    ]
    path = _bundle(tmp_path, _model(tmp_path, nodes, [4, 4], first=4))
    loaded = _load(path).loaded
    assert loaded.max_batch == 1
    assert "changes by" in loaded.why_unbatched


def test_a_model_that_loses_rows_is_not_batched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_plugin(monkeypatch)
    bundle_misbehaving(tmp_path / "one", loses_rows=True)
    assert "not a row for each" in _load(tmp_path / "one").loaded.why_unbatched

from pathlib import Path
from typing import Any

import numpy as np

from ferryman.optimize.groups import groups, head_nodes, tail_nodes
from tests.optimize.making import make_convolutions, make_products, make_tree


def test_layers_are_grouped_by_kind(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    found = {group.name: group for group in groups(source.path)}
    assert found["conv"].nodes == ("stem",)
    assert found["conv-depthwise"].nodes == ("depthwise",)
    assert found["conv-pointwise"].nodes == ("pointwise",)
    assert {"add", "concat", "pool", "activation"} <= set(found)
    assert found["conv-pointwise"].op == "Conv"


def test_each_layer_is_in_one_group(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    nodes = [node for group in groups(source.path) for node in group.nodes]
    assert len(nodes) == len(set(nodes))


def test_the_tail_is_what_follows_the_last_weights_of_each_branch(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    assert tail_nodes(source.path) == ["decode", "sigmoid", "join"]
    last = groups(source.path)[-1]
    assert (last.name, last.is_tail, last.is_head) == ("tail", True, False)


def test_the_head_is_the_last_weights_of_each_branch(tmp_path: Path) -> None:
    source = make_convolutions(tmp_path / "model.onnx")
    assert head_nodes(source.path) == ["box_head", "class_head", "decode", "sigmoid", "join"]
    head = next(group for group in groups(source.path) if group.is_head)
    assert head.nodes == ("box_head", "class_head")


def test_a_classifier_ends_in_its_last_product(tmp_path: Path) -> None:
    source = make_products(tmp_path / "model.onnx")
    assert tail_nodes(source.path) == []
    assert head_nodes(source.path) == ["second"]


def test_a_mean_over_distances_is_part_of_the_tail_not_a_layer_with_weights(tmp_path: Path) -> None:
    import onnx
    from onnx import helper, numpy_helper

    source = make_convolutions(tmp_path / "model.onnx")
    model: Any = onnx.load(source.path)  # onnx.ModelProto
    distances = np.arange(10, dtype=np.float32).reshape(1, 10, 1, 1)
    model.graph.initializer.append(numpy_helper.from_array(distances, "distances"))
    model.graph.node.append(helper.make_node("Conv", ["output", "distances"], ["mean"], name="expectation"))
    model.graph.output[0].name = "mean"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(model, source.path)
    assert tail_nodes(source.path) == ["decode", "sigmoid", "join", "expectation"]


def test_a_tree_has_no_group_to_quantize(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model.onnx")
    assert [group for group in groups(source.path) if not group.is_tail] == []


def test_the_groups_of_a_real_detector(shared_data: Path) -> None:
    sizes = {group.name: len(group.nodes) for group in groups(shared_data / "models" / "yolox_nano.onnx")}
    assert (sizes["conv-pointwise"], sizes["conv-depthwise"], sizes["head"]) == (73, 30, 9)

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


def test_a_head_that_gives_distances_as_a_distribution_is_tail_behind_its_last_convolution(tmp_path: Path) -> None:
    """Write the head of a YOLOv8: distributions over 16 distances, their means, boxes from them, joined with scores."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    weights = {
        "stem_w": random.normal(size=(8, 3, 3, 3)),
        "box_w": random.normal(size=(64, 8, 1, 1)),
        "class_w": random.normal(size=(5, 8, 1, 1)),
        "mean_w": np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1),
        "anchors": random.normal(size=(1, 2, 64)),
        "stride": np.float32(8),
    }
    shapes = {"sides": [1, 4, 16, 64], "four": [1, 4, 64], "five": [1, 5, 64]}
    nodes = [
        helper.make_node("Conv", ["images", "stem_w"], ["stem"], name="stem", strides=[2, 2], pads=[1] * 4),
        helper.make_node("Conv", ["stem", "box_w"], ["box"], name="box"),
        helper.make_node("Conv", ["stem", "class_w"], ["class"], name="class"),
        helper.make_node("Reshape", ["box", "sides"], ["sided"], name="sided"),
        helper.make_node("Transpose", ["sided"], ["turned"], name="turned", perm=[0, 2, 1, 3]),
        helper.make_node("Softmax", ["turned"], ["shares"], name="shares", axis=1),
        helper.make_node("Conv", ["shares", "mean_w"], ["mean"], name="mean"),
        helper.make_node("Reshape", ["mean", "four"], ["ltrb"], name="ltrb"),
        helper.make_node("Split", ["ltrb"], ["lt", "rb"], name="split", axis=1, num_outputs=2),
        helper.make_node("Sub", ["anchors", "lt"], ["near"], name="near"),
        helper.make_node("Add", ["anchors", "rb"], ["far"], name="far"),
        helper.make_node("Concat", ["near", "far"], ["cells"], name="cells", axis=1),
        helper.make_node("Mul", ["cells", "stride"], ["pixels"], name="pixels"),
        helper.make_node("Reshape", ["class", "five"], ["logits"], name="logits"),
        helper.make_node("Sigmoid", ["logits"], ["scores"], name="scores"),
        helper.make_node("Concat", ["pixels", "scores"], ["output"], name="output", axis=1),
    ]
    tensors = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()]
    tensors += [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in shapes.items()]
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 9, 64])],
        tensors,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "head.onnx")
    assert tail_nodes(tmp_path / "head.onnx") == [node.name for node in nodes[3:]]
    assert head_nodes(tmp_path / "head.onnx") == [node.name for node in nodes[1:]]


def test_the_tails_of_real_detectors(shared_data: Path) -> None:
    import onnx

    for name, last in (("yolox_nano.onnx", {"Sigmoid", "Concat"}), ("deeppcb_nano_320.onnx", {"Reshape", "Sigmoid"})):
        path = shared_data / "models" / name
        tail = set(tail_nodes(path))
        model = onnx.load(path)
        ops = {node.op_type for node in model.graph.node if node.name in tail}
        assert last <= ops, name
        assert not ops & {"Conv", "Gemm", "MatMul"}, name

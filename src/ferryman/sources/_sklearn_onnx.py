"""Convert scikit-learn estimators with skl2onnx, and mend what it gets wrong."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ferryman.core.signature import Signature
from ferryman.sources._onnx_graph import Model
from ferryman.sources._sklearn_load import Estimator
from ferryman.sources._sklearn_scalers import scaler_converters

_patching = threading.Lock()


def convert(estimator: Estimator, signature: Signature) -> Model:
    """Give skl2onnx's graph: plain tensors, for the newest opset that skl2onnx was tested with."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    types = [
        (spec.name, (StringTensorType if spec.dtype == "string" else FloatTensorType)([None, spec.shape[1]]))
        for spec in signature.inputs
    ]
    last = _last_estimator(estimator)
    if hasattr(last, "flatten_transform"):
        last.flatten_transform = False  # of a voting classifier's `transform` only, and skl2onnx knows no other
    converters, shapes = scaler_converters()
    with _whole_number_attributes():
        model = convert_sklearn(
            estimator,
            name="model",
            initial_types=types,
            options=_options(estimator, last, signature),
            custom_conversion_functions=converters,
            custom_shape_calculators=shapes,
        )
    _sum_votes_exactly(model, last)
    _mend_binary_discriminant(model, last)
    return model


def _options(estimator: Estimator, last: Estimator, signature: Signature) -> dict[int, dict[str, bool]] | None:
    from sklearn.svm import LinearSVC

    if any(spec.name == "probabilities" for spec in signature.outputs):
        return {id(estimator): {"zipmap": False}}
    # Left to itself, skl2onnx asks a LinearSVC in a pipeline for an option that it then refuses.
    return {id(last): {"nocl": False}} if isinstance(last, LinearSVC) else None


def _last_estimator(estimator: Estimator) -> Estimator:
    """Give what makes the answer: the last step of a pipeline, the best estimator of a search."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        else:
            return estimator


@contextmanager
def _whole_number_attributes() -> Iterator[None]:
    """Let skl2onnx hand numpy and Python booleans to onnx where ONNX has integers, and put onnx back after.

    skl2onnx does so for histogram gradient boosting; newer onnx refuses booleans.
    """
    import onnx

    with _patching:
        original = onnx.helper.make_attribute

        def make_attribute(key: str, value: Any, *rest: Any, **named: Any) -> Any:  # onnx's own signature
            if isinstance(value, bool | np.bool_):
                value = int(value)
            elif isinstance(value, list | tuple | np.ndarray):
                value = [int(item) if isinstance(item, bool | np.bool_) else item for item in value]
            return original(key, value, *rest, **named)

        onnx.helper.make_attribute = make_attribute
        try:
            yield
        finally:
            onnx.helper.make_attribute = original


def _sum_votes_exactly(model: Model, forest: Estimator) -> None:
    """Let a forest's trees vote with whole votes, divided at the end, so that a tie is a tie as in scikit-learn.

    skl2onnx gives each of n trees votes of 1/n, whose float32 sums for two classes differ by rounding: on a tie the
    label then depends on the order of the trees.
    """
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

    trees = [node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier"]
    if not isinstance(forest, RandomForestClassifier | ExtraTreesClassifier) or len(trees) != 1:
        return
    count = len(forest.estimators_)
    leaves = {attribute.name: attribute for attribute in trees[0].attribute if attribute.name.startswith("class_")}
    votes = np.array(leaves["class_weights"].floats, dtype=np.float64) * count
    whole = np.rint(votes)
    votes = np.where(np.abs(votes - whole) < 1e-5, whole, votes)
    if set(leaves["class_ids"].ints) == {0}:  # two classes: the votes are for the second, the first has the rest
        votes = np.concatenate([1 - votes, votes])
        _set(leaves["class_ids"].ints, [0] * (len(votes) // 2) + [1] * (len(votes) // 2))
        for name in ("class_nodeids", "class_treeids"):
            _set(leaves[name].ints, [*leaves[name].ints] * 2)
    _set(leaves["class_weights"].floats, votes.astype(np.float32).tolist())
    _vote(model, trees[0], count)


def _vote(model: Model, trees: Any, count: int) -> None:  # onnx.NodeProto
    """Divide votes by the number of trees and pick the first of the labels with most votes, as numpy.argmax does.

    The operator's own label can't be used: of two classes it takes the second from half a vote on.
    """
    import onnx

    attributes = {attribute.name: attribute for attribute in trees.attribute}
    texts = attributes.get("classlabels_strings")
    labels = np.array([*texts.strings], dtype=object) if texts else np.array([*attributes["classlabels_int64s"].ints])
    label, scores = trees.output
    trees.output[0], trees.output[1] = f"{label}_unused", f"{scores}_votes"
    constants = {f"{scores}_trees": np.array([count], dtype=np.float32), f"{label}_names": labels}
    for name, values in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    position = list(model.graph.node).index(trees) + 1
    for node in (
        onnx.helper.make_node("Gather", [f"{label}_names", f"{label}_index"], [label]),
        onnx.helper.make_node("ArgMax", [f"{scores}_votes"], [f"{label}_index"], axis=1, keepdims=0),
        onnx.helper.make_node("Div", [f"{scores}_votes", f"{scores}_trees"], [scores]),
    ):
        model.graph.node.insert(position, node)


def _set(field: Any, values: list[Any]) -> None:  # a protobuf list of numbers
    del field[:]
    field.extend(values)


def _mend_binary_discriminant(model: Model, estimator: Estimator) -> None:
    """Give linear discriminant analysis of two classes its logistic function: skl2onnx takes the softmax of +-score."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    if not isinstance(estimator, LinearDiscriminantAnalysis) or len(estimator.classes_) != 2:
        return
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "LinearClassifier" and attribute.name == "post_transform":
                attribute.s = b"LOGISTIC"

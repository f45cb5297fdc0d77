"""Convert scikit-learn's scalers with the very rounding that scikit-learn has on float32 rows.

skl2onnx multiplies by a float32 reciprocal; trees behind a scaler compare its output with thresholds that lie among
the training rows, so that the last bit decides which way a row goes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ferryman.core.signature import Array

Registry = dict[type, Callable[..., None]]
_Move = tuple[str, Array]  # an ONNX operator and its second operand, one value a column


def scaler_converters() -> tuple[Registry, Registry]:
    """Give skl2onnx's `custom_conversion_functions` and `custom_shape_calculators` for the scalers."""
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

    kinds = (StandardScaler, MinMaxScaler, RobustScaler, MaxAbsScaler)
    return dict.fromkeys(kinds, _convert), dict.fromkeys(kinds, _shape)


def _moves(scaler: Any) -> list[_Move]:  # one of the four scalers
    kind = type(scaler).__name__
    if kind == "MinMaxScaler":
        return [("Mul", scaler.scale_), ("Add", scaler.min_)]
    if kind == "MaxAbsScaler":
        return [("Div", scaler.scale_)]
    centre = scaler.mean_ if kind == "StandardScaler" else scaler.center_
    is_centred = scaler.with_mean if kind == "StandardScaler" else scaler.with_centering
    is_scaled = scaler.with_std if kind == "StandardScaler" else scaler.with_scaling
    return [*([("Sub", centre)] if is_centred else []), *([("Div", scaler.scale_)] if is_scaled else [])]


def _shape(operator: Any) -> None:  # skl2onnx's Operator
    from skl2onnx.common.data_types import FloatTensorType

    given = operator.inputs[0].type.shape
    operator.outputs[0].type = FloatTensorType([given[0], operator.raw_operator.n_features_in_])


def _convert(scope: Any, operator: Any, container: Any) -> None:  # skl2onnx's Scope, Operator, Container
    from skl2onnx.common._apply_operation import apply_cast, apply_identity
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.proto import onnx_proto

    scaler = operator.raw_operator
    last = operator.inputs[0].full_name

    def cast(name: str, to: int) -> str:
        result = scope.get_unique_variable_name("cast")
        apply_cast(scope, name, result, container, to=to)
        return str(result)

    if not isinstance(operator.inputs[0].type, FloatTensorType):
        last = cast(last, onnx_proto.TensorProto.FLOAT)
    # StandardScaler rounds its own figures to the rows' float32; the others compute in float64 and round the result.
    is_narrow = type(scaler).__name__ == "StandardScaler"
    for kind, values in _moves(scaler):
        wide = last if is_narrow else cast(last, onnx_proto.TensorProto.DOUBLE)
        moved = _apply((scope, container), kind, wide, values.astype(np.float32 if is_narrow else np.float64))
        last = moved if is_narrow else cast(moved, onnx_proto.TensorProto.FLOAT)
    if getattr(scaler, "clip", False):
        last = _clip((scope, container), last, scaler.feature_range)
    apply_identity(scope, last, operator.outputs[0].full_name, container)


def _apply(place: tuple[Any, Any], kind: str, name: str, values: Array) -> str:  # skl2onnx's Scope and Container
    scope, container = place
    operand = _constant(place, values)
    result = scope.get_unique_variable_name(kind.lower())
    container.add_node(kind, [name, operand], [result], op_version=14, name=scope.get_unique_operator_name(kind))
    return str(result)


def _clip(place: tuple[Any, Any], name: str, limits: Sequence[float]) -> str:  # skl2onnx's Scope and Container
    scope, container = place
    bounds = [_constant(place, np.array(limit, dtype=np.float32)) for limit in limits]
    result = scope.get_unique_variable_name("clip")
    container.add_node("Clip", [name, *bounds], [result], op_version=13, name=scope.get_unique_operator_name("Clip"))
    return str(result)


def _constant(place: tuple[Any, Any], values: Array) -> str:  # skl2onnx's Scope and Container
    from skl2onnx.proto import onnx_proto

    scope, container = place
    name = str(scope.get_unique_variable_name("constant"))
    elem_type = onnx_proto.TensorProto.FLOAT if values.dtype == np.float32 else onnx_proto.TensorProto.DOUBLE
    container.add_initializer(name, elem_type, list(values.shape), values.reshape(-1).tolist())
    return name

"""Answer with an MNN model, in MNN's own runtime."""

from typing import Any

import MNN
import numpy as np

_KINDS = {"float32": MNN.Halide_Type_Float, "int32": MNN.Halide_Type_Int, "uint8": MNN.Halide_Type_Uint8}


class Model:
    """Hold a model; sizes follow the inputs."""

    def __init__(self, request: dict[str, Any], tell: Any) -> None:
        self._names = (request["inputs"], request["outputs"])
        self._interpreter = MNN.Interpreter(request["path"])
        how = {"backend": "CPU", "numThread": max(int(request["threads"]), 1), "precision": "high"}
        self._session = self._interpreter.createSession(how)

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Give the outputs by the signature's names, in its order."""
        takes = self._interpreter.getSessionInputAll(self._session)
        is_resized = False
        for name in self._names[0]:
            if tuple(takes[name].getShape()) != inputs[name].shape:
                self._interpreter.resizeTensor(takes[name], inputs[name].shape)
                is_resized = True
        if is_resized:
            self._interpreter.resizeSession(self._session)
            takes = self._interpreter.getSessionInputAll(self._session)
        for name in self._names[0]:
            array = np.ascontiguousarray(inputs[name])
            kind = _KINDS[array.dtype.name]
            takes[name].copyFrom(MNN.Tensor(array.shape, kind, array, MNN.Tensor_DimensionType_Caffe))
        if self._interpreter.runSession(self._session):
            raise Refused("MNN refuses these inputs")
        gives = self._interpreter.getSessionOutputAll(self._session)
        return {name: _array(gives[name]) for name in self._names[1]}


def _array(tensor: Any) -> Any:  # a numpy array
    shape = tuple(tensor.getShape())
    is_whole = tensor.getDataType() == MNN.Halide_Type_Int
    kind, dtype = (MNN.Halide_Type_Int, np.int32) if is_whole else (MNN.Halide_Type_Float, np.float32)
    host = MNN.Tensor(shape, kind, np.zeros(shape, dtype), MNN.Tensor_DimensionType_Caffe)
    tensor.copyToHostTensor(host)
    return np.array(host.getNumpyData(), dtype=dtype).reshape(shape)

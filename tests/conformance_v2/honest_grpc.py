"""The same small server over gRPC."""

import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as messages
from tritonclient.grpc import service_pb2_grpc

from tests.conformance_v2.honest_http import FACTS
from tests.conformance_v2.model import METADATA, NAME, VERSION, Wrong, answer, need

grpc: Any = importlib.import_module("grpc")  # it has no types


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated, without types
    """Answer; every argument is a message or grpcio's context, both without types."""

    def __init__(self, lie: str) -> None:
        self._lie = lie

    def ServerLive(self, request: Any, context: Any) -> Any:
        return messages.ServerLiveResponse(live=True)

    def ServerReady(self, request: Any, context: Any) -> Any:
        return messages.ServerReadyResponse(ready=True)

    def ModelReady(self, request: Any, context: Any) -> Any:
        return messages.ModelReadyResponse(ready=request.name == NAME)

    def ServerMetadata(self, request: Any, context: Any) -> Any:
        return messages.ServerMetadataResponse(**FACTS)

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        if request.name != NAME:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        return messages.ModelMetadataResponse(**METADATA)

    def ModelInfer(self, request: Any, context: Any) -> Any:
        if request.model_name != NAME:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        try:
            return self._infer(request)
        except (Wrong, ValueError) as error:
            wrong = grpc.StatusCode.INTERNAL if self._lie == "errors are INTERNAL" else grpc.StatusCode.INVALID_ARGUMENT
            context.abort(wrong, str(error))

    def _infer(self, request: Any) -> Any:
        entry, raw = request.inputs[0], list(request.raw_input_contents)
        typed = list(entry.contents.fp32_contents)
        need(bool(raw) != bool(typed), "either raw or typed contents")
        need(all(output.name == "total" for output in request.outputs), "no such output")
        values = np.frombuffer(raw[0], "<f4") if raw else np.array(typed)
        total = answer(entry.name, entry.datatype, list(entry.shape), values)
        if self._lie == "wrong where typed" and typed:
            total = total + 1
        told = messages.ModelInferResponse(model_name=NAME, model_version=VERSION, id=request.id)
        told.outputs.add(name="total", datatype="FP32", shape=total.shape)
        told.raw_output_contents.append(total.tobytes())
        return told


@contextmanager
def honest_grpc(lie: str = "") -> Iterator[str]:
    """Give HOST:PORT of a server that is honest but for one lie."""
    server = grpc.server(ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(lie), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()

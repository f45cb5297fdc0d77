"""grpc.aio with one method: the floor of Python's gRPC. Its messages hold V2's fields that are used here."""

import asyncio
import os
from typing import Any

import grpc
import nets
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "ModelInferRequest": (
        ("model_name", 1, _FIELD.TYPE_STRING, False, None),
        ("inputs", 5, _FIELD.TYPE_MESSAGE, True, ".inference.Tensor"),
        ("raw_input_contents", 7, _FIELD.TYPE_BYTES, True, None),
    ),
    "ModelInferResponse": (
        ("model_name", 1, _FIELD.TYPE_STRING, False, None),
        ("outputs", 5, _FIELD.TYPE_MESSAGE, True, ".inference.Tensor"),
        ("raw_output_contents", 6, _FIELD.TYPE_BYTES, True, None),
    ),
    "Tensor": (
        ("name", 1, _FIELD.TYPE_STRING, False, None),
        ("datatype", 2, _FIELD.TYPE_STRING, False, None),
        ("shape", 3, _FIELD.TYPE_INT64, True, None),
    ),
}


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="v2.proto", package="inference", syntax="proto3")
    for name, fields in _KINDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, is_many, inner in fields:
            label = _FIELD.LABEL_REPEATED if is_many else _FIELD.LABEL_OPTIONAL
            message.field.add(name=field, number=number, type=kind, label=label, type_name=inner)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in _KINDS}


async def _serve() -> None:
    messages = _messages()
    answers = messages["ModelInferResponse"]
    models = {name: nets.Plain(name) for name in ("T", "M")}

    async def infer(asked: Any, _: Any) -> Any:
        values = np.frombuffer(asked.raw_input_contents[0], np.float32).reshape(tuple(asked.inputs[0].shape))
        scores = models[asked.model_name](values)
        answer = answers(model_name=asked.model_name, raw_output_contents=[scores.tobytes()])
        answer.outputs.add(name="scores", datatype="FP32", shape=scores.shape)
        return answer

    method = grpc.unary_unary_rpc_method_handler(
        infer,
        request_deserializer=messages["ModelInferRequest"].FromString,
        response_serializer=answers.SerializeToString,
    )
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"ModelInfer": method}),))
    server.add_insecure_port(f"127.0.0.1:{os.environ['BENCH_PORT']}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve())

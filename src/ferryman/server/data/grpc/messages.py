"""The protocol's messages as classes, in a pool of their own: a client's modules may live in the same process."""

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from ferryman.server.data.grpc.proto import read_proto

INFERENCE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"

POOL = DescriptorPool()
for _name in ("inference.proto", "health.proto"):
    POOL.AddSerializedFile(read_proto(Path(__file__).with_name(_name)).SerializeToString())


def message(name: str) -> Any:  # its attributes are the .proto's
    """Give the class of a message by its full name."""
    return GetMessageClass(POOL.FindMessageTypeByName(name))


InferRequest = message("inference.ModelInferRequest")
InferResponse = message("inference.ModelInferResponse")
StreamResponse = message("inference.ModelStreamInferResponse")

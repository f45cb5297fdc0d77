"""The messages are those of the protocol, name by name and number by number."""

from importlib import resources
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from ferryman.server.data.grpc.messages import INFERENCE, POOL, InferRequest, message

ONLY_OURS = {"properties"}  # of the open protocol's metadata, which that client doesn't know


def _all(descriptor: Any) -> list[Any]:  # protobuf's descriptors
    return [descriptor, *(inner for nested in descriptor.nested_types for inner in _all(nested))]


def _ours() -> list[Any]:
    file = POOL.FindFileByName("inference.proto")
    return [inner for top in file.message_types_by_name.values() for inner in _all(top)]


def _theirs(name: str) -> Any:
    pool = service_pb2.DESCRIPTOR.pool
    return pool.FindMessageTypeByName(name)


@pytest.mark.parametrize("ours", _ours(), ids=lambda descriptor: descriptor.full_name)
def test_a_message_has_the_names_numbers_and_types_of_a_client_s(ours: Any) -> None:
    if ours.full_name.endswith("PropertiesEntry"):
        return
    theirs = _theirs(ours.full_name)
    for field in ours.fields:
        if field.name in ONLY_OURS:
            continue
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)
        assert _type_name(field) == _type_name(other)
        assert (field.containing_oneof and field.containing_oneof.name) == (
            other.containing_oneof and other.containing_oneof.name
        )
    assert ours.GetOptions().map_entry == theirs.GetOptions().map_entry


def test_every_method_has_the_messages_of_a_client_s() -> None:
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
    for method in POOL.FindServiceByName(INFERENCE).methods:
        other = theirs[method.name]
        assert method.input_type.full_name == other.input_type.full_name
        assert method.output_type.full_name == other.output_type.full_name
        assert (method.client_streaming, method.server_streaming) == (other.client_streaming, other.server_streaming)


def test_datatypes_have_the_numbers_of_a_client_s() -> None:
    ours = POOL.FindEnumTypeByName("inference.DataType")
    assert {value.name: value.number for value in ours.values} == dict(model_config_pb2.DataType.items())


def test_a_client_s_own_modules_live_beside_ours() -> None:
    theirs = service_pb2.ModelInferRequest(model_name="x", raw_input_contents=[b"y"])
    assert type(theirs) is not InferRequest
    ours = InferRequest.FromString(theirs.SerializeToString())
    assert (ours.model_name, list(ours.raw_input_contents)) == ("x", [b"y"])


def test_metadata_has_the_open_protocol_s_properties() -> None:
    assert message("inference.ModelMetadataResponse").DESCRIPTOR.fields_by_name["properties"].number == 6


def test_the_files_are_there_for_users() -> None:
    for name in ("inference.proto", "health.proto"):
        assert resources.files("ferryman.server.data.grpc").joinpath(name).is_file()


def _type_name(field: Any) -> str:
    kind = field.message_type or field.enum_type
    return str(kind.full_name) if kind else ""

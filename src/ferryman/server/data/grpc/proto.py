"""Read the part of the .proto language that the files beside this one use, so that no generated code is needed."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)

_TOKEN: Final = re.compile(r'"[^"]*"|[\w.]+|[{}()<>,;=]')
_COMMENT: Final = re.compile(r"//[^\n]*")
_SCALARS: Final = {
    name: FieldDescriptorProto.Type.Value(f"TYPE_{name.upper()}")
    for name in ("bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64")
}
_OPTIONAL: Final = FieldDescriptorProto.LABEL_OPTIONAL
_REPEATED: Final = FieldDescriptorProto.LABEL_REPEATED


def read_proto(path: Path) -> FileDescriptorProto:
    """Give what a .proto file describes; types that it names are found innermost first, as in the language."""
    reader = _Reader(_TOKEN.findall(_COMMENT.sub("", path.read_text("utf-8"))))
    file = FileDescriptorProto(name=path.name, syntax="proto3")
    for word in reader.words():
        if word == "syntax":
            reader.skip(3)
        elif word == "package":
            file.package = reader.next()
            reader.skip(1)
        elif word == "message":
            _read_message(reader, file.message_type.add())
        elif word == "enum":
            _read_enum(reader, file.enum_type.add())
        elif word == "service":
            _read_service(reader, file.service.add())
        else:
            raise ValueError(f"{path.name}: {word!r} is beyond this reader")
    return file


class _Reader:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = iter(tokens)

    def next(self) -> str:
        return next(self._tokens)

    def skip(self, count: int) -> None:
        for _ in range(count):
            next(self._tokens)

    def words(self) -> Iterator[str]:
        """Give words until a brace closes, or the file ends."""
        for word in self._tokens:
            if word == "}":
                return
            yield word


def _read_message(reader: _Reader, message: DescriptorProto) -> None:
    message.name = reader.next()
    reader.skip(1)
    for word in reader.words():
        if word == "message":
            _read_message(reader, message.nested_type.add())
        elif word == "enum":
            _read_enum(reader, message.enum_type.add())
        elif word == "oneof":
            message.oneof_decl.add(name=reader.next())
            reader.skip(1)
            for kind in reader.words():
                _read_field(reader, message, kind, _OPTIONAL).oneof_index = len(message.oneof_decl) - 1
        elif word == "map":
            _read_map(reader, message)
        elif word == "repeated":
            _read_field(reader, message, reader.next(), _REPEATED)
        else:
            _read_field(reader, message, word, _OPTIONAL)


def _read_field(
    reader: _Reader, message: DescriptorProto, kind: str, label: "FieldDescriptorProto.Label.ValueType"
) -> FieldDescriptorProto:
    field = message.field.add(name=reader.next(), label=label)
    _set_type(field, kind)
    reader.skip(1)
    field.number = int(reader.next())
    reader.skip(1)
    return field


def _read_map(reader: _Reader, message: DescriptorProto) -> None:
    """Make what a map is on the wire: a repeated message of a key and a value."""
    reader.skip(1)
    key = reader.next()
    reader.skip(1)
    value = reader.next()
    reader.skip(1)
    field = _read_field(reader, message, "", _REPEATED)
    entry = message.nested_type.add(name="".join(part.title() for part in field.name.split("_")) + "Entry")
    entry.options.map_entry = True
    for number, (name, kind) in enumerate((("key", key), ("value", value)), start=1):
        _set_type(entry.field.add(name=name, number=number, label=_OPTIONAL), kind)
    field.type_name = entry.name


def _set_type(field: FieldDescriptorProto, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type_name = kind  # whether that is a message or an enum is found when the pool takes it in


def _read_enum(reader: _Reader, enum: EnumDescriptorProto) -> None:
    enum.name = reader.next()
    reader.skip(1)
    for name in reader.words():
        reader.skip(1)
        enum.value.add(name=name, number=int(reader.next()))
        reader.skip(1)


def _read_service(reader: _Reader, service: ServiceDescriptorProto) -> None:
    service.name = reader.next()
    reader.skip(1)
    for _ in reader.words():
        method = service.method.add(name=reader.next())
        method.client_streaming, method.input_type = _read_side(reader)
        reader.skip(1)  # returns
        method.server_streaming, method.output_type = _read_side(reader)
        reader.skip(1)


def _read_side(reader: _Reader) -> tuple[bool, str]:
    reader.skip(1)
    word = reader.next()
    is_stream = word == "stream"
    kind = reader.next() if is_stream else word
    reader.skip(1)
    return is_stream, kind

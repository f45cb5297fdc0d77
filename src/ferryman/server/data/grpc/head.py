"""The head of a call: a block of compressed headers (RFC 7541), checked by RFC 9113 section 8 and by gRPC's rules."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from hpack import Decoder, HPACKError, OversizedHeaderListError

from ferryman.server.data.grpc.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM, ConnectionFault

_MOST_REMEMBERED: Final = 64
_LARGEST_REMEMBERED_BYTES: Final = 2048
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN_IN_VALUES: Final = re.compile(rb"[\x00\r\n]")
_FORBIDDEN: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_PSEUDO: Final = frozenset((b":method", b":path", b":scheme", b":authority"))
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


@dataclass(frozen=True, slots=True)
class Head:
    """Hold what a call's headers say. `fault` is why they are no request; `metadata` has its names in lower case.

    `timeout_s` is -1 where it was given and can't be read, None where it was not given.
    """

    method: str = ""
    path: str = ""
    content_type: bytes = b""
    encoding: bytes = b"identity"
    timeout_s: float | None = None
    length: int | None = None
    metadata: Mapping[bytes, bytes] = field(default_factory=dict)
    fault: str = ""


class HeadReader:
    """Read one connection's blocks of headers, which share a table of what was sent before.

    Clients repeat a block byte by byte. One that left the table as it was means the same again until the table changes.
    """

    def __init__(self, max_bytes: int) -> None:
        self._decoder = Decoder(max_header_list_size=max_bytes)
        self._remembered: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Give the head; raises ConnectionFault for a block that leaves the shared table unknown."""
        head = self._remembered.get(block)
        return self._decode(block) if head is None else head

    def _decode(self, block: bytes) -> Head:
        before = self._state()
        try:
            headers = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "the headers are too large") from None
        except HPACKError as error:
            raise ConnectionFault(COMPRESSION_ERROR, f"the headers can't be read: {error}"[:120]) from None
        head = _checked(headers)
        newest, *sizes = self._state()
        if newest is not before[0] or sizes != before[1:]:
            self._remembered.clear()
        elif len(block) <= _LARGEST_REMEMBERED_BYTES:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[block] = head
        return head

    def _state(self) -> list[object]:
        """Give what changes with the table: an insertion brings a new newest entry, all else only shrinks it."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return [entries[0] if entries else None, len(entries), table.maxsize]


def parse_timeout(text: bytes) -> float:
    """Give the seconds of a grpc-timeout, -1 where it is none."""
    match = _TIMEOUT.fullmatch(text)
    return int(match[1]) * _UNIT_S[match[2]] if match else -1.0


def _checked(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    pseudo: dict[bytes, bytes] = {}
    metadata: dict[bytes, bytes] = {}
    for name, value in headers:
        if fault := _fault_of(name, value, pseudo, is_after_metadata=bool(metadata)):
            return Head(fault=fault)
        if name[:1] == b":":
            pseudo[name] = value
        else:
            metadata[name] = metadata[name] + b"," + value if name in metadata else value
    if missing := [name for name in (b":method", b":path", b":scheme") if not pseudo.get(name)]:
        return Head(fault=f"{missing[0].decode()} is missing")
    length = metadata.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) < 16):
        return Head(fault="content-length is not a number")
    timeout = metadata.get(b"grpc-timeout")
    return Head(
        method=pseudo[b":method"].decode("latin-1"),
        path=pseudo[b":path"].decode("latin-1"),
        content_type=metadata.get(b"content-type", b""),
        encoding=metadata.get(b"grpc-encoding", b"identity"),
        timeout_s=None if timeout is None else parse_timeout(timeout),
        length=None if length is None else int(length),
        metadata=metadata,
    )


def _fault_of(name: bytes, value: bytes, pseudo: Mapping[bytes, bytes], *, is_after_metadata: bool) -> str:
    if name[:1] == b":":
        if name not in _PSEUDO or name in pseudo or is_after_metadata:
            return f"{name!r:.40} is unknown, repeated or late"
    elif not _NAME.fullmatch(name):
        return f"{name!r:.40} is no name of a header"
    elif name in _FORBIDDEN or (name == b"te" and value != b"trailers"):
        return f"{name!r:.40} has no place in HTTP/2"
    if _FORBIDDEN_IN_VALUES.search(value):
        return f"the value of {name!r:.40} holds a control character"
    return ""

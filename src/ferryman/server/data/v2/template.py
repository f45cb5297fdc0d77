"""Know requests that differ from an earlier one only in their numbers: clients send the same form again and again."""

import orjson

from ferryman.server.data.v2.codec import pack_numbers
from ferryman.server.data.v2.messages import TensorRequest

_DATA = b'"data":['
_MOST_KNOWN = 256
_LONGEST_BYTES = 8 * 1024
_NUMBERS = {int, float}

_Form = tuple[bytes, bytes]  # what is before the numbers, and after them


class Templates:
    """Decode requests for tensors, quickly where their form is known.

    A form is learned from a body that was read in full, of one input, where the word "data" stands once and nothing is
    escaped. Where a later body has the same bytes around a flat list of as many numbers, a full reading would find the
    same, so only the numbers are read.
    """

    def __init__(self) -> None:
        self._known: dict[_Form, TensorRequest] = {}

    def decode(self, body: bytes) -> TensorRequest | None:
        """Give the request; None where the form is not known, or asks for something else than tensors."""
        start = body.find(_DATA) + len(_DATA)
        end = body.find(b"]", start)
        known = self._known.get((body[:start], body[end:]))
        if known is None:
            return None
        numbers = _numbers(body[start - 1 : end + 1])
        for name, array in known.inputs.items():
            if numbers is not None and len(numbers) == array.size:
                inputs = {name: pack_numbers(name, array.dtype, array.shape, numbers)}
                return TensorRequest(
                    known.id, inputs, known.outputs, known.binary, known.is_binary_by_default, known.timeout_s,
                    known.priority,
                )  # fmt: skip
        return None

    def learn(self, body: bytes, request: TensorRequest) -> None:
        """Remember the form of a body that was read in full, where it may be one."""
        start = body.find(_DATA) + len(_DATA)
        end = body.find(b"]", start)
        is_plain = start >= len(_DATA) and end > 0 and len(body) <= _LONGEST_BYTES and b"\\" not in body
        if not is_plain or len(request.inputs) != 1 or body.count(b'"data"') != 1:
            return
        (array,) = request.inputs.values()
        if array.dtype.str in ("<f4", "<f8") and _numbers(body[start - 1 : end + 1]) is not None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[body[:start], body[end:]] = request


def _numbers(text: bytes) -> list[float] | None:
    """Read a JSON list of numbers; None for anything else."""
    try:
        values = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return values if set(map(type, values)) <= _NUMBERS else None

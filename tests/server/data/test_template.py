"""What a known form reads is what a full reading reads, whatever is sent."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferryman.core.errors import InputError
from ferryman.server.data.v2.asking import Decoder, decode
from ferryman.server.data.v2.messages import TensorRequest

HEADERS = {b"content-type": b"application/json"}
SERVED: Any = SimpleNamespace(name="model", loaded=SimpleNamespace(takes="tensors"))  # all that decoding asks of it


def body_of(numbers: str, **more: Any) -> bytes:
    tensor = '{"name":"x","shape":[1,3],"datatype":"FP32","data":[' + numbers + "]}"
    rest = "".join(f",{json.dumps(key)}:{json.dumps(value)}" for key, value in more.items())
    return f'{{"inputs":[{tensor}]{rest}}}'.encode()


def outcome(read: Any, body: bytes) -> Any:
    """Give what a reading makes of a body, to compare."""
    try:
        asked = read(HEADERS, body, SERVED)
    except InputError as error:
        return "refused", str(error)
    assert isinstance(asked, TensorRequest)
    tensors = {name: (array.dtype, array.shape, array.tobytes()) for name, array in asked.inputs.items()}
    return tensors, asked.id, asked.outputs, asked.binary, asked.timeout_s, asked.priority


NUMBERS = st.sampled_from(
    ["1,2,3", "0.5,-1e3,7", "1,2", "1,2,3,4", "", "1,true,3", "1,null,3", '1,"NaN",3', "1e39,0,0", "[1,2,3]", "1,[2],3",
     "1,2,3],[4", "1,,2", "1,2,3,", " 1, 2 ,3 ", "NaN,1,2", "1e999,0,0"]
)  # fmt: skip
MORE = st.sampled_from(
    [{}, {"id": "a"}, {"id": 'x"data":[9'}, {"parameters": {"priority": 1}}, {"data": [7, 8, 9]}, {"outputs": []},
     {'q"data': [1, 2, 3]}, {"parameters": {"timeout": 5}}]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(NUMBERS, MORE), min_size=1, max_size=12))
def test_a_decoder_with_a_memory_reads_what_one_without_reads(sent: list[tuple[str, dict[str, Any]]]) -> None:
    decoder = Decoder()
    for numbers, more in sent:
        body = body_of(numbers, **more)
        assert outcome(decoder.decode, body) == outcome(decode, body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[{"name":"x","data":[1,2,3],"data" :[4,5,6],"shape":[1,3],"datatype":"FP32"}]}',
        b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","d\\u0061ta":[4,5,6],"data":[1,2,3]}]}',
        b'{"parameters":{"data":[1,2,3]},"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[4,5,6]}]}',
    ],
)
def test_a_body_that_says_data_twice_is_never_a_form(body: bytes) -> None:
    decoder = Decoder()
    for numbers in (b"1,2,3", b"7,8,9"):
        sent = body.replace(b"1,2,3", numbers)
        assert outcome(decoder.decode, sent) == outcome(decode, sent)


def test_a_known_form_is_read_without_a_full_reading() -> None:
    decoder = Decoder()
    decoder.decode(HEADERS, body_of("1,2,3"), SERVED)
    known = decoder._templates.decode(body_of("4,5,6"))
    assert known is not None
    assert np.array_equal(known.inputs["x"], np.array([[4, 5, 6]], np.float32))

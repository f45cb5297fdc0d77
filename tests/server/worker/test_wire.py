"""What crosses the socket comes out as it went in."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ferryman.core.errors import FerrymanError, InputError, NotReady, Overloaded
from ferryman.core.signature import Array
from ferryman.server.data.worker.parcel import Parcel, read_array
from ferryman.server.data.worker.wire import (
    DONE,
    Frame,
    FrameReader,
    decode_error,
    decode_json,
    encode_error,
    encode_frame,
    encode_json,
    padded,
)

_DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="?"),
)
_SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
_ARRAYS = hnp.arrays(_DTYPES, _SHAPES)
_TEXT = hnp.arrays(object, _SHAPES, elements=st.text(st.characters(codec=None), max_size=5))


def _cross(arrays: list[Array]) -> list[Array]:
    parcel = Parcel()
    places = [parcel.add(array) for array in arrays]
    buffer = bytearray(parcel.size_bytes)
    parcel.write_to(memoryview(buffer))
    return [read_array(decode_json(encode_json(place)), memoryview(bytes(buffer))) for place in places]


@given(st.lists(_ARRAYS, max_size=4))
def test_numbers_of_every_dtype_and_shape_come_out_as_they_went_in(arrays: list[Array]) -> None:
    for before, after in zip(arrays, _cross(arrays), strict=True):
        assert after.dtype == before.dtype.newbyteorder("=")
        np.testing.assert_array_equal(after, before, strict=before.dtype.isnative)


@given(_TEXT)
def test_text_comes_out_as_it_went_in(array: Array) -> None:
    (after,) = _cross([array])
    assert after.shape == array.shape
    assert after.tolist() == array.tolist()


def test_fixed_width_text_and_bytes_become_objects() -> None:
    assert _cross([np.array([["ä", "bcd"]])])[0].tolist() == [["ä", "bcd"]]
    assert _cross([np.array([b"\xff\x00", "ü"], object)])[0].tolist() == [b"\xff\x00", "ü".encode()]


def test_arrays_that_are_not_contiguous_keep_their_order() -> None:
    array = np.arange(24).reshape(4, 6)
    for view in (array.T, array[::2, ::-1], np.asfortranarray(array)):
        np.testing.assert_array_equal(_cross([view])[0], view)


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(3))), st.integers(1, 8))
def test_rows_of_several_asks_lie_one_after_the_other(array: Array, cut: int) -> None:
    parts = [array[:cut], array[cut:]]
    parcel = Parcel()
    place = parcel.add_rows(parts)
    buffer = bytearray(parcel.size_bytes)
    parcel.write_to(memoryview(buffer))
    np.testing.assert_array_equal(read_array(place, memoryview(buffer)), array)


def test_rows_of_another_dtype_are_never_cast_in_silence() -> None:
    parcel = Parcel()
    parcel.add_rows([np.ones((1, 2), np.float32), np.ones((1, 2), np.float16)])
    with pytest.raises(TypeError):
        parcel.write_to(memoryview(bytearray(parcel.size_bytes)))


def test_what_is_no_tensor_is_refused() -> None:
    with pytest.raises(InputError):
        Parcel().add(np.array(["2020-01-01"], "datetime64[D]"))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.binary(max_size=60), st.binary(max_size=60)), max_size=6), st.randoms())
def test_frames_are_cut_right_wherever_the_stream_is_torn(parts: list[tuple[bytes, bytes]], chance: object) -> None:
    stream = b""
    for number, (meta, payload) in enumerate(parts):
        size = padded(len(payload))
        stream += encode_frame(DONE, number, meta, size) + payload.ljust(size, b"\0")
    reader, frames = FrameReader(), list[Frame]()
    start = 0
    while start < len(stream):
        end = start + chance.randint(1, 90)  # type: ignore[attr-defined]  # hypothesis types its Random as object
        frames += [frame._replace(payload=memoryview(bytes(frame.payload))) for frame in reader.feed(stream[start:end])]
        start = end
    assert [frame.number for frame in frames] == list(range(len(parts)))
    for frame, (meta, payload) in zip(frames, parts, strict=True):
        assert frame.meta.startswith(meta)
        assert bytes(frame.payload[: len(payload)]) == payload


def test_noise_is_no_frame() -> None:
    with pytest.raises(ValueError, match="kind"):
        list(FrameReader().feed(b"x" * 64))


@pytest.mark.parametrize(
    "value",
    [
        {"a": None, "b": 1.5, "c": "ü", "d": [True, 2**63]},
        {"a": 2**80, "b": -(2**70)},
        {"a": "half a pair \ud800"},
        {"a": float("inf"), "b": None},
    ],
)
def test_json_values_come_out_as_they_went_in(value: object) -> None:
    assert decode_json(encode_json(value)) == value


def test_a_number_that_is_none_stays_one() -> None:
    assert math.isnan(decode_json(encode_json([float("nan")]))[0])
    assert decode_json(encode_json({"a": np.float32(0.5), "b": np.array([1, 2])})) == {"a": 0.5, "b": [1, 2]}


def test_errors_keep_their_kind_message_and_hint() -> None:
    class Own(NotReady):
        """Be a plug-in's own kind."""

    for error in (InputError("no", hint="do so"), Overloaded("full"), FerrymanError("odd")):
        back = decode_error(encode_error(error))
        assert (type(back), str(back), back.hint) == (type(error), str(error), error.hint)
    assert type(decode_error(encode_error(Own("x")))) is NotReady
    assert type(decode_error(encode_error(KeyError("x")))) is FerrymanError

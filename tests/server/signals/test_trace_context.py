import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman.server.data.signals.trace_context import TraceContext, parse_traceparent

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"


@pytest.mark.parametrize(("flags", "is_sampled"), [(b"00", False), (b"01", True), (b"03", True), (b"fe", False)])
def test_a_header_as_the_standard_says_is_read(flags: bytes, is_sampled: bool) -> None:
    found = parse_traceparent(b"-".join((b"00", TRACE, SPAN, flags)))
    assert found == TraceContext(int(TRACE, 16), int(SPAN, 16), is_sampled)
    assert found.trace_hex == TRACE.decode()


def test_a_later_version_may_say_more_and_this_one_may_not() -> None:
    assert parse_traceparent(b"-".join((b"cc", TRACE, SPAN, b"01", b"more"))) is not None
    assert parse_traceparent(b"-".join((b"00", TRACE, SPAN, b"01", b"more"))) is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"00",
        b"-".join((b"ff", TRACE, SPAN, b"01")),
        b"-".join((b"00", b"0" * 32, SPAN, b"01")),
        b"-".join((b"00", TRACE, b"0" * 16, b"01")),
        b"-".join((b"00", TRACE.upper(), SPAN, b"01")),
        b"-".join((b"00", TRACE[:-1], SPAN, b"01")),
        b"-".join((b"00", TRACE, SPAN + b"0", b"01")),
        b"-".join((b"00", TRACE, SPAN, b"1")),
        b"-".join((b"00", TRACE, SPAN, b"0g")),
        b"-".join((b"00", TRACE, SPAN, b"01")) + b"\n",
        b" " + b"-".join((b"00", TRACE, SPAN, b"01")),
        b"-".join((b"cc", TRACE, SPAN, b"01more")),
    ],
)
def test_anything_else_is_as_if_it_was_not_there(value: bytes | None) -> None:
    assert parse_traceparent(value) is None


@given(st.binary(max_size=80))
def test_no_bytes_make_it_fail(value: bytes) -> None:
    parse_traceparent(value)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_what_is_written_is_read_again(trace_id: int, span_id: int, is_sampled: bool) -> None:
    context = TraceContext(trace_id, span_id, is_sampled)
    assert parse_traceparent(context.header()) == context

import io
import os
import pty
import re
import select

from ferryman.cli.talk import Listener


def heard(*, is_quiet: bool = False) -> str:
    stream = io.StringIO()
    with Listener(stream, is_quiet=is_quiet) as progress:
        for done in range(100):
            progress("measure", done=done, total=100)
        progress("measure", note="p50 14.2 ms")
        progress("pack")
    return stream.getvalue()


def test_away_from_a_terminal_each_stage_and_note_is_one_plain_line() -> None:
    lines = heard().splitlines()
    assert [line.split(" s  ")[1] for line in lines] == ["measure", "measure: p50 14.2 ms", "pack"]


def test_quiet_says_nothing() -> None:
    assert heard(is_quiet=True) == ""


def test_a_note_can_not_move_the_cursor() -> None:
    stream = io.StringIO()
    with Listener(stream) as progress:
        progress("load", note="\x1b[2Jwiped\rover")
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def read_until(terminal: int, wanted: bytes) -> bytes:
    shown = b""
    while wanted not in shown and select.select([terminal], [], [], 10)[0]:
        shown += os.read(terminal, 1)
    return shown


def read_terminal(encoding: str) -> str:
    """Show progress on a real terminal (a pty) until its live line was drawn."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding=encoding) as stream:
        with Listener(stream) as progress:
            progress("quantize", done=5, total=20)
            shown = read_until(ours, b"5/20")
            progress("quantize", note="1.31 MB")
        shown += read_until(ours, b"MB\r\n") + read_until(ours, b"\x1b[K")
    os.close(ours)
    return shown.decode(encoding)


def test_a_terminal_gets_one_live_line_and_lasting_notes() -> None:
    shown = read_terminal("utf-8")
    assert re.search("\r\x1b\\[K. quantize  █████░+ 5/20  0 s", shown)
    assert "quantize: 1.31 MB" in shown
    assert shown.endswith("\r\x1b[K")


def test_an_ascii_terminal_gets_ascii() -> None:
    assert "#####..............." in read_terminal("ascii")

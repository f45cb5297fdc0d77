"""A server's log lines are for people or, one JSON object each, for what collects them."""

import io
import json
import logging
import sys

from ferryman.core.log_lines import log_handler


def logged(form: str) -> str:
    stream = io.StringIO()
    handler = log_handler(form, text="%(levelname)s %(message)s", stream=stream)
    try:
        raise ValueError("no good")
    except ValueError:
        record = logging.LogRecord("a", logging.WARNING, "file", 1, 'it is "%s"\n', ("ü",), None)
        handler.handle(record)
        handler.handle(logging.LogRecord("a", logging.ERROR, "file", 1, "lost", (), sys.exc_info()))
    return stream.getvalue()


def test_each_line_is_one_object_whatever_it_says() -> None:
    first, second = (json.loads(line) for line in logged("json").splitlines())
    assert (first["level"], first["message"]) == ("WARNING", 'it is "ü"\n') and first["time"].endswith("Z")
    assert second["message"] == "lost" and "ValueError: no good" in second["trace"]


def test_people_read_lines_as_before() -> None:
    assert logged("text").startswith('WARNING it is "ü"\n')

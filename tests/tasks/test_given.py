from pathlib import Path

import numpy as np
import pytest

from ferryman.tasks.given import describe_given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Path("folder/photo.jpg"), "a file (photo.jpg)"),
        (b"content", "a file's content"),
        (np.ones(2), "an array"),
        ({"width": 1}, "a table's row"),
        ({"width": np.ones(2)}, "a set of named arrays"),
        ([1, 2], "a list"),
        (7, "a number"),
        (True, "true or false"),
        ("word", "text"),
        (None, "nothing (null)"),
    ],
)
def test_what_was_given_is_named_as_its_giver_would(given: object, words: str) -> None:
    assert describe_given(given) == words

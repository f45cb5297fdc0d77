from collections import Counter
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman.server.data.split import side


@given(st.text(), st.text())
def test_a_place_is_in_the_line_and_always_the_same(key: str, salt: str) -> None:
    assert 0.0 <= side(key, salt) < 1.0
    assert side(key, salt) == side(key, salt)


def test_a_place_is_the_same_in_every_process_and_release() -> None:
    assert side("user-1", "street/2") == pytest.approx(0.8615569003287117, abs=1e-15)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5, 0.99])
def test_a_share_of_the_keys_is_within_chance_of_what_was_asked(share: float) -> None:
    total = 40_000
    inside = sum(side(f"user-{number}", "street/2") < share for number in range(total))
    assert abs(inside - share * total) < 4 * sqrt(total * share * (1 - share))


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_key_in_a_small_share_is_in_every_larger_one(key: str, first: float, second: float) -> None:
    small, large = sorted((first, second))
    if side(key, "street/2") < small:
        assert side(key, "street/2") < large


def test_another_salt_chooses_other_keys() -> None:
    both = Counter(
        (side(f"user-{number}", "street/2") < 0.1, side(f"user-{number}", "street/3") < 0.1) for number in range(20_000)
    )
    assert abs(both[True, True] - 200) < 60  # a tenth of a tenth, as by chance


def test_key_and_salt_are_not_run_together() -> None:
    assert side("bc", "a") != side("c", "ab")

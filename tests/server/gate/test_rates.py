import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman.core.errors import RateLimited
from ferryman.server.data.gate.rates import Limit, RateLimits, network_of


def passes(limits: RateLimits, limit: Limit, now_s: float, who: str = "key:web") -> bool:
    try:
        limits.take(who, limit, now_s)
    except RateLimited:
        return False
    return True


def test_a_burst_passes_at_once_and_the_next_one_is_told_when_it_fits() -> None:
    limits, limit = RateLimits(), Limit(rate_per_s=10, burst=3)
    assert [passes(limits, limit, 100.0) for _ in range(4)] == [True, True, True, False]
    with pytest.raises(RateLimited) as refused:
        limits.take("key:web", limit, 100.0)
    assert refused.value.retry_after_s == pytest.approx(0.1)
    assert not passes(limits, limit, 100.0 + refused.value.retry_after_s - 0.001)
    assert passes(limits, limit, 100.0 + refused.value.retry_after_s)


def test_a_caller_that_keeps_to_its_rate_is_never_refused() -> None:
    limits, limit = RateLimits(), Limit(rate_per_s=7)
    assert all(passes(limits, limit, 1000.0 + number / 7) for number in range(5000))


@given(st.lists(st.floats(0, 0.5), max_size=200), st.floats(0.5, 50), st.integers(1, 20))
def test_no_more_than_rate_times_time_plus_burst_pass(gaps: list[float], rate_per_s: float, burst: int) -> None:
    limits, limit, now_s, passed = RateLimits(), Limit(rate_per_s, burst), 1.0, 0
    for gap in gaps:
        now_s += gap
        passed += passes(limits, limit, now_s)
    assert passed <= (now_s - 1.0) * rate_per_s + burst + 1e-6 * len(gaps)


def test_callers_do_not_share_a_bucket() -> None:
    limits, limit = RateLimits(), Limit(1)
    assert passes(limits, limit, 5.0, "a") and passes(limits, limit, 5.0, "b")
    assert not passes(limits, limit, 5.0, "a")


def test_the_table_stays_bounded_and_keeps_those_that_wait() -> None:
    limits, slow, fast = RateLimits(capacity=100), Limit(0.001), Limit(1000)
    assert passes(limits, slow, 10.0, "slow")
    for number in range(10_000):
        assert passes(limits, fast, 10.0 + number / 100, str(number))
        assert len(limits) <= 100
    assert not passes(limits, slow, 150.0, "slow")


def test_a_table_full_of_those_that_wait_still_stays_bounded() -> None:
    limits, slow = RateLimits(capacity=100), Limit(0.001)
    for number in range(1000):
        passes(limits, slow, 10.0, str(number))
    assert len(limits) <= 100


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("unix", "unix"),
    ],
)
def test_one_host_is_one_peer(peer: str, network: str) -> None:
    assert network_of(peer) == network


@pytest.mark.parametrize(("rate_per_s", "burst"), [(0, 1), (-1, 1), (float("nan"), 1), (float("inf"), 1), (1, 0)])
def test_a_limit_that_limits_nothing_or_all_is_refused(rate_per_s: float, burst: int) -> None:
    with pytest.raises(ValueError, match="rate over 0"):
        Limit(rate_per_s, burst)

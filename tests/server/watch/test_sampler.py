import pytest

from ferryman.server.data.watch.sampler import Sampler


def settled(sampler: Sampler, *, looking_s: float, serving_s: float, calls: int = 1000) -> float:
    """Give the share of CPU time that looking takes in the end: `calls` a second, each with its two costs."""
    totals = [0.0, 0.0]
    for second in range(120):
        drawn = sampler.drawn
        for call in range(calls):
            sampler.draw(second + call / calls)
        looking = (sampler.drawn - drawn) * looking_s
        all_s = calls * serving_s + looking
        sampler.spent(looking, all_s)
        if second >= 60:
            totals = [totals[0] + looking, totals[1] + all_s]
    return totals[0] / totals[1]


@pytest.mark.parametrize(("looking_s", "serving_s"), [(1e-4, 3e-4), (1e-3, 3e-4), (1e-5, 2e-4)])
def test_looking_stays_within_its_budget_whatever_it_costs(looking_s: float, serving_s: float) -> None:
    assert settled(Sampler(0.03), looking_s=looking_s, serving_s=serving_s) < 0.045


def test_what_is_cheap_is_done_for_every_call() -> None:
    sampler = Sampler(0.03)
    settled(sampler, looking_s=1e-4, serving_s=3e-2, calls=20)
    assert (sampler.share, sampler.left_out) == (1.0, 0)


def test_a_share_that_was_small_grows_when_there_is_time_again() -> None:
    sampler = Sampler(0.03)
    settled(sampler, looking_s=1e-3, serving_s=3e-4)
    assert sampler.share < 0.05
    settled(sampler, looking_s=1e-3, serving_s=0.5, calls=2)
    assert sampler.share == 1.0


def test_however_little_is_looked_into_it_is_never_nothing_for_long() -> None:
    sampler = Sampler(0.03, share=0.0)
    drawn = [tenth for tenth in range(60) if sampler.draw(tenth / 10)]
    assert drawn == [0, 10, 20, 30, 40, 50]


def test_without_a_budget_nothing_is_looked_into() -> None:
    sampler = Sampler(0.0)
    assert not any(sampler.draw(float(second)) for second in range(60))


def test_what_the_watch_takes_by_itself_goes_off_the_budget_but_looking_never_ends() -> None:
    shares = []
    for fixed_s in (0.0, 0.01, 0.5):
        sampler = Sampler(0.03)
        for second in range(120):
            drawn = sampler.drawn
            for call in range(1000):
                sampler.draw(second + call / 1000)
            sampler.spent((sampler.drawn - drawn) * 1e-4, 1.0, fixed_s=fixed_s, passed_s=1.0)
        shares.append(sampler.share)
    assert shares[0] == pytest.approx(0.225, rel=0.3)
    assert shares[1] == pytest.approx(0.125, rel=0.3)
    assert shares[2] == pytest.approx(0.075, rel=0.3)


def test_of_a_server_that_is_seldom_asked_every_call_is_looked_into() -> None:
    sampler = Sampler(0.03)
    for second in range(600):
        looked = sampler.draw(float(second))
        sampler.spent(5e-4 * looked, 1.4e-3, fixed_s=2e-3, passed_s=1.0)
    assert (sampler.share, sampler.left_out) == (1.0, 0)

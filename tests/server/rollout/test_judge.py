from collections.abc import Callable
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman.core.errors import (
    DeadlineExceeded,
    FerrymanError,
    InputError,
    NotFound,
    NotReady,
    Overloaded,
    RateLimited,
    TooLarge,
)
from ferryman.server.control.rollout_chance import tail, upper_rate
from ferryman.server.control.rollout_figures import Latencies, Window, is_fault, is_suspect
from ferryman.server.control.rollout_judge import Stage, Verdict, judge
from ferryman.server.control.rollout_plan import Plan
from ferryman.server.data.ask import Ask, Gone, Reply

PLAN = Plan(step_s=10.0, max_step_s=100.0, min_requests=200)
ANSWER = Reply(outputs={})
CRASH = NotReady("the worker crashed")


@given(st.integers(0, 60), st.integers(1, 60), st.floats(0.001, 0.999))
def test_a_tail_is_the_sum_of_its_terms(count: int, total: int, rate: float) -> None:
    wanted = sum(comb(total, hits) * rate**hits * (1 - rate) ** (total - hits) for hits in range(count, total + 1))
    assert tail(count, total, rate) == pytest.approx(wanted, rel=1e-7, abs=1e-12)


@given(st.integers(0, 50), st.integers(1, 2000), st.sampled_from([0.1, 0.01, 1e-4, 1e-6]))
def test_a_rate_at_its_upper_bound_gives_so_few_with_the_doubt_that_was_asked(
    count: int, total: int, doubt: float
) -> None:
    if count < total:
        rate = upper_rate(count, total, doubt)
        assert 1 - tail(count + 1, total, rate) == pytest.approx(doubt, rel=1e-3)


def test_the_upper_bound_after_no_failure_is_the_one_that_is_known_in_closed_form() -> None:
    assert upper_rate(0, 100, 0.05) == pytest.approx(1 - 0.05**0.01)


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (NotReady(""), True),
        (FerrymanError(""), True),
        (DeadlineExceeded(""), True),
        (InputError(""), None),
        (TooLarge(""), None),
        (NotFound(""), None),
        (Overloaded(""), None),
        (RateLimited(""), None),
    ],
)
def test_only_what_is_the_version_s_own_fault_counts(error: FerrymanError, counts: bool | None) -> None:
    assert is_fault(None, error) is counts


def test_an_answer_that_is_not_finite_is_a_fault() -> None:
    assert is_fault(Reply(outputs={}, is_finite=False), None) is True
    assert is_fault(ANSWER, None) is False


@given(st.lists(st.floats(1e-7, 900), min_size=1))
def test_a_histogram_never_counts_a_latency_as_over_a_limit_that_it_kept(seconds: list[float]) -> None:
    latencies = Latencies()
    for value in seconds:
        latencies.add(value)
    for limit in (1e-4, 0.01, *seconds):
        assert latencies.above(limit) <= sum(value > limit for value in seconds)
        assert latencies.above(limit) >= sum(value > limit * 1.2 for value in seconds if value > 1e-5)


def filled(
    *, active: tuple[int, int] = (0, 0), candidate: tuple[int, int] = (0, 0), active_s: float = 0.01, s: float = 0.01
) -> Window:
    """Give a window with so many requests and errors on each side, of one latency each."""
    window = Window(0.0)
    for side, (requests, errors), seconds in ((window.active, active, active_s), (window.candidate, candidate, s)):
        for number in range(requests):
            failed = number < errors
            side.note(None if failed else ANSWER, CRASH if failed else None, seconds)
    return window


def shadowed(*, asked: int, errors: int = 0, differing: int = 0) -> Window:
    window = Window(0.0)
    window.shadow.asked, window.shadow.errors = asked, errors
    window.shadow.compared, window.shadow.differing = asked - errors, differing
    return window


@pytest.mark.parametrize(
    ("window", "elapsed_s", "stage", "wanted"),
    [
        (filled(), 0, "canary", "hold"),
        (filled(active=(5000, 0), candidate=(199, 0)), 99, "canary", "hold"),
        (filled(active=(5000, 0), candidate=(200, 0)), 9, "canary", "hold"),
        (filled(active=(5000, 0), candidate=(200, 0)), 10, "canary", "advance"),
        (filled(active=(5000, 0), candidate=(199, 0)), 100, "canary", "pause"),
        (filled(active=(5000, 0), candidate=(200, 1)), 10, "canary", "advance"),  # one may be chance
        (filled(active=(5000, 25), candidate=(200, 3)), 10, "canary", "advance"),
        (filled(active=(5000, 0), candidate=(16, 16)), 1, "canary", "back"),
        (filled(active=(5000, 500), candidate=(200, 24)), 10, "canary", "advance"),  # both fail alike
        (filled(active=(5000, 0), candidate=(200, 24)), 10, "canary", "back"),
        (filled(active=(5000, 0), candidate=(200, 0), s=0.011), 10, "canary", "advance"),
        (filled(active=(5000, 0), candidate=(200, 0), s=0.03), 10, "canary", "back"),
        (filled(active=(5000, 0), candidate=(99, 0), s=0.03), 5, "canary", "hold"),  # too few to tell
        (filled(active=(99, 0), candidate=(200, 0), s=0.03), 10, "canary", "advance"),  # of the active's too few
        (filled(active=(5000, 0), candidate=(200, 0), active_s=0.0005, s=0.0015), 10, "canary", "advance"),  # 1 ms
        (shadowed(asked=199), 50, "shadow", "hold"),
        (shadowed(asked=200), 10, "shadow", "advance"),
        (shadowed(asked=200, differing=3), 10, "shadow", "advance"),
        (shadowed(asked=200, differing=20), 10, "shadow", "back"),
        (shadowed(asked=20, differing=20), 1, "shadow", "back"),
        (shadowed(asked=200, errors=20), 10, "shadow", "back"),
    ],
)
def test_verdicts(window: Window, elapsed_s: float, stage: Stage, wanted: str) -> None:
    verdict = judge(PLAN, window, elapsed_s, stage=stage)
    assert verdict.action == wanted, verdict
    assert bool(verdict.reasons) == (wanted != "hold")


def refusing(window: Window, active: int, candidate: int) -> Window:
    for side, count in ((window.active, active), (window.candidate, candidate)):
        for _ in range(count):
            side.note(None, InputError("no picture"), 0.001)
    return window


def test_a_version_that_refuses_what_the_active_one_takes_goes_back_and_one_that_refuses_the_same_goes_on() -> None:
    window = refusing(filled(active=(5000, 0), candidate=(200, 0)), 0, 40)
    assert judge(PLAN, window, 10, stage="canary").reasons == (
        "40 of 240 requests were refused as their callers' fault, of the active version's 0 of 5000; 1.00% more may",
    )
    alike = refusing(filled(active=(5000, 0), candidate=(200, 0)), 1000, 40)
    assert judge(PLAN, alike, 10, stage="canary").action == "advance"
    alone = refusing(filled(active=(5000, 0), candidate=(0, 0)), 0, 40)
    assert judge(PLAN, alone, 1, stage="canary").action == "back", "it need not answer anything"


def test_a_version_whose_callers_wait_in_vain_is_slow_and_not_faulty() -> None:
    window = filled(active=(5000, 0), candidate=(150, 0))
    for _ in range(50):
        window.candidate.note(None, Gone("the client left"), 10.0)
    verdict = judge(PLAN, window, 10, stage="canary")
    assert (window.candidate.requests, window.candidate.errors) == (200, 0)
    assert verdict.action == "back" and "50 of 200 requests took over" in verdict.reasons[0]


def test_an_answer_that_is_not_finite_is_suspect_unless_its_question_is_not_either() -> None:
    def ask(**tensors: object) -> Ask:
        return Ask("m", None, lambda *_: None, tensors={name: np.array(value) for name, value in tensors.items()})

    bad = Reply(outputs={}, is_finite=False)
    assert is_suspect(ask(values=[1.0], words=["nan"]), bad)
    assert not is_suspect(ask(values=[1.0], more=[float("nan")]), bad)
    assert not is_suspect(ask(values=[1.0]), ANSWER)


def test_a_paused_step_stays_but_harm_still_ends_it() -> None:
    well, ill = filled(active=(5000, 0), candidate=(200, 0)), filled(active=(5000, 0), candidate=(200, 100))
    assert judge(PLAN, well, 1000, stage="canary", is_paused=True) == Verdict("hold")
    assert judge(PLAN, ill, 1000, stage="canary", is_paused=True).action == "back"


def test_a_reason_says_what_was_measured_what_was_allowed_and_of_what() -> None:
    verdict = judge(PLAN, filled(active=(5000, 5), candidate=(200, 24)), 10, stage="canary")
    assert verdict.reasons == (
        "24 of 200 requests failed (24 NotReady), of the active version's 5 of 5000; 1.00% more may",
    )


def test_looking_often_spends_no_more_doubt_than_looking_seldom() -> None:
    window = filled(active=(5000, 0), candidate=(20, 0))
    for _ in range(1000):
        judge(PLAN, window, 1, stage="canary")
    assert window.looks == 1


Traffic = Callable[[np.random.Generator, Window, int], None]


def simulate(traffic: Traffic, *, rollouts: int, seed: int) -> tuple[int, int]:
    """Give how many rollouts were rolled back, and how many requests the candidate had got by then at most."""
    random, plan, rolled_back, most = np.random.default_rng(seed), Plan(), 0, 0
    for _ in range(rollouts):
        asked = 0
        for weight in plan.steps:
            window, elapsed_s, verdict = Window(0.0), 0.0, Verdict("hold")
            while verdict.action == "hold":
                elapsed_s += 5
                traffic(random, window, max(round(200 * weight), 1))
                verdict = judge(plan, window, elapsed_s, stage="canary")
            asked += window.candidate.requests
            if verdict.action == "back":
                rolled_back += 1
                most = max(most, asked)
                break
    return rolled_back, most


def requests(random: np.random.Generator, window: Window, candidates: int, *, error_rate: float, factor: float) -> None:
    """Let 200 requests come: the active version fails 1 % of its own, latencies are log-normal, p99 about 32 ms."""
    for side, count, rate, slower in (
        (window.active, 200 - candidates, 0.01, 1.0),
        (window.candidate, candidates, error_rate, factor),
    ):
        seconds = np.exp(random.normal(np.log(0.01), 0.5, count)) * slower
        failed = random.random(count) < rate
        for fails, value in zip(failed.tolist(), seconds.tolist(), strict=True):
            side.note(None if fails else ANSWER, CRASH if fails else None, value)


def test_a_version_as_good_as_the_old_one_is_rolled_back_no_more_often_than_the_plan_says() -> None:
    def alike(random: np.random.Generator, window: Window, candidates: int) -> None:
        requests(random, window, candidates, error_rate=0.01, factor=1.0)

    rolled_back, _ = simulate(alike, rollouts=60, seed=1)
    assert rolled_back <= 2  # of 60, at 1 %


def test_a_version_at_its_limits_is_rolled_back_no_more_often_than_the_plan_says() -> None:
    def just_allowed(random: np.random.Generator, window: Window, candidates: int) -> None:
        requests(random, window, candidates, error_rate=0.02, factor=1.5)

    rolled_back, _ = simulate(just_allowed, rollouts=60, seed=2)
    assert rolled_back <= 2


def test_a_version_that_fails_often_is_always_rolled_back_before_many_have_met_it() -> None:
    def failing(random: np.random.Generator, window: Window, candidates: int) -> None:
        requests(random, window, candidates, error_rate=0.2, factor=1.0)

    rolled_back, most = simulate(failing, rollouts=50, seed=3)
    assert rolled_back == 50
    assert most <= 200


def test_a_version_that_is_twice_as_slow_is_hardly_ever_promoted() -> None:
    def slow(random: np.random.Generator, window: Window, candidates: int) -> None:
        requests(random, window, candidates, error_rate=0.01, factor=2.0)

    rolled_back, most = simulate(slow, rollouts=50, seed=4)
    assert rolled_back >= 45
    assert most <= 2500


def test_differing_answers_within_what_is_allowed_cry_no_wolf() -> None:
    random, plan, rolled_back = np.random.default_rng(5), Plan(), 0
    for _ in range(1000):
        window = Window(0.0)
        while window.shadow.asked < 2000:
            window.shadow.asked += 50
            window.shadow.compared += 50
            window.shadow.differing += int(random.binomial(50, plan.max_disagreement))
            rolled_back += judge(plan, window, 0, stage="shadow").action == "back"
    assert rolled_back <= 6  # at most 0.05 % of the looks' steps: a quarter of a fifth of the plan's 1 %

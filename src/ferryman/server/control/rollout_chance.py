"""Tell chance from a difference: exact binomial figures, without a statistics package in the serving image."""

from math import exp, hypot, lgamma, log, log1p

_TINY = 1e-300
_PRECISION = 1e-12


def tail(count: int, total: int, rate: float) -> float:
    """Give the probability of `count` or more of `total` where each happens with `rate`, independently."""
    if count <= 0:
        return 1.0
    if count > total or rate <= 0:
        return 0.0
    return 1.0 if rate >= 1 else _beta(count, total - count + 1, rate)


def upper_rate(count: int, total: int, doubt: float) -> float:
    """Give the rate that the true one is over with a probability of at most `doubt` (Clopper and Pearson's bound)."""
    if count >= total:
        return 1.0
    low, high = count / total, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        # So few, were this the true rate?
        if 1.0 - tail(count + 1, total, middle) > doubt:
            low = middle
        else:
            high = middle
    return high


def surely_more(more: tuple[int, int], less: tuple[int, int], doubt: float) -> float:
    """Give by how much the first rate is over the second at least, but for a probability of about `doubt`.

    Each is a count and its total. The exact bounds of both are joined by their squares (Zou and Donner's MOVER), as
    both are rarely at their worst; with a large second total, that is the exact test of the first.
    """
    (count, total), (other, others) = more, less
    rate, base = count / total, other / others if others else 0.0
    low = 1.0 - upper_rate(total - count, total, doubt)
    high = upper_rate(other, others, doubt) if others else 0.0
    return rate - base - hypot(rate - low, high - base)


def _beta(first: float, second: float, point: float) -> float:
    """Give the regularised incomplete beta function, by its continued fraction from the side where that is short."""
    if point > (first + 1) / (first + second + 2):
        return 1.0 - _beta_fraction(second, first, 1.0 - point)
    return _beta_fraction(first, second, point)


def _beta_fraction(first: float, second: float, point: float) -> float:
    front = exp(lgamma(first + second) - lgamma(first) - lgamma(second) + first * log(point) + second * log1p(-point))
    upper, lower = 1.0, _away(1.0 - (first + second) * point / (first + 1))
    lower = 1.0 / lower
    value = lower
    for turn in range(1, 10_000):
        double = 2 * turn
        even = turn * (second - turn) * point / ((first + double - 1) * (first + double))
        odd = -(first + turn) * (first + second + turn) * point / ((first + double) * (first + double + 1))
        for factor in (even, odd):
            lower = 1.0 / _away(1.0 + factor * lower)
            upper = _away(1.0 + factor / upper)
            value *= lower * upper
        if abs(lower * upper - 1.0) < _PRECISION:
            break
    return min(front * value / first, 1.0)


def _away(value: float) -> float:
    return value if abs(value) > _TINY else _TINY

"""The contract's verdict."""

import math

from ferryman.core.contract import Contract, broken, judge


def test_what_was_promised_is_set_beside_what_was_measured() -> None:
    clauses = judge(Contract(max_drop=0.01, p99_ms=60), {"max_drop": 0.02, "p99_ms": 41.0})
    assert [(clause.name, clause.holds) for clause in clauses] == [("max_drop", False), ("p99_ms", True)]
    assert [clause.name for clause in broken(clauses)] == ["max_drop"]


def test_what_was_not_measured_neither_holds_nor_breaks() -> None:
    (clause,) = judge(Contract(), {"max_drop": None})
    assert clause.holds is None
    assert broken([clause]) == []


def test_nan_never_holds() -> None:
    (clause,) = judge(Contract(), {"max_score_shift": math.nan})
    assert clause.holds is False


def test_what_was_not_promised_is_not_judged() -> None:
    assert judge(Contract(), {"p99_ms": 1e9, "max_rss_mb": 1e9}) == []

"""Tensor parity."""

import math

import numpy as np
import pytest

from ferryman.verify.parity import tensor_parity


def test_equal_tensors_are_at_no_distance() -> None:
    outputs = [{"scores": np.array([[0.1, 0.9]], np.float32), "label": np.array(["cat"], object)}]
    parity = tensor_parity(outputs, outputs)
    assert parity.max_abs == {"scores": 0.0, "label": 0.0}
    assert parity.samples == 1


def test_the_worst_sample_counts_relative_to_the_largest_value_of_its_tensor() -> None:
    wanted = [{"out": np.array([10.0, 0.0], np.float32)}, {"out": np.array([4.0, 0.0], np.float32)}]
    got = [{"out": np.array([10.0, 0.1], np.float32)}, {"out": np.array([4.0, 0.2], np.float32)}]
    parity = tensor_parity(wanted, got)
    assert math.isclose(parity.max_abs["out"], 0.2, rel_tol=1e-6)
    assert math.isclose(parity.max_rel["out"], 0.05, rel_tol=1e-6)


def test_a_missing_output_another_shape_or_nan_is_infinitely_far() -> None:
    wanted = [{"out": np.ones(3, np.float32)}]
    assert tensor_parity(wanted, [{}]).max_abs["out"] == math.inf
    assert tensor_parity(wanted, [{"out": np.ones(4, np.float32)}]).max_abs["out"] == math.inf
    assert tensor_parity(wanted, [{"out": np.array([1, np.nan, 1], np.float32)}]).max_abs["out"] == math.inf


def test_nan_in_both_at_the_same_place_is_the_same_answer() -> None:
    outputs = [{"out": np.array([1, np.nan], np.float32)}]
    assert tensor_parity(outputs, outputs).max_rel["out"] == 0.0


def test_other_text_is_at_distance_one() -> None:
    parity = tensor_parity([{"label": np.array(["cat"])}], [{"label": np.array(["dog"], object)}])
    assert parity.max_abs["label"] == 1.0


def test_the_same_infinity_is_no_distance_and_the_rest_is_measured() -> None:
    wanted = [{"out": np.array([-np.inf, np.inf, np.nan, 4.0], np.float32)}]
    got = [{"out": np.array([-np.inf, np.inf, np.nan, 4.5], np.float32)}]
    parity = tensor_parity(wanted, got)
    assert (parity.max_abs["out"], parity.max_rel["out"]) == (0.5, 0.125)


def test_an_infinity_of_the_other_sign_is_infinitely_far() -> None:
    wanted, got = np.array([np.inf, 1.0], np.float32), np.array([-np.inf, 1.0], np.float32)
    assert tensor_parity([{"out": wanted}], [{"out": got}]).max_rel["out"] == math.inf


def test_the_ends_of_float64_are_infinitely_far_without_a_warning() -> None:
    wanted, got = np.array([1.7e308]), np.array([-1.7e308])
    assert tensor_parity([{"out": wanted}], [{"out": got}]).max_abs["out"] == math.inf


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_another_whole_number_or_boolean_is_at_distance_one(dtype: type[np.generic]) -> None:
    wanted, got = np.array([200, 1, 0]).astype(dtype), np.array([200, 0, 0]).astype(dtype)
    assert tensor_parity([{"label": wanted}], [{"label": got}]).max_rel["label"] == 1.0
    assert tensor_parity([{"label": wanted}], [{"label": wanted}]).max_rel["label"] == 0.0

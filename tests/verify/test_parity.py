"""Tensor parity."""

import math

import numpy as np

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

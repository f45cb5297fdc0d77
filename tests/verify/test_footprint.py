"""What a fresh process needs: measured in one, whatever this one has grown to."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.bundle.making import describe, make_affine, make_zoo

from ferryman.core.errors import StepError
from ferryman.verify.footprint import measure_footprint


def test_memory_is_the_fresh_processs_own_and_not_its_parents(tmp_path: Path) -> None:
    ballast = np.ones(400_000_000 // 8)
    artifact = describe(make_affine(tmp_path))
    footprint = measure_footprint(artifact, {"values": np.ones((1, 3), np.float32)}, threads=1)
    assert footprint.rss_mb is not None
    assert footprint.cold_start_s is not None
    assert 20 < footprint.rss_mb < 300, f"beside {ballast.nbytes / 1e6:.0f} MB here"
    assert footprint.size_mb == artifact.size_bytes / 1e6
    assert 0.05 < footprint.cold_start_s < 60


def test_texts_and_every_other_datatype_reach_the_fresh_process(tmp_path: Path) -> None:
    inputs = {
        "in_BOOL": np.array([[True, False]]),
        "in_BYTES": np.array([["a", "ü"]], object),
        "in_UINT8": np.array([[1, 2]], np.uint8),
        "in_INT32": np.array([[1, 2]], np.int32),
        "in_INT64": np.array([[1, 2]], np.int64),
        "in_UINT64": np.array([[1, 2]], np.uint64),
        "in_FP16": np.array([[1, 2]], np.float16),
        "in_FP32": np.array([[1, 2]], np.float32),
        "in_FP64": np.array([[1, 2]], np.float64),
    }
    assert (measure_footprint(describe(make_zoo(tmp_path)), inputs, threads=1).rss_mb or 0) > 20


def test_a_model_that_can_not_be_loaded_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    artifact = describe(make_affine(tmp_path))
    artifact.path.write_bytes(b"garbage")
    with pytest.raises(StepError, match="onnx model failed in a fresh process: "):
        measure_footprint(artifact, {"values": np.ones((1, 3), np.float32)}, threads=1)


def test_inputs_that_do_not_fit_are_an_error_and_not_a_hang(tmp_path: Path) -> None:
    artifact = replace(describe(make_affine(tmp_path)), precision="fp32")
    with pytest.raises(StepError, match="failed in a fresh process"):
        measure_footprint(artifact, {"values": np.ones((1, 4), np.float32)}, threads=1)

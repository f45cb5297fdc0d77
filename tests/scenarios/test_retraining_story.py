from pathlib import Path

import numpy as np
import pytest
from benchmarks.cases.project import shared_folder
from benchmarks.drift.tables import read_elec
from benchmarks.retraining import follow


@pytest.mark.slow
def test_a_model_whose_world_changes_is_trained_built_and_rolled_out_by_itself(tmp_path: Path) -> None:
    shared = shared_folder()
    if shared is None:
        pytest.skip("Elec2 is missing; set FERRYMAN_SHARED")
    elec = read_elec(shared)
    begin, end = elec.fitted, elec.fitted + 3840
    truth = np.concatenate([elec.truth[:begin], 1 - elec.truth[begin:end]])  # what was up is down from now on
    told = follow(tmp_path, elec.rows[:end], truth, begin)
    assert told.began, told
    assert told.promoted, told
    assert not told.failed, told
    assert told.promoted[0] > told.began[0][0]

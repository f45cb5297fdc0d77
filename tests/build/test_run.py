"""Whole builds of a tiny detector: what wins, what is refused, what is said."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from ferryman import api
from ferryman.core.errors import ConfigError, DataError, FerrymanError
from ferryman.core.proof import CandidateProof, Proof
from tests.build.conftest import Build
from tests.build.making import DATA, write_toml

ONNX = 'candidates = ["onnx-fp32", "onnx-int8"]'
EVALUATION = 'evaluation = { items = "evaluation/*.png", labels = "evaluation/*.txt" }'


def line_of(proof: Proof, name: str) -> CandidateProof:
    return next(candidate for candidate in proof.candidates if candidate.name == name)


def test_the_smallest_that_holds_wins_where_size_is_preferred(build: Build) -> None:
    built = build(build=ONNX, contract='prefer = "size"')
    assert built.proof.winner == "onnx-int8"
    assert built.proof.verdict == "onnx-int8 keeps the contract and is the smallest of the 2 candidates that do"
    source, winner = (line_of(built.proof, name).footprint for name in ("onnx-fp32", "onnx-int8"))
    assert source is not None
    assert winner is not None
    assert winner.size_mb < 0.5 * source.size_mb


def test_the_fastest_that_holds_wins_where_latency_is_preferred(build: Build) -> None:
    built = build(build=ONNX, contract='prefer = "latency"')
    winner = line_of(built.proof, built.proof.winner).latency
    assert winner is not None
    ratios = [candidate.latency.ratio for candidate in built.proof.candidates if candidate.latency]
    assert winner.ratio <= min(ratios) * 1.03


def test_the_bundle_answers_as_the_source_does(build: Build, project: Path) -> None:
    built = build(build=ONNX, contract='prefer = "size"')
    (answer,) = api.infer(built.bundle.path, [project / "evaluation" / "000.png"])
    truth = [line.split() for line in (project / "evaluation" / "000.txt").read_text().splitlines()]
    found = [score for score in answer["scores"] if score > 0.6]
    assert len(found) == len(truth)
    assert api.verify(built.bundle.path).holds
    assert set(built.proof.data) == {"evaluation", "calibration"}
    assert all(len(digest.partition("-")[0]) == 64 for digest in built.proof.data.values())


def test_a_second_build_runs_nothing(build: Build) -> None:
    first = build(build=ONNX)
    again = build(build=ONNX)
    assert (again.ran, again.bundle.manifest.digest) == (0, first.bundle.manifest.digest)
    assert again.cached > 5
    assert again.seconds < 3


def test_the_same_inputs_give_the_same_digest_in_another_folder(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FERRYMAN_CACHE", raising=False)
    digests = []
    for name in ("here", "there"):
        folder = Path(shutil.copytree(original, tmp_path / name))
        write_toml(folder, build='candidates = ["onnx-int8"]')
        digests.append(api.build(folder, fresh=True).bundle.manifest.digest)
    assert digests[0] == digests[1]


def test_what_nothing_can_hold_leaves_the_source_as_it_is_and_says_so_loudly(build: Build, project: Path) -> None:
    built = build(build=ONNX, contract="max_size_mb = 0.001")
    assert not built.holds
    assert built.proof.verdict.startswith("NO candidate keeps the contract: the bundle holds the source model as it is")
    assert "size 0.0" in built.proof.verdict
    assert (built.bundle.path / "model" / "squares.onnx").is_file()
    assert not api.verify(built.bundle.path).holds


def test_a_refused_candidate_that_was_asked_for_alone_is_not_bundled(build: Build) -> None:
    built = build(build='candidates = ["onnx-int8"]\nrepair = false')
    assert not built.holds
    assert built.proof.winner == "onnx-fp32"
    assert [(line.name, line.status) for line in built.proof.candidates] == [
        ("onnx-int8", "refused"),
        ("onnx-fp32", "refused"),
    ]
    assert line_of(built.proof, "onnx-fp32").reason == "build.candidates leaves it out"
    assert not api.verify(built.bundle.path).clauses or built.bundle.manifest.precision == "fp32"


def test_without_labels_the_metric_is_not_measured_and_that_is_said(build: Build) -> None:
    built = build(build=ONNX, data='calibration = "calibration/*.png"')
    assert "NOT MEASURED: metric drop" in built.proof.verdict
    (clause,) = (one for one in line_of(built.proof, "onnx-fp32").clauses if one.name == "max_drop")
    assert (clause.measured, clause.holds) == (None, None)
    assert line_of(built.proof, "onnx-int8").status == "repaired", "the score shift still judges it"


def test_too_few_calibration_samples_refuse_int8_alone_and_say_how_many(build: Build) -> None:
    built = build(build=ONNX, data=f'calibration = "calibration/00*.png"\n{EVALUATION}')
    refused = line_of(built.proof, "onnx-int8")
    assert refused.status == "unavailable"
    assert "at least 32 calibration samples; there are 10" in refused.reason
    assert "[data] calibration" in refused.reason
    assert built.holds


def test_without_calibration_data_int8_is_not_available_and_says_what_it_needs(build: Build) -> None:
    built = build(build=ONNX, data=EVALUATION)
    assert line_of(built.proof, "onnx-int8").status == "unavailable"
    assert "data.calibration" in line_of(built.proof, "onnx-int8").reason


def test_no_data_at_all_is_a_refusal_that_says_what_to_set(build: Build) -> None:
    with pytest.raises(DataError, match="nothing to verify with") as caught:
        build(data="")
    assert "calibration = " in caught.value.hint


def test_an_unknown_candidate_names_the_nearest(build: Build) -> None:
    with pytest.raises(ConfigError, match="did you mean 'onnx-int8'") as caught:
        build(build='candidates = ["onnx-int9"]')
    assert "onnx-fp32" in caught.value.hint


def test_an_unknown_option_of_a_step_names_its_options(build: Build) -> None:
    with pytest.raises(ConfigError, match="step 'int8' has no option 'calibratr'") as caught:
        build(build=ONNX, options='[build.options.int8]\ncalibratr = "minmax"\n')
    assert "calibrator" in caught.value.hint


def test_a_wrong_value_of_an_option_is_refused(build: Build) -> None:
    with pytest.raises(ConfigError, match="did you mean 'entropy'"):
        build(build=ONNX, options='[build.options.int8]\ncalibrator = "entropi"\n')


def test_options_of_an_unknown_step_are_refused(build: Build) -> None:
    with pytest.raises(ConfigError, match=r"build\.options\.int9 is not a step"):
        build(build=ONNX, options="[build.options.int9]\n")


def test_an_unknown_metric_is_refused_before_anything_is_written(build: Build, project: Path) -> None:
    with pytest.raises(FerrymanError, match="f1") as caught:
        build(build=ONNX, contract='metric = "f1"')
    assert caught.value.exit_code == 2
    assert not (project / "dist").exists()


def test_the_notes_say_what_was_repaired_in_the_source(build: Build, project: Path) -> None:
    import onnx

    model = onnx.load(project / "squares.onnx")
    shape = [onnx.TensorProto.FLOAT, [2]]
    model.graph.input.append(onnx.helper.make_tensor_value_info("class_b", *shape))
    onnx.save(model, project / "squares.onnx")
    built = build(build='candidates = ["onnx-fp32"]')
    assert built.proof.notes[0] == "1 weights that were listed as inputs are weights only"


@pytest.mark.slow
def test_half_precision_and_openvino_candidates_are_made_and_judged(build: Build) -> None:
    names = ["onnx-fp32", "onnx-fp16", "openvino-fp32", "openvino-fp16", "openvino-int8"]
    built = build(build=f"candidates = {names}")
    assert [line.name for line in built.proof.candidates if line.status in ("accepted", "repaired")] == names
    assert all(line.latency and line.footprint for line in built.proof.candidates)
    half = line_of(built.proof, "onnx-fp16").footprint
    full = line_of(built.proof, "onnx-fp32").footprint
    assert half is not None
    assert full is not None
    assert half.size_mb < 0.7 * full.size_mb


@pytest.mark.slow
def test_an_openvino_bundle_is_served_by_openvino(build: Build, project: Path) -> None:
    built = build(build='candidates = ["openvino-fp32"]')
    assert built.bundle.manifest.format == "openvino"
    (answer,) = api.infer(built.bundle.path, [project / "evaluation" / "001.png"])
    (wanted,) = api.infer(build(build='candidates = ["onnx-fp32"]').bundle.path, [project / "evaluation" / "001.png"])
    assert answer["labels"] == wanted["labels"]
    assert np.abs(np.array(answer["scores"]) - np.array(wanted["scores"])).max() < 1e-3


@pytest.mark.slow
def test_what_the_contract_promises_at_a_rate_is_measured_at_that_rate(build: Build) -> None:
    built = build(build='candidates = ["onnx-fp32"]', contract="p99_ms = 2000\nat_rps = 20", data=DATA)
    latency = line_of(built.proof, "onnx-fp32").latency
    assert latency is not None
    assert (latency.poisson_rps, latency.poisson_requests > 50) == (20, True)
    (clause,) = (one for one in line_of(built.proof, "onnx-fp32").clauses if one.name == "p99_ms")
    assert (clause.measured, clause.holds) == (latency.poisson_p99_ms, True)


def test_a_source_that_measures_nothing_is_the_users_mistake(build: Build, project: Path) -> None:
    for labels in (project / "evaluation").glob("*.txt"):
        moved = [f"{line.split()[0]} 0.02 0.02 0.01 0.01" for line in labels.read_text().splitlines()]
        labels.write_text("\n".join(moved) + "\n")
    with pytest.raises(FerrymanError, match=r"itself measures map 0") as caught:
        build(build=ONNX)
    assert caught.value.exit_code == 2
    assert "[task]" in caught.value.hint

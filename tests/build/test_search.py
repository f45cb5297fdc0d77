"""The search: a budget of time, what earlier builds tell, early refusals, and a winner for each target."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman import api
from ferryman.build.cache import Cache
from ferryman.build.exports import Result, choose_targets
from ferryman.build.plan import Candidate, make_plan
from ferryman.build.run import open_workshop
from ferryman.build.search import Clock, _cheapest_first, _Trier
from ferryman.build.workshop import Workshop
from ferryman.core.deployment import load_project, parse_deployment
from ferryman.core.errors import ConfigError
from ferryman.core.progress import silent
from ferryman.core.proof import CandidateProof, Footprint, Latency, Proof
from ferryman.core.signature import Signature
from ferryman.core.task import Samples, bind_task
from tests.build.conftest import Build
from tests.build.making import DATA, write_pictures, write_toml
from tests.build.pruning import KEPT, pruning_installed
from tests.bundle.making import COLUMNS, make_table_model
from tests.optimize.making import artifact_of

ONNX = 'candidates = ["onnx-fp32", "onnx-int8"]'


@pytest.fixture
def no_toolchains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERRYMAN_TOOLCHAINS", str(tmp_path / "toolchains"))


def line_of(proof: Proof, name: str) -> CandidateProof:
    return next(candidate for candidate in proof.candidates if candidate.name == name)


def test_what_is_not_begun_in_time_is_told_and_what_holds_is_bundled(build: Build) -> None:
    built = build(build=f"{ONNX}\ntime_budget_s = 1e-6")
    assert (built.holds, built.proof.winner) == (True, "onnx-fp32")
    late = line_of(built.proof, "onnx-int8")
    assert late.status == "not tried"
    assert late.reason == "out of time (build.time_budget_s is 1e-06)"
    assert "NOT TRIED: onnx-int8: out of time (build.time_budget_s is 1e-06)" in built.proof.notes
    assert [line.name for line in built.proof.candidates] == ["onnx-fp32", "onnx-int8"], "in the plan's order"


def test_a_budget_of_the_command_line_goes_before_and_is_not_in_the_bundle(build: Build, project: Path) -> None:
    build(build=ONNX)
    built = api.build(project, time_budget_s=0.0)
    late = line_of(built.proof, "onnx-int8")
    assert (late.status, late.reason) == ("not tried", "out of time (--time-budget 0s)")
    assert built.bundle.deployment.build.time_budget_s is None


def test_a_format_that_was_asked_for_and_not_tried_is_no_success(build: Build) -> None:
    built = build(build=f'{ONNX}\nformats = ["torchscript"]\ntime_budget_s = 1e-6')
    assert not built.holds
    assert built.proof.warnings == ("asked for, and not exported: torchscript (out of time)",)


@pytest.mark.parametrize("set_by", ["", "--time-budget 60s"])
def test_what_was_begun_in_time_is_judged_and_what_takes_too_long_is_called_given_up(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_by: str
) -> None:
    write_toml(project, build=f"{ONNX}\nrepair = false")
    workshop = open_workshop(load_project(project), Cache(tmp_path / "cache"), silent)
    plan = make_plan("onnx", workshop.deployment.build, calibration=32)
    workshop.deadline = time.monotonic()
    trier = _Trier(workshop, plan, Clock(time.monotonic(), 60.0, set_by))
    judged = trier.run(plan.candidates[1]).proof
    assert (judged.name, judged.status) == ("onnx-int8", "refused"), judged.reason
    monkeypatch.setattr("ferryman.build.workshop._LEAST_JUDGED_S", -1.0)
    given_up = trier.run(plan.candidates[0]).proof
    assert (given_up.name, given_up.status) == ("onnx-fp32", "failed")
    words = set_by or "build.time_budget_s is 60"
    assert given_up.reason == f"given up, out of time ({words}): out of time after 0 of 16 calls"


def test_the_reference_of_another_batch_is_made_once(tmp_path: Path) -> None:
    spec = {"model": {"name": "m", "source": "m.onnx"}, "task": {"kind": "tabular", "columns": COLUMNS}}
    deployment, source = parse_deployment(spec, origin="test"), artifact_of(make_table_model(tmp_path))
    samples = Samples([dict.fromkeys(COLUMNS, n) for n in range(5)], [f"row {n}" for n in range(5)], ["0"] * 5)
    task = bind_task(deployment.task, source.signature)
    workshop = Workshop(deployment, source, task, samples, None, Cache(tmp_path / "cache"), silent)
    ports = source.signature.inputs
    by_two = tuple(port.model_copy(update={"shape": (2, *port.shape[1:])}) for port in ports)
    two = replace(source, signature=Signature(inputs=by_two, outputs=source.signature.outputs))
    assert workshop.reference_for(two) is workshop.reference_for(two)
    assert [len(workshop.reference_for(one).given.outputs) for one in (source, two)] == [1, 3], "calls of two"


def test_what_is_cached_comes_first_then_what_is_cheap_then_what_gains_most() -> None:
    def one(name: str, cost_s: float, *, is_made: bool = False) -> Candidate:
        format_name, _, precision = name.partition("-")
        return Candidate(name, format_name, precision, ("step",), cost_s=cost_s, is_made=is_made)

    given = (one("a-fp32", 5), one("b-fp16", 2), one("c-pruned-int8", 2), one("d-fp32", 99, is_made=True))
    assert [one.name for one in _cheapest_first(given)] == ["d-fp32", "c-pruned-int8", "b-fp16", "a-fp32"]


def test_each_target_gets_its_cheapest_before_any_gets_its_second() -> None:
    def one(name: str, cost_s: float, *targets: str) -> Candidate:
        return Candidate(name, name.partition("-")[0], "fp32", ("step",), targets=targets, cost_s=cost_s)

    given = (one("a", 1, "server", "edge"), one("b", 2, "server"), one("c", 9, "edge"), one("web", 50, "browser"))
    assert [one.name for one in _cheapest_first(given)] == ["a", "web", "b", "c"]


def test_one_candidate_gets_half_of_the_time_that_is_left() -> None:
    clock = Clock(time.monotonic(), 1000.0)
    assert clock.deadline() - time.monotonic() == pytest.approx(800, abs=5)
    assert clock.share() - time.monotonic() == pytest.approx(400, abs=5)
    assert Clock(time.monotonic()).share() == float("inf")


def test_the_plan_tells_what_an_earlier_build_made_and_how_long_it_took(project: Path, tmp_path: Path) -> None:
    write_toml(project, build='candidates = ["onnx-fp32", "onnx-fp16", "onnx-int8"]')
    before = {one.name: one for one in api.plan(project).candidates}
    write_toml(project, build='candidates = ["onnx-fp32", "onnx-int8"]\nrepair = false')
    api.build(project)
    write_toml(project, build='candidates = ["onnx-fp32", "onnx-fp16", "onnx-int8"]')
    after = {one.name: one for one in api.plan(project).candidates}
    assert [one.is_made for one in before.values()] == [False, False, False]
    assert [one.is_made for one in after.values()] == [True, False, True]
    assert after["onnx-fp16"].cost_s >= before["onnx-fp16"].cost_s, "a guess, more on a machine that is slower"
    assert after["onnx-int8"].cost_s != before["onnx-int8"].cost_s


def test_what_is_lost_beyond_doubt_is_given_up_after_a_part_of_the_samples(build: Build, project: Path) -> None:
    write_pictures(project / "evaluation", count=64, seed=2)
    lost = line_of(build(build=f"{ONNX}\nrepair = false").proof, "onnx-int8")
    assert lost.accuracy is not None
    assert (lost.status, lost.accuracy.samples) == ("refused", 24)
    assert lost.reason.endswith("(seen on 24 of 64 samples, beyond doubt)")
    kept = line_of(
        build(build=f"{ONNX}\nrepair = false", contract="max_drop = 1\nmax_score_shift = 0.2").proof, "onnx-int8"
    )
    assert kept.accuracy is not None
    assert kept.accuracy.samples == 64, "what is near the promise is measured on all of them"


def test_each_target_has_its_own_winner_and_the_reason(build: Build, no_toolchains: None) -> None:
    contract = 'max_drop = 0.05\nmax_score_shift = 0.5\nprefer = "accuracy"\n[contract.targets.edge]\nprefer = "size"'
    built = build(build=f'{ONNX}\nrepair = false\ntargets = ["server", "edge"]', contract=contract)
    server, edge = (built.proof.targets[name] for name in ("server", "edge"))
    assert (server.winner, edge.winner) == (built.proof.winner, "onnx-int8")
    assert edge.why.startswith("the smallest of the 2 that keep the contract (0.03 MB; next: onnx-fp32, 0.09 MB)")
    assert "ferryman toolchain add executorch litert mnn ncnn" in edge.why, "what can't be tried without is told"
    assert built.holds
    assert built.proof.winner == "onnx-fp32"
    assert set(built.bundle.exports) == {"onnx-int8"}


def test_a_target_of_which_nothing_can_be_made_is_no_success_and_names_the_command(
    build: Build, no_toolchains: None
) -> None:
    built = build(build=f'{ONNX}\ntargets = ["browser"]')
    assert not built.holds
    assert built.proof.holds, "what is served holds all the same"
    choice = built.proof.targets["browser"]
    assert (choice.winner, choice.why.startswith("NOTHING that runs there keeps the contract")) == ("", True)
    assert "ferryman toolchain add tfjs web" in choice.why


TARGETED = {
    "model": {"name": "m", "source": "m.onnx"},
    "task": {"kind": "tensor"},
    "build": {"targets": ["server", "phone"]},
}


def test_a_converters_chatter_is_no_part_of_why_another_won() -> None:
    words = "coreml failed: it can't; " + "and so on " * 20 + "\nFailed to load this\nFailed to load that"
    failed = CandidateProof(name="y-fp32", format="y", precision="fp32", status="failed", reason=words)
    only = Result(Candidate("y-fp32", "y", "fp32", (), targets=("server", "phone")), failed)
    why = choose_targets(parse_deployment(TARGETED, origin="test"), [only], None)["phone"].why
    assert "y-fp32: coreml failed: it can't; and so on" in why
    assert "Failed to load" not in why
    assert why.endswith(" …")


def test_the_time_of_another_place_is_told_to_be_that_of_this_machine() -> None:
    latency = Latency(min_ms=1, p50_ms=1, p95_ms=1, p99_ms=1, ratio=0.5, noise=0.01, rounds=10)
    proof = CandidateProof(
        name="x-fp32", format="x", precision="fp32", status="accepted", latency=latency,
        footprint=Footprint(rss_mb=1, cold_start_s=1, size_mb=1),
    )  # fmt: skip
    only = Result(Candidate("x-fp32", "x", "fp32", (), targets=("server", "phone")), proof)
    chosen = choose_targets(parse_deployment(TARGETED, origin="test"), [only], proof)
    assert chosen["phone"].why == "the only one that keeps the contract (0.50 of the source's time, measured here)"
    assert chosen["server"].why == "the only one that keeps the contract (0.50 of the source's time)"


def test_a_targets_own_size_is_kept(build: Build, no_toolchains: None) -> None:
    contract = "[contract.targets.edge]\nmax_size_mb = 0.05"
    choice = build(build=f'{ONNX}\ntargets = ["edge"]', contract=contract).proof.targets["edge"]
    assert choice.winner == "onnx-int8"
    assert "onnx-fp32: size 0.0" in choice.why


def test_a_promise_to_a_target_that_is_not_looked_for_is_refused(build: Build) -> None:
    with pytest.raises(ConfigError, match=r"contract\.targets\.browser asks something") as caught:
        build(build=ONNX, contract="[contract.targets.browser]\nmax_size_mb = 1")
    assert 'add "browser" to build.targets' in caught.value.hint


@pytest.mark.slow
@pytest.mark.toolchain("web")
def test_the_browsers_winner_lies_in_the_bundle_beside_what_is_served(build: Build) -> None:
    built = build(build=f'{ONNX}\nformats = []\ntargets = ["server", "browser"]\ntime_budget_s = 120', data=DATA)
    choice = built.proof.targets["browser"]
    assert line_of(built.proof, choice.winner).targets == ("browser",)
    assert built.bundle.exports[choice.winner].format == line_of(built.proof, choice.winner).format
    assert built.proof.winner.startswith("onnx-")


def test_a_pruned_model_is_quantized_and_judged_by_its_own_graph(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    with pruning_installed(monkeypatch):
        built = build(build='candidates = ["onnx-fp32", "onnx-int8", "onnx-pruned", "onnx-pruned-int8"]')
        lines = {line.name: line for line in built.proof.candidates}
    pruned, both = lines["onnx-pruned"], lines["onnx-pruned-int8"]
    assert (pruned.status, both.status) == ("accepted", "repaired"), (pruned.reason, both.reason)
    assert both.steps == ("keep-first", "int8")
    (tail,) = both.kept_in_float
    assert tail.nodes[0] == "pruned/decode"
    sizes = [line.footprint.size_mb for line in (lines["onnx-fp32"], pruned) if line.footprint]
    assert sizes[1] < sizes[0] * KEPT / 32

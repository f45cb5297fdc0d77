"""The Pareto front: who is beaten by whom, and what noise keeps from being told."""

from ferryman.build.front import mark_front
from ferryman.core.contract import Contract
from ferryman.core.proof import Accuracy, CandidateProof, Footprint, Latency, Parity


def measured(
    name: str,
    *,
    ratio: float = 1.0,
    noise: float = 0.02,
    size_mb: float = 4.0,
    rss_mb: float | None = 100.0,
    drop: float = 0.0,
    spread: float = 0.002,
    status: str = "accepted",
    targets: tuple[str, ...] = ("server",),
) -> CandidateProof:
    return CandidateProof(
        name=name,
        format=name.partition("-")[0],
        precision="fp32",
        status=status,
        targets=targets,
        accuracy=Accuracy(
            metric="map", value=0.4 - drop, source_value=0.4, drop=drop, drop_low=drop - spread,
            drop_high=drop + spread, samples=100,
        ),
        latency=Latency(min_ms=1, p50_ms=1, p95_ms=1, p99_ms=1, ratio=ratio, noise=noise, rounds=10),
        footprint=Footprint(rss_mb=rss_mb, cold_start_s=1, size_mb=size_mb),
    )  # fmt: skip


def beaten(*proofs: CandidateProof) -> dict[str, tuple[str, ...] | None]:
    return {proof.name: proof.dominated_by for proof in mark_front(proofs, Contract())}


def test_what_is_worse_in_something_and_better_in_nothing_is_dominated_by_name() -> None:
    found = beaten(measured("int8", ratio=0.5, size_mb=1), measured("fp32"), measured("fp16", ratio=1.1, size_mb=2))
    assert found == {"int8": (), "fp32": ("int8",), "fp16": ("int8",)}


def test_each_of_two_that_is_better_in_something_is_on_the_front() -> None:
    assert beaten(measured("fast", ratio=0.5), measured("small", size_mb=1)) == {"fast": (), "small": ()}


def test_a_difference_within_the_noise_of_timing_dominates_nothing() -> None:
    assert beaten(measured("a", ratio=0.9, noise=0.2), measured("b", ratio=1.0, noise=0.2))["b"] == ()
    assert beaten(measured("a", ratio=0.9, noise=0.02), measured("b", ratio=1.0, noise=0.02))["b"] == ("a",)


def test_what_only_dominated_ones_dominate_names_them() -> None:
    fast, exact = measured("fast", ratio=0.9, spread=0.01), measured("exact")
    rough = measured("rough", drop=0.005, noise=0.5)  # its noise and fast's leave nothing to tell between these two
    assert beaten(fast, rough) == {"fast": (), "rough": ()}
    assert beaten(fast, exact, rough) == {"fast": (), "exact": ("fast",), "rough": ("exact",)}


def test_a_drop_whose_interval_overlaps_dominates_nothing() -> None:
    assert beaten(measured("a"), measured("b", drop=0.003, spread=0.002))["b"] == ()
    assert beaten(measured("a"), measured("b", drop=0.005, spread=0.002))["b"] == ("a",)


def test_memory_that_differs_as_two_starts_of_one_model_do_dominates_nothing() -> None:
    assert beaten(measured("a", rss_mb=101), measured("b", rss_mb=104))["b"] == ()
    assert beaten(measured("a", rss_mb=101), measured("b", rss_mb=140))["b"] == ("a",)


def test_a_refused_candidate_is_placed_but_dominates_none_that_holds() -> None:
    found = beaten(measured("lost", ratio=0.1, size_mb=0.1, status="refused"), measured("fp32"))
    assert found == {"lost": (), "fp32": ()}
    assert beaten(measured("lost", ratio=2, status="refused"), measured("fp32"))["lost"] == ("fp32",)


def test_what_does_not_run_in_the_browser_dominates_nothing_that_does() -> None:
    found = beaten(measured("onnx", ratio=0.5, size_mb=1), measured("web", ratio=3, rss_mb=None, targets=("browser",)))
    assert found["web"] == ()


def test_what_was_not_measured_has_no_place() -> None:
    bare = CandidateProof(name="tfjs-fp32", format="tfjs", precision="fp32", status="not tried")
    assert beaten(bare, measured("fp32"))["tfjs-fp32"] is None


def test_without_labels_only_tensor_errors_over_the_promise_count() -> None:
    def unlabelled(name: str, error: float, ratio: float) -> CandidateProof:
        parity = Parity(max_abs={"y": error}, max_rel={"y": error}, samples=8)
        return measured(name, ratio=ratio).model_copy(update={"accuracy": None, "parity": parity})

    found = beaten(unlabelled("fast", 1e-4, 0.5), unlabelled("exact", 0.0, 1.0), unlabelled("rough", 0.1, 0.2))
    assert found == {"fast": (), "exact": ("fast",), "rough": ()}

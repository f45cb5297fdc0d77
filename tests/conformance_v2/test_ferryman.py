"""This server keeps the protocol: every check of the suite, over HTTP and gRPC, for callers and for operators."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
from benchmarks.serving._venvs import default_folder, python_of
from onnx import TensorProto, helper

from ferryman.conformance.check import Result
from ferryman.conformance.suite import CHECKS, run_suite
from ferryman.conformance.target import Target
from tests.bundle.making import bundle_affine, bundle_colour, bundle_model, bundle_table, make_zoo, save
from tests.server.running import Running, running

NOT_SUCH_A_MODEL = (
    "the model has one input", "the model takes no BYTES", "the model's only input is not BYTES",
    "the model takes neither FP16", "the model takes FP16", "FP16 has no typed contents",
    "inputs in FP16 or BF16 are not handed over to the SDK",
)  # fmt: skip
NOT_OFFERED = {"triton-grpc.deflate": "encoding 'deflate' can't be read"}  # gRPC itself asks for gzip only
NOT_STEERED_HERE = {"repository.reload": "ask at the admin's port", "repository.unknown": "403"}
NO_SDK = "no environment with the kserve SDK"
SDK = {check.id for check in CHECKS if check.id.startswith("kserve.")}


def make_pair(folder: Path) -> Path:
    """Write a model of two inputs, one of them text, that gives both back."""
    kinds = {"words": TensorProto.STRING, "numbers": TensorProto.FLOAT}
    return save(
        folder / "pair.onnx",
        [helper.make_node("Identity", [name], [f"same_{name}"]) for name in kinds],
        [helper.make_tensor_value_info(name, kind, ["n", 2]) for name, kind in kinds.items()],
        [helper.make_tensor_value_info(f"same_{name}", kind, ["n", 2]) for name, kind in kinds.items()],
    )


def make_words(folder: Path) -> Path:
    """Write a model that gives its only input, text, back."""
    return save(
        folder / "words.onnx",
        [helper.make_node("Identity", ["words"], ["same"])],
        [helper.make_tensor_value_info("words", TensorProto.STRING, ["n", 2])],
        [helper.make_tensor_value_info("same", TensorProto.STRING, ["n", 2])],
    )


def kserve_python() -> Path | None:
    """Give the Python that has the kserve SDK: the one that is named, or the one that the benchmarks have made."""
    named = Path(os.environ.get("FERRYMAN_KSERVE_PYTHON") or python_of("kserve", default_folder()))
    return named if named.exists() else None


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("conformance")
    words = np.array([["a", "ü"]], object)
    numbers = np.array([[1, 2]], np.float32)
    zoo = {
        f"in_{name}": np.array([[1, 0]]).astype(dtype)
        for name, dtype in {
            "BOOL": np.bool_, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64, "UINT64": np.uint64,
            "FP16": np.float16, "FP32": np.float32, "FP64": np.float64,
        }.items()
    } | {"in_BYTES": words}  # fmt: skip
    tensors = {"kind": "tensor"}
    made = [
        bundle_affine(folder / "affine"),
        bundle_table(folder / "table"),
        bundle_colour(folder / "colour"),
        bundle_model(folder / "zoo", make_zoo(folder / "models"), tensors, [zoo], name="zoo"),
        bundle_model(
            folder / "pair", make_pair(folder / "models"), tensors, [{"words": words, "numbers": numbers}], name="pair"
        ),
        bundle_model(folder / "words", make_words(folder / "models"), tensors, [{"words": words}], name="words"),
    ]
    with running([bundle.path for bundle in made], admin_port=0) as server:
        yield server


def examined(url: str, sdk: Path | None = None) -> list[Result]:
    return list(run_suite(Target(url, grpc=urlsplit(url).netloc, kserve_python=sdk, may_unload=True)))


def workers(server: Running) -> set[int]:
    """Give the process ids of all workers: a model that was loaded anew has others."""
    with urlopen(f"{server.admin_url}/admin/status", timeout=10) as answer:
        models = json.load(answer)["models"].values()
    versions = [version for model in models for version in model["versions"].values()]
    return {worker["pid"] for version in versions for worker in version["workers"]}


def failures(results: Sequence[Result]) -> dict[str, str]:
    return {f"{one.check.id}[{one.model}]": one.message for one in results if one.verdict == "failed"}


def unexplained(results: Sequence[Result], refusals: Mapping[str, str]) -> dict[str, str]:
    """Give what was not run for another reason than that it can't be run on this model, or here."""
    return {
        f"{one.check.id}[{one.model}]": one.message
        for one in results
        if one.verdict == "not run"
        and not one.message.startswith((*NOT_SUCH_A_MODEL, NO_SDK))
        and not (one.check.id in refusals and refusals[one.check.id] in one.message)
    }


def never_passed(results: Sequence[Result]) -> set[str]:
    return {check.id for check in CHECKS} - {one.check.id for one in results if one.verdict == "passed"}


def test_callers_find_the_whole_protocol_on_one_port(steered: Running) -> None:
    results = examined(steered.url, kserve_python())
    assert failures(results) == {}
    assert unexplained(results, NOT_OFFERED | NOT_STEERED_HERE) == {}
    without_sdk = SDK if kserve_python() is None else set()
    assert never_passed(results) == NOT_STEERED_HERE.keys() | without_sdk, "the others passed on one model at least"


def test_no_model_is_loaded_or_unloaded_unasked(steered: Running) -> None:
    before = workers(steered)
    checks = [check for check in CHECKS if check.id.startswith("repository.")]
    results = list(run_suite(Target(steered.admin_url), checks=checks))
    assert workers(steered) == before
    left_out = {one.check.id for one in results if one.verdict == "not run" and "--may-unload" in one.message}
    assert left_out == NOT_STEERED_HERE.keys()
    assert {one.check.id for one in results if one.verdict == "passed"} >= {
        "repository.index",
        "repository.triton-http",
    }


def test_operators_load_and_unload_at_the_admins_port_and_find_the_rest_there_too(steered: Running) -> None:
    results = examined(steered.admin_url)
    assert failures(results) == {}
    assert unexplained(results, NOT_OFFERED) == {}
    assert never_passed(results) == SDK
    assert sum(one.check.id == "repository.reload" and one.verdict == "passed" for one in results) == 6

"""An image holds what serving its bundle imports, and no build tool."""

from dataclasses import replace
from pathlib import Path

import pytest

from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, ImageError, MissingExtra, PlanError
from ferryman.oci.descriptor import Platform
from ferryman.package.needs import closure, roots_of
from ferryman.package.slim import NOT_COMPILED, OWN, STANDARD_LIBRARY, WHEELS, is_left_out
from ferryman.package.target import Target, check_machine
from tests.bundle.making import bundle_affine

TARGET = Target("3.11", "glibc", (2, 36), "amd64")


def test_a_picture_model_takes_pillow_and_neither_opencv_nor_a_build_tool(bundle: Bundle) -> None:
    found = closure(roots_of(bundle), {}, TARGET)
    assert {"numpy", "onnxruntime", "pydantic", "uvloop", "pillow", "pydantic-core"} <= found.keys()
    assert not found.keys() & {"opencv-python-headless", "onnx", "pycocotools", "torch", "nncf", "ferryman"}


def test_a_model_without_pictures_takes_no_picture_library(tmp_path: Path) -> None:
    roots = roots_of(bundle_affine(tmp_path / "affine"))
    assert not {"pillow", "opencv-python-headless"} & set(roots)


def test_opencv_comes_where_it_is_asked_for_or_where_the_task_needs_its_interpolation(bundle: Bundle) -> None:
    assert "opencv-python-headless" in roots_of(bundle, opencv=True)
    task = bundle.deployment.task
    image = task.input.model_copy(update={"resize": "area"})  # type: ignore[attr-defined]  # of ClassifySection
    deployment = bundle.deployment.model_copy(update={"task": task.model_copy(update={"input": image})})
    assert "opencv-python-headless" in roots_of(replace(bundle, deployment=deployment))


def test_an_extra_of_ours_brings_its_packages_and_an_unknown_one_is_refused(bundle: Bundle) -> None:
    found = closure(roots_of(bundle, extras=["auth"]), {}, TARGET)
    assert {"pyjwt", "cryptography", "cffi"} <= found.keys(), "tokens are signed with RSA and curves: pyjwt[crypto]"
    with pytest.raises(ConfigError, match="no extra 'auht'"):
        roots_of(bundle, extras=["auht"])


def test_a_format_that_no_server_loads_is_refused(bundle: Bundle) -> None:
    with pytest.raises(PlanError, match="coreml"):
        roots_of(replace(bundle, artifact=replace(bundle.artifact, format="coreml")))


def test_versions_are_those_that_verified_the_bundle() -> None:
    found = closure(["numpy", "wsproto"], {"NumPy": "2.0.0"}, TARGET)
    assert found["numpy"] == "2.0.0"
    assert "h11" in found


def test_a_package_of_which_no_version_is_known_is_refused() -> None:
    with pytest.raises(MissingExtra, match="no-such-package"):
        closure(["no-such-package"], {}, TARGET)


def test_wheels_for_an_older_c_library_fit_a_newer_one_and_not_the_reverse() -> None:
    names = {str(tag) for tag in TARGET.tags()}
    assert "cp311-cp311-manylinux_2_28_x86_64" in names
    assert "cp311-cp311-manylinux2014_x86_64" in names
    assert "cp39-abi3-manylinux_2_17_x86_64" in names
    assert "py3-none-any" in names
    assert "cp311-cp311-manylinux_2_39_x86_64" not in names
    musl = {str(tag) for tag in Target("3.12", "musl", (1, 2), "arm64").tags()}
    assert "cp312-cp312-musllinux_1_1_aarch64" in musl
    assert not any("manylinux" in name for name in musl)


def test_a_machine_that_no_packages_are_made_for_is_refused() -> None:
    with pytest.raises(ImageError, match="linux/riscv64"):
        check_machine(Platform.parse("linux/riscv64"))


def test_every_rule_of_what_is_left_out_has_its_reason() -> None:
    assert all(rule.reason and rule.patterns for rule in (*STANDARD_LIBRARY, *WHEELS, *OWN, *NOT_COMPILED))
    assert is_left_out("numpy/_core/tests/test_x.py", WHEELS)
    assert is_left_out("onnxruntime/capi/libonnxruntime.so.1.31.1", WHEELS)
    assert not is_left_out("onnxruntime/capi/onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so", WHEELS)
    assert not is_left_out("onnxruntime/__init__.py", WHEELS)

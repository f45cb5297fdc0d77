"""What is written is what is read, always in the same bytes, in one step."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferryman.bundle import swap
from ferryman.bundle.golden import check_golden
from ferryman.bundle.pack import pack
from ferryman.bundle.read import load_bundle
from ferryman.bundle.write import write_bundle
from ferryman.core.artifact import digest_path, files_of
from ferryman.core.bundle import Bundle, Golden
from ferryman.core.errors import BundleError
from ferryman.core.plugins import find, runtime_for
from ferryman.core.runtime import available_cores
from tests.bundle.making import bundle_affine, bundle_colour, bundle_table, plain_picture


def parts_of(bundle: Bundle) -> dict[str, Any]:  # keywords of write_bundle
    return {
        "deployment": bundle.deployment,
        "artifact": bundle.artifact,
        "proof": bundle.proof,
        "golden": bundle.golden,
        "tolerance": bundle.tolerance,
        "baseline": bundle.baseline,
        "versions": bundle.versions,
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../outside.json", "outside of the bundle"), ("/tmp/outside", "outside of the bundle"),
        ("golden/samples.json", "named 'golden/samples.json', where the bundle's own lie"),
        ("proof.json", "named 'proof.json'"), ("model/affine.onnx", "named 'model/affine.onnx'"),
    ],
)  # fmt: skip
def test_a_task_s_file_lies_in_a_place_of_its_own(tmp_path: Path, name: str, said: str) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    file = tmp_path / "carried"
    file.write_text("carried")

    class Carrying(type(bundle.deployment.task)):  # type: ignore[misc]  # the spec's class is found by its kind
        def packed(self) -> Any:
            return self, {name: file}

    spec = Carrying.model_validate(bundle.deployment.task.model_dump())
    deployment = bundle.deployment.model_copy(update={"task": spec})
    with pytest.raises(BundleError, match=said):
        write_bundle(tmp_path / "new", **{**parts_of(bundle), "deployment": deployment})
    assert sorted(os.listdir(tmp_path)) == ["bundle", "carried", "model-of-bundle"]


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files_of(folder)}


@pytest.mark.parametrize("make", [bundle_affine, bundle_table, bundle_colour])
def test_what_is_read_is_what_was_written(tmp_path: Path, make: Any) -> None:
    written = make(tmp_path / "bundle")
    read = load_bundle(tmp_path / "bundle")
    assert (read.manifest, read.deployment, read.artifact) == (written.manifest, written.deployment, written.artifact)
    assert read.baseline == {"scores": [0.5, float("inf")]}
    assert np.isnan(read.proof.candidates[0].agreement["score_shift"])
    assert [sample.answer for sample in read.golden] == [sample.answer for sample in written.golden]
    assert sorted(os.listdir(tmp_path / "bundle")) == [
        "artifact.json", "baseline.json", "bundle.json", "deployment.json", "golden", "model", "proof.json",
        "versions.json",
    ]  # fmt: skip


def test_a_loaded_bundle_answers_its_golden_samples(tmp_path: Path) -> None:
    bundle = bundle_colour(tmp_path / "bundle")
    session = runtime_for("onnx").require()().load(bundle.artifact, threads=1)
    task = find("tasks", "classify").require()(bundle.deployment.task, session.signature)
    checks = check_golden(bundle, task, session)
    assert [(check.name, check.beyond) for check in checks] == [("item-0", {}), ("item-1", {})]


@pytest.mark.parametrize("make", [bundle_affine, bundle_table, bundle_colour])
def test_the_same_inputs_give_the_same_bytes(tmp_path: Path, make: Any) -> None:
    first, second = make(tmp_path / "first"), make(tmp_path / "second")
    assert contents(first.path) == contents(second.path)
    pack(first.path, tmp_path / "first.ferry")
    pack(second.path, tmp_path / "second.ferry")
    assert (tmp_path / "first.ferry").read_bytes() == (tmp_path / "second.ferry").read_bytes()


def test_timings_do_not_change_the_digest_but_the_model_does(tmp_path: Path) -> None:
    plain = bundle_affine(tmp_path / "plain")
    slower = bundle_affine(tmp_path / "slower", seconds=9.5)
    other = bundle_affine(tmp_path / "other", factor=3)
    assert contents(plain.path)["proof.json"] != contents(slower.path)["proof.json"]
    assert plain.manifest.digest == slower.manifest.digest != other.manifest.digest


def test_every_kind_of_golden_item_comes_back(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(plain_picture(1, 2, 3, suffix=".jpg"))
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    arrays = {"b": np.array([["ü", ""]], object), "a": np.array(np.nan), "é/ü": np.zeros((0, 3), np.int64)}
    row = {"z": 1, "a": 2.5, "text": "ü", "none": None, "yes": True, "unknown": float("nan"), "n": np.int64(7)}
    items: list[Any] = [picture, picture.read_bytes(), pixels, arrays, row]
    golden = [Golden(str(place), item, {"value": float("-inf")}) for place, item in enumerate(items)]
    read = write_bundle(tmp_path / "all", **{**parts_of(bundle), "golden": golden}).golden
    assert read[0].item == read[1].item == picture.read_bytes()
    assert isinstance(read[2].item, np.ndarray)
    np.testing.assert_array_equal(read[2].item, pixels)
    assert isinstance(read[3].item, dict)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[3].item[name], array)
    assert isinstance(read[4].item, dict)
    assert list(read[4].item) == list(row), "a row without named columns is read in its own order"
    assert str(read[4].item) == str({**row, "n": 7})
    assert read[4].answer == {"value": float("-inf")}


def test_an_item_that_cannot_be_kept_is_named(tmp_path: Path) -> None:
    bundle = bundle_table(tmp_path / "bundle")
    golden = [Golden("row 7", {"day": Path("monday")}, {})]
    with pytest.raises(BundleError, match=r"'row 7': column 'day' holds a PosixPath"):
        write_bundle(tmp_path / "other", **{**parts_of(bundle), "golden": golden})
    assert not (tmp_path / "other").exists()


def test_a_model_of_several_files_is_kept_as_a_folder(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    folder = tmp_path / "several"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.xml").write_bytes(b"<xml/>")
    (folder / "deep" / "model.bin").write_bytes(bytes(100))
    artifact = replace(bundle.artifact, path=folder, digest=digest_path(folder), format="openvino")
    written = write_bundle(tmp_path / "other", **{**parts_of(bundle), "artifact": artifact})
    assert contents(written.artifact.path) == contents(folder)
    assert load_bundle(tmp_path / "other").artifact.digest == digest_path(written.artifact.path)


def test_a_model_that_changed_since_it_was_verified_is_not_bundled(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    artifact = replace(bundle.artifact, digest="0" * 64)
    with pytest.raises(BundleError, match="changed since it was verified"):
        write_bundle(tmp_path / "other", **{**parts_of(bundle), "artifact": artifact})


def test_a_new_bundle_takes_the_old_ones_place(tmp_path: Path) -> None:
    old = bundle_affine(tmp_path / "bundle", factor=2)
    new = bundle_affine(tmp_path / "bundle", factor=3)
    assert load_bundle(tmp_path / "bundle").manifest == new.manifest != old.manifest
    assert new.artifact.path.is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("kind", ["folder", "file", "bundle with a stranger's file"])
def test_what_is_not_a_bundle_is_never_replaced(tmp_path: Path, kind: str) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("precious")
    else:
        if kind != "folder":
            bundle_affine(target)
        target.mkdir(exist_ok=True)
        (target / "thesis.txt").write_text("precious")
    with pytest.raises(BundleError, match=r"is not a bundle|not the bundle's"):
        write_bundle(target, **parts_of(bundle))
    assert (target if kind == "file" else target / "thesis.txt").read_text() == "precious"


def test_without_exchange_a_folder_moved_aside_is_brought_back(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    (tmp_path / "bundle").rename(tmp_path / ".bundle.abc.aside")  # what a process leaves that dies between two renames
    assert load_bundle(tmp_path / "bundle").manifest == bundle.manifest


def test_swapping_in_two_steps_leaves_the_new_bundle_and_nothing_else(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "bundle")
    new = bundle_affine(tmp_path / "new", factor=3)
    staged = tmp_path / ".bundle.abc.partial"
    shutil.copytree(new.path, staged)
    swap._swap_in_two_steps(staged, tmp_path / "bundle")
    assert load_bundle(tmp_path / "bundle").manifest == new.manifest
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


_WRITE = """
import sys, resource, signal
from dataclasses import replace
from pathlib import Path
from ferryman.bundle.read import load_bundle
from ferryman.bundle.write import write_bundle
from ferryman.core.errors import BundleError
source, destination, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
b = load_bundle(source)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
print("ready", flush=True)
try:
    while True:
        write_bundle(destination, deployment=b.deployment, artifact=b.artifact, proof=b.proof, golden=b.golden,
                     tolerance=b.tolerance, baseline=b.baseline, versions=b.versions)
except BundleError as error:
    print(error)
"""


def grown(folder: Path) -> Bundle:
    """Give a bundle that takes some time to write: with 40 pictures of noise."""
    bundle = bundle_affine(folder / "source")
    noise = np.random.default_rng(0)
    golden = [Golden(str(place), noise.bytes(100_000), {}) for place in range(40)]
    return write_bundle(folder / "grown", **{**parts_of(bundle), "golden": golden})


@pytest.mark.slow
@pytest.mark.parametrize("has_old", [True, False], ids=["over an old one", "at a new place"])
def test_a_writer_killed_at_any_moment_leaves_the_old_bundle_or_the_new_one(tmp_path: Path, has_old: bool) -> None:
    new = grown(tmp_path)
    destination = tmp_path / "places" / "bundle"
    moments = random.Random(7)
    for _ in range(12):
        shutil.rmtree(tmp_path / "places", ignore_errors=True)
        old = bundle_affine(destination) if has_old else None
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITE, str(new.path), str(destination), "0"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0, 0.25))  # not a wait for something: the moment of death
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if destination.exists():
            digest = load_bundle(destination).manifest.digest
            assert digest in {new.manifest.digest, old.manifest.digest if old else ""}
        else:
            assert old is None
        bundle_affine(destination)
        left = [path.name for path in destination.parent.iterdir()]
        assert sorted(left) == ["bundle", "model-of-bundle"], "the next write clears what the dead one left"


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    new = grown(tmp_path)
    old = bundle_affine(tmp_path / "place" / "bundle")
    arguments = [sys.executable, "-c", _WRITE, str(new.path), str(old.path), "50000"]
    words = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "the disk is full" in words
    assert load_bundle(old.path).manifest == old.manifest
    assert [path.name for path in old.path.parent.iterdir() if path.name.startswith(".")] == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_place_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="can't be written: File exists"):
        write_bundle(tmp_path / "file" / "bundle", **parts_of(bundle))


def test_json_in_a_bundle_is_json_for_everyone(tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    for name, payload in contents(bundle_affine(tmp_path / "bundle").path).items():
        if name.endswith(".json"):
            json.loads(payload, parse_constant=refuse)


def test_a_leftover_of_a_bundle_with_a_longer_name_is_not_ours_to_clear_or_bring_back(tmp_path: Path) -> None:
    theirs = tmp_path / ".bundle.v2.abc.partial"
    aside = tmp_path / ".bundle.v2.abc.aside"
    theirs.mkdir()
    aside.mkdir()
    bundle_affine(tmp_path / "bundle")
    assert theirs.is_dir()
    assert aside.is_dir()


def test_a_name_with_brackets_is_no_pattern(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "run[1]")
    (tmp_path / "run[1]").rename(tmp_path / ".run[1].abc.aside")
    assert load_bundle(tmp_path / "run[1]").manifest == bundle.manifest


def test_a_bundle_runs_on_as_many_cores_as_it_was_built_for_unless_asked(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "bundle")
    build = bundle.deployment.build.model_copy(update={"threads": 3})
    built = replace(bundle, deployment=bundle.deployment.model_copy(update={"build": build}))
    assert (built.threads(), built.threads(2), bundle.threads()) == (3, 2, available_cores())

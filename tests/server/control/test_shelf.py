import os
from pathlib import Path

import pytest

from ferryman.bundle.pack import pack
from ferryman.core.errors import BundleError, ConfigError
from ferryman.server.control.shelf import Shelf, look
from tests.bundle.making import bundle_affine, bundle_table


def test_bundles_are_found_by_themselves_packed_and_in_folders_of_versions(tmp_path: Path) -> None:
    flat = bundle_affine(tmp_path / "r" / "flat", name="flat")
    bundle_affine(tmp_path / "r" / "deep" / "1", name="deep")
    packed = bundle_affine(tmp_path / "packed", name="deep", factor=3.0)
    pack(packed.path, tmp_path / "r" / "deep" / "2026-11-22.ferry")
    bundle_table(tmp_path / "r" / ".hidden")
    (tmp_path / "r" / "notes.txt").write_text("no bundle")
    shelf = look([tmp_path / "r"], is_strict=True)
    assert {name: set(found) for name, found in shelf.editions.items()} == {
        "flat": {flat.manifest.digest[:12]},
        "deep": {"1", "2026-11-22"},
    }
    assert shelf.problems == {}
    assert shelf.editions["deep"]["2026-11-22"].digest == packed.manifest.digest


@pytest.mark.parametrize(
    ("labels", "highest"),
    [
        (["1", "2", "10"], "10"),
        (["2026-11-21", "2026-11-22"], "2026-11-22"),
        (["beta", "3"], "3"),
        (["010", "9"], "010"),
    ],
)
def test_the_highest_version_is_the_highest_number_then_the_last_name(
    tmp_path: Path, labels: list[str], highest: str
) -> None:
    for factor, label in enumerate(labels):
        bundle_affine(tmp_path / "r" / "affine" / label, factor=factor + 1.0)
    assert look([tmp_path / "r"], is_strict=True).ranked("affine")[0].version == highest


def test_of_bundles_without_labels_the_one_given_last_is_the_highest(tmp_path: Path) -> None:
    paths = [bundle_affine(tmp_path / str(place), factor=place + 1.0).path for place in range(3)]
    for order in (paths, paths[::-1]):
        assert look(order, is_strict=True).ranked("affine")[0].path == order[-1]


def test_a_named_bundle_that_cannot_be_read_is_refused_and_one_in_a_folder_is_told(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "r" / "m" / "1")
    good = bundle_table(tmp_path / "r" / "good")
    (bundle.path / "bundle.json").write_text("{}")
    with pytest.raises(BundleError):
        look([bundle.path], is_strict=True)
    shelf = look([tmp_path / "r"], is_strict=True)
    assert set(shelf.editions) == {good.manifest.name, "m"}
    assert "bundle.json" in shelf.editions["m"]["1"].problem
    assert shelf.problems == {}
    assert set(look([tmp_path / "gone"], is_strict=False).problems) == {tmp_path / "gone"}


def test_a_folder_names_its_model_and_a_bundle_of_another_never_takes_that_ones_place(tmp_path: Path) -> None:
    good = bundle_affine(tmp_path / "affine" / "1")
    bundle_affine(tmp_path / "other" / "2", factor=9.0)
    bundle_affine(tmp_path / "aardvark" / "1", factor=9.0)
    shelf = look([tmp_path], is_strict=True)
    assert {name: set(found) for name, found in shelf.editions.items()} == {
        "affine": {"1"}, "other": {"2"}, "aardvark": {"1"},
    }  # fmt: skip
    assert shelf.editions["affine"]["1"].digest == good.manifest.digest
    assert shelf.editions["affine"]["1"].problem == ""
    assert "it is a bundle of model 'affine' in the folder of 'other'" in shelf.editions["other"]["2"].problem


def test_a_whole_bundle_goes_before_a_broken_one_of_the_same_version(tmp_path: Path) -> None:
    good = bundle_affine(tmp_path / "b" / "affine" / "1")
    (tmp_path / "a" / "affine" / "1" / "model").mkdir(parents=True)
    for order in (["a", "b"], ["b", "a"]):
        shelf = look([tmp_path / name for name in order], is_strict=True)
        assert shelf.editions["affine"]["1"].digest == good.manifest.digest


def test_of_two_bundles_of_a_model_in_one_folder_the_older_is_told_not_to_serve(tmp_path: Path) -> None:
    old, new = bundle_affine(tmp_path / "z"), bundle_affine(tmp_path / "a", factor=3.0)
    os.utime(old.path / "bundle.json", (1, 1))
    shelf = look([tmp_path], is_strict=True)
    assert shelf.ranked("affine")[0].path == new.path
    assert shelf.problems == {old.path: f"{new.path} is a newer bundle of model 'affine'"}


def test_what_lies_among_versions_and_is_none_is_told(tmp_path: Path) -> None:
    bundle_affine(tmp_path / "affine" / "1")
    for name in ("7", "notes"):
        (tmp_path / "affine" / name).mkdir()
    (tmp_path / "affine" / "4").touch()
    (tmp_path / "affine" / "README.md").touch()
    shelf = look([tmp_path], is_strict=True)
    assert {path.name for path in shelf.problems} == {"7", "4"}
    assert set(shelf.editions["affine"]) == {"1"}


def test_folders_that_hold_no_part_of_a_bundle_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "postgresql" / "15" / "main").mkdir(parents=True)
    (tmp_path / "photos" / "2026").mkdir(parents=True)
    assert look([tmp_path], is_strict=True) == Shelf()


def test_a_bundle_given_twice_is_refused(tmp_path: Path) -> None:
    path = bundle_affine(tmp_path / "one").path
    with pytest.raises(ConfigError, match="twice"):
        look([path, path], is_strict=True)

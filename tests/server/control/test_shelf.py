from pathlib import Path

import pytest

from ferryman.bundle.pack import pack
from ferryman.core.errors import BundleError, ConfigError
from ferryman.server.control.shelf import look
from tests.bundle.making import bundle_affine, bundle_table


def test_bundles_are_found_by_themselves_packed_and_in_folders_of_versions(tmp_path: Path) -> None:
    flat = bundle_affine(tmp_path / "r" / "flat", name="flat")
    bundle_affine(tmp_path / "r" / "any-name" / "1", name="deep")
    packed = bundle_affine(tmp_path / "packed", name="deep", factor=3.0)
    pack(packed.path, tmp_path / "r" / "any-name" / "2026-11-22.ferry")
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
        bundle_affine(tmp_path / "r" / "m" / label, factor=factor + 1.0)
    assert look([tmp_path / "r"], is_strict=True).highest("affine") == highest


def test_of_bundles_without_labels_the_one_given_last_is_the_highest(tmp_path: Path) -> None:
    paths = [bundle_affine(tmp_path / str(place), factor=place + 1.0).path for place in range(3)]
    for order in (paths, paths[::-1]):
        shelf = look(order, is_strict=True)
        highest = shelf.find("affine", shelf.highest("affine") or "")
        assert highest is not None and highest.path == order[-1]


def test_a_named_bundle_that_cannot_be_read_is_refused_and_one_in_a_folder_is_told(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "r" / "m" / "1")
    good = bundle_table(tmp_path / "r" / "good")
    (bundle.path / "bundle.json").write_text("{}")
    with pytest.raises(BundleError):
        look([bundle.path], is_strict=True)
    shelf = look([tmp_path / "r"], is_strict=True)
    assert set(shelf.editions) == {good.manifest.name}
    assert set(shelf.problems) == {bundle.path}
    assert set(look([tmp_path / "gone"], is_strict=False).problems) == {tmp_path / "gone"}


def test_a_bundle_given_twice_is_refused(tmp_path: Path) -> None:
    path = bundle_affine(tmp_path / "one").path
    with pytest.raises(ConfigError, match="twice"):
        look([path, path], is_strict=True)

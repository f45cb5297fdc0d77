"""An image is the same on each run, holds what it says, and is started by its contract."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import ferryman
from ferryman.bundle.read import load_bundle
from ferryman.core.bundle import Bundle
from ferryman.core.errors import ConfigError, ImageError, RegistryError
from ferryman.oci.blobs import Blobs
from ferryman.oci.layer import Entry, Layer
from ferryman.oci.layout import Layout
from ferryman.package.contents import CONTENTS, Component
from ferryman.package.elf import read_elf
from ferryman.package.run import package_bundle, plan_image
from ferryman.package.settings import Packaged, PackageSettings
from ferryman.package.store import Store
from tests.bundle.making import bundle_colour
from tests.package.conftest import TAG
from tests.package.making import content_of, files_in, image_in, unpack

BUDGET_BYTES = 170_000_000


def test_the_image_is_small_and_holds_the_bundle_as_it_is(packaged: Packaged, layout: Path, bundle: Bundle) -> None:
    (image,) = packaged.images
    assert image.size_unpacked < BUDGET_BYTES
    assert [part.name for part in image.parts] == ["base 1", "packages", "ferryman", "bundle"]
    held = {name: entry for name, entry in files_in(layout, -1).items() if entry.isfile()}
    assert sorted(held) == sorted(f"bundle/{name}" for name in (*bundle.manifest.files, "bundle.json"))
    assert {entry.mode for entry in held.values()} == {0o644}
    assert content_of(layout, "bundle/bundle.json") == (bundle.path / "bundle.json").read_bytes()


def test_it_is_started_without_a_shell_as_nobody(layout: Path) -> None:
    config = image_in(layout).config
    assert config.user == "65532:65532"
    assert list(config.entrypoint) == ["/usr/local/bin/python3", "-m", "ferryman"]
    assert list(config.cmd) == ["serve"]
    assert config.env["FERRYMAN_BUNDLE"] == "/bundle"
    assert config.working_dir == "/"
    assert config.stop_signal == "SIGTERM"
    assert config.healthcheck is not None
    assert config.healthcheck["Test"][0] == "CMD"
    assert not any(name.endswith(("/sh", "/bash")) for layer in range(4) for name in files_in(layout, layer))


def test_its_labels_and_annotations_say_what_it_is(layout: Path, bundle: Bundle) -> None:
    image = image_in(layout)
    assert image.annotations == image.config.labels
    assert image.annotations["org.opencontainers.image.title"] == "colour"
    assert image.annotations["ferryman.bundle.digest"] == f"sha256:{bundle.manifest.digest}"
    assert json.loads(image.annotations["ferryman.contract"])["max_drop"] == bundle.deployment.contract.max_drop
    assert "org.opencontainers.image.created" not in image.annotations


def test_its_list_of_contents_names_each_package_with_version_licence_and_digest(
    packaged: Packaged, layout: Path
) -> None:
    listed = [Component.from_json(raw) for raw in json.loads(content_of(layout, CONTENTS))]
    assert tuple(listed) == packaged.images[0].contents
    numpy = next(one for one in listed if one.name == "numpy")
    assert numpy.purl.startswith("pkg:pypi/numpy@2")
    assert len(numpy.sha256) == 64
    assert "BSD" in numpy.licence
    assert {"python", "ferryman", "onnxruntime"} <= {one.name for one in listed}


def test_no_file_of_it_belongs_to_anybody_or_is_of_any_time_or_runs_as_root(layout: Path) -> None:
    for layer in range(4):
        for entry in files_in(layout, layer).values():
            assert (entry.uid, entry.gid, entry.mtime) == (0, 0, 0)
            assert not entry.mode & 0o6000
            assert entry.name == "tmp" or entry.issym() or not entry.mode & 0o022


def test_a_second_run_makes_nothing_anew_and_gives_the_same_digest(
    bundle: Bundle, cache: Path, packaged: Packaged, tmp_path: Path
) -> None:
    again = package_bundle(bundle, PackageSettings(tag=TAG, output=tmp_path / "again"), cache=cache)
    assert again.digest == packaged.digest
    assert not any(part.is_new for part in again.images[0].parts)


def test_a_new_model_makes_only_its_own_layer_and_the_manifest_anew(
    cache: Path, packaged: Packaged, layout: Path, tmp_path: Path
) -> None:
    assert packaged.digest
    other = bundle_colour(tmp_path / "other")
    other = replace(other, versions={})
    (tmp_path / "other" / "more").write_bytes(b"a signature, say")
    made = package_bundle(other, PackageSettings(tag=TAG, output=tmp_path / "out"), cache=cache)
    assert [part.is_new for part in made.images[0].parts] == [False, False, False, True]
    before, after = image_in(layout), image_in(tmp_path / "out")
    assert before.layers[:3] == after.layers[:3]
    assert before.layers[3] != after.layers[3]


def test_the_time_is_said_only_where_the_environment_sets_it(
    bundle: Bundle, cache: Path, packaged: Packaged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packaged.digest
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    package_bundle(bundle, PackageSettings(tag=TAG, output=tmp_path / "out"), cache=cache)
    said = image_in(tmp_path / "out").annotations["org.opencontainers.image.created"]
    assert said == "2023-11-14T22:13:20Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ConfigError, match="yesterday"):
        package_bundle(bundle, PackageSettings(tag=TAG, output=tmp_path / "out"), cache=cache)


def test_no_text_or_compiled_file_names_a_folder_of_this_machine(layout: Path, tmp_path: Path) -> None:
    root = unpack(layout, tmp_path / "root")
    assert load_bundle(root / "bundle").manifest.name == "colour"
    own = [
        str(path).encode() for path in (sys.base_prefix, sys.prefix, Path(ferryman.__file__).parent) if path != "/usr"
    ]
    plain = [file for file in root.rglob("*") if file.is_file() and not file.is_symlink() and read_elf(file) is None]
    assert len(plain) > 500
    assert [file for file in plain if any(path in file.read_bytes() for path in own)] == []


def test_a_platform_that_is_asked_for_twice_or_not_known_is_refused(bundle: Bundle, cache: Path) -> None:
    with pytest.raises(ConfigError, match="twice"):
        package_bundle(bundle, PackageSettings(tag=TAG, platforms=("linux/amd64", "linux/amd64")), cache=cache)
    with pytest.raises(ImageError, match="linux/s390x"):
        package_bundle(bundle, PackageSettings(tag=TAG, platforms=("linux/s390x",)), cache=cache)


@pytest.mark.parametrize("tag", ["Localhost/UPPER:1", "localhost/x:bad tag", ""])
def test_a_name_that_no_registry_takes_is_refused_before_any_work(tag: str, bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(RegistryError):
        package_bundle(bundle, PackageSettings(tag=tag, output=tmp_path / "out"), cache=tmp_path / "cache")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["file", "folder", "file.tar", "folder.tar"])
def test_what_lies_at_the_output_and_is_no_image_is_never_replaced(name: str, bundle: Bundle, tmp_path: Path) -> None:
    place = tmp_path / name
    if name.startswith("folder"):
        place.mkdir()
        (place / "mine").write_bytes(b"mine")
    else:
        place.write_bytes(b"mine")
    with pytest.raises(ImageError):
        package_bundle(bundle, PackageSettings(tag=TAG, output=place), cache=tmp_path / "cache")
    assert (place / "mine" if place.is_dir() else place).read_bytes() == b"mine"


def test_a_plan_names_packages_and_writes_nothing(bundle: Bundle, tmp_path: Path) -> None:
    (planned,) = plan_image(bundle, PackageSettings(tag=TAG, output=tmp_path / "out"), cache=tmp_path / "cache")
    assert "onnxruntime" in planned.packages
    assert planned.output == tmp_path / "out"
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_was_verified_by_other_versions_says_so(bundle: Bundle, tmp_path: Path) -> None:
    older = replace(bundle, versions={"wsproto": "1.2.0", "ferryman": "0.0.9"})
    (planned,) = plan_image(older, PackageSettings(tag=TAG, output=tmp_path / "out"), cache=tmp_path / "cache")
    assert planned.packages["wsproto"] == "1.2.0"
    assert any("wsproto 1.2.0 goes in" in note for note in planned.notes)
    assert any("ferryman 0.0.9" in note for note in planned.notes)


def test_a_layer_in_the_cache_that_was_damaged_is_made_anew(tmp_path: Path) -> None:
    def make(store: Store) -> Layer:
        return store.layer("any", "key", lambda: [Entry("a", content=b"content")])

    store = Store(tmp_path)
    first = make(store)
    place = Blobs(tmp_path).path(first.descriptor.digest)
    place.write_bytes(b"x" * place.stat().st_size)
    second = Store(tmp_path)
    assert make(second).descriptor == first.descriptor
    assert second.made == {first.descriptor.digest}
    assert make(Store(tmp_path)) == first


def test_what_was_of_no_use_for_a_month_goes_and_what_is_used_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    layers = [store.layer("any", key, lambda key=key: [Entry(key)]) for key in ("old", "used")]  # type: ignore[misc]  # bound per round
    for file in tmp_path.rglob("*"):
        os.utime(file, (1e9, 1e9))
    store.layer("any", "used", lambda: [])
    store.forget_old()
    assert [store.blobs.has(layer.descriptor.digest) for layer in layers] == [False, True]
    assert len(list((tmp_path / "layers").iterdir())) == 1


def test_one_layout_keeps_images_under_several_names(
    bundle: Bundle, cache: Path, packaged: Packaged, tmp_path: Path
) -> None:
    for tag in ("localhost/one:1", "localhost/one:2"):
        package_bundle(bundle, PackageSettings(tag=tag, output=tmp_path / "out"), cache=cache)
    layout = Layout.open(tmp_path / "out")
    assert layout.find("localhost/one:1").digest == layout.find("localhost/one:2").digest == packaged.digest
    assert os.listdir(tmp_path) == ["out"]

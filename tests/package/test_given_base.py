"""A base that the user names is looked into, never run; what it lacks is said."""

from pathlib import Path

import pytest

from ferryman.core.bundle import Bundle
from ferryman.core.errors import ImageError
from ferryman.core.progress import silent
from ferryman.oci.layer import Entry
from ferryman.package.given_base import find_base
from ferryman.package.run import package_bundle
from ferryman.package.settings import Packaged, PackageSettings
from ferryman.package.store import Store
from tests.package.conftest import TAG
from tests.package.making import AMD, base_layout, fake_python, image_in

MUSL = Entry("lib/ld-musl-x86_64.so.1", 0o755, b"\x7fELF")


def test_its_python_its_version_and_its_c_library_are_found(tmp_path: Path) -> None:
    folder = base_layout(tmp_path / "base", fake_python(version="3.12"))
    base = find_base(f"oci:{folder}", AMD, Store(tmp_path / "store"), silent)
    assert base.python == "/usr/local/bin/python3"
    assert (base.target.python, base.target.libc, base.target.libc_version) == ("3.12", "glibc", (2, 36))
    assert base.config.env["LANG"] == "C.UTF-8"
    by_name = find_base(f"oci:{folder}:base:1", AMD, Store(tmp_path / "store"), silent)
    assert (by_name.digest, by_name.layers) == (base.digest, base.layers)


def test_an_image_with_musl_gets_musls_wheels(tmp_path: Path) -> None:
    python = [one for one in fake_python() if "libc" not in one.name and one.name != "lib"]
    folder = base_layout(tmp_path / "base", [*python, MUSL])
    base = find_base(f"oci:{folder}", AMD, Store(tmp_path / "store"), silent)
    assert base.target.libc == "musl"
    assert base.target.platforms[0] == "musllinux_1_2_x86_64"


def test_what_a_later_layer_removes_is_not_there(tmp_path: Path) -> None:
    gone = [Entry("usr/local/bin/.wh.python3", content=b"")]
    folder = base_layout(tmp_path / "base", fake_python(), gone)
    with pytest.raises(ImageError, match="no python3 on its PATH"):
        find_base(f"oci:{folder}", AMD, Store(tmp_path / "store"), silent)
    opaque = [Entry("usr/local/lib/.wh..wh..opq", content=b"")]
    folder = base_layout(tmp_path / "other", fake_python(), opaque)
    with pytest.raises(ImageError, match="no python3 on its PATH"):
        find_base(f"oci:{folder}", AMD, Store(tmp_path / "store"), silent)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    circle = [
        Entry("usr/bin/python3", link="/etc/python3", kind="link"),
        Entry("etc/python3", link="../usr/bin/python3", kind="link"),
    ]
    folder = base_layout(tmp_path / "base", circle)
    with pytest.raises(ImageError, match="no python3"):
        find_base(f"oci:{folder}", AMD, Store(tmp_path / "store"), silent)


def test_one_without_a_known_c_library_is_refused(tmp_path: Path) -> None:
    folder = base_layout(tmp_path / "base", fake_python(libc=b"something else"))
    with pytest.raises(ImageError, match="no C library"):
        find_base(f"oci:{folder}", AMD, Store(tmp_path / "store"), silent)


@pytest.mark.parametrize("name", ["oci:/no/such/folder", "oci:", "oci:/no/such:tag"])
def test_a_folder_that_is_not_there_is_said(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        find_base(name, AMD, Store(tmp_path / "store"), silent)


def test_an_image_on_another_keeps_its_layers_and_environment_and_names_it(
    bundle: Bundle, cache: Path, packaged: Packaged, wheels: Path, tmp_path: Path
) -> None:
    base = base_layout(tmp_path / "base", fake_python(), [Entry("etc/marker", content=b"mine")])
    settings = PackageSettings(tag=TAG, base=f"oci:{base}", wheels=wheels, output=tmp_path / "out")
    made = package_bundle(bundle, settings, cache=cache)
    image = image_in(tmp_path / "out")
    assert image.layers[:2] == image_in(base).layers
    assert image.config.env["LANG"] == "C.UTF-8"
    assert list(image.config.entrypoint) == ["/usr/local/bin/python3", "-m", "ferryman"]
    assert image.config.labels["maker"] == "somebody"
    assert image.annotations["org.opencontainers.image.base.digest"] == image_in(base).descriptor.digest
    assert str(base) not in str(image.annotations), "where a folder lies is nobody's business, and no part of a digest"
    parts = {part.name: part.digest for part in made.images[0].parts}
    assert parts["packages"] == {part.name: part.digest for part in packaged.images[0].parts}["packages"]
    assert any("libstdc++.so.6" in note for note in made.images[0].notes), "this base lacks what packages link"

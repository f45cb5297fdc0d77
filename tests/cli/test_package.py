"""`ferryman package` says what it would do and what it did, for people and for programs."""

import base64
import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from ferryman.api import pack
from tests.bundle.making import bundle_affine
from tests.cli.running import ferryman
from tests.package.making import base_layout, fake_python, image_in

TAG = "localhost/affine:1"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_affine(tmp_path_factory.mktemp("package") / "affine").path


def make_wheel(folder: Path, name: str, version: str) -> None:
    """Write the smallest wheel: what is in it is not asked here."""
    folder.mkdir(exist_ok=True)
    plain = name.replace("-", "_")
    home = f"{plain}-{version}.dist-info"
    content = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    with zipfile.ZipFile(folder / f"{plain}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{home}/METADATA", content)
        archive.writestr(f"{home}/RECORD", f"{home}/METADATA,sha256={digest},{len(content)}\n{home}/RECORD,,\n")


def test_what_it_would_do_is_what_it_does(bundle: Path, tmp_path: Path) -> None:
    base = base_layout(tmp_path / "base", fake_python())
    words = ["package", str(bundle), "--tag", TAG, "--base", f"oci:{base}", "--quiet"]
    words += ["--output", str(tmp_path / "out")]
    cache = str(tmp_path / "cache")
    planned = json.loads(ferryman(*words, "--dry-run", "--json", FERRYMAN_CACHE=cache).stdout)["images"][0]
    assert not (tmp_path / "out").exists()
    assert (planned["output"], planned["pushed"]) == (str(tmp_path / "out"), False)
    assert {"numpy", "onnxruntime", "orjson"} <= planned["packages"].keys()
    for name, version in planned["packages"].items():
        make_wheel(tmp_path / "wheels", name, version)
    words += ["--wheels", str(tmp_path / "wheels")]
    made = json.loads(ferryman(*words, "--json", FERRYMAN_CACHE=cache).stdout)
    assert made["digest"] == image_in(tmp_path / "out").descriptor.digest
    image = made["images"][0]
    assert {one["name"] for one in image["contents"] if one["kind"] == "package"} == {*planned["packages"], "ferryman"}
    assert set(image["parts"][0]) == {"name", "digest", "size", "size_unpacked", "is_new"}
    again = ferryman(*words, FERRYMAN_CACHE=cache).stdout
    assert again.count("as it was") >= 3, "ferryman's own layer may be new: while somebody edits it"
    assert f"{TAG} in {tmp_path / 'out'}: sha256:" in again


def test_where_it_would_go_is_true(bundle: Path, tmp_path: Path) -> None:
    file = pack(bundle, tmp_path / "affine.ferry")

    def goes(*words: str) -> str:
        found = ferryman(
            "package", *words, "--tag", TAG, "--dry-run", "--quiet", FERRYMAN_CACHE=str(tmp_path / "cache")
        )
        return found.stdout.splitlines()[-1]

    assert goes(str(file)) == f"{TAG} would be written to {tmp_path / 'affine.oci'}"
    assert goes(str(bundle), "--dockerfile", "docker") == f"{TAG} would be written to docker"
    assert goes(str(bundle), "--output", "x.tar", "--push") == f"{TAG} would be written to x.tar and pushed"


def test_a_dockerfile_that_is_to_be_pushed_is_refused(bundle: Path, tmp_path: Path) -> None:
    words = ("--tag", TAG, "--dockerfile", str(tmp_path / "docker"), "--push", "--quiet")
    refused = ferryman("package", str(bundle), *words)
    assert refused.returncode == 2
    assert "leave one of them out" in refused.stderr
    assert not (tmp_path / "docker").exists()


@pytest.mark.parametrize(("option", "said"), [("--output", "is no OCI layout"), ("--wheels", "there is no folder")])
def test_a_dry_run_refuses_the_places_that_the_run_would_refuse(
    bundle: Path, tmp_path: Path, option: str, said: str
) -> None:
    place = bundle if option == "--output" else tmp_path / "none"
    refused = ferryman("package", str(bundle), "--tag", TAG, "--dry-run", option, str(place))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert said in refused.stderr

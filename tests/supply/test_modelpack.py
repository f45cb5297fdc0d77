import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman.bundle.read import load_bundle
from ferryman.bundle.write import write_bundle
from ferryman.cli.main import main
from ferryman.core.artifact import digest_path
from ferryman.core.bundle import BOM
from ferryman.core.errors import BundleError, FerrymanError, ImageError, Untrusted
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import Descriptor
from ferryman.oci.image import write_artifact
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.supply._modelpack import ARTIFACT_TYPE, BUNDLE_DIGEST, FILE_PATH
from ferryman.supply.keys import make_key
from ferryman.supply.modelpack import Moved, fetch, pull_bundle, push_bundle
from ferryman.supply.verbs import accept
from tests.bundle.making import bundle_affine
from tests.oci.making import make_image, run
from tests.oci.registries import Cutter, docker_registry, wait_for

pytestmark = pytest.mark.tool("docker-registry")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return bundle_affine(tmp_path / "dist" / "affine").path


def push(path: Path, name: str, *, dry_run: bool = False) -> Moved:
    reference = Reference.parse(name)
    with Registry.of(reference) as registry:
        return push_bundle(path, reference, registry, dry_run=dry_run)


def pull(name: str, destination: Path, *, dry_run: bool = False) -> Moved:
    reference = Reference.parse(name)
    with Registry.of(reference) as registry:
        return pull_bundle(reference, destination, registry, dry_run=dry_run)


def largest(folder: Path) -> int:
    sizes = [0]
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # it was renamed meanwhile
            sizes.append(path.stat().st_size)
    return max(sizes)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_bundle_comes_back_as_it_was_with_what_lies_beside_it(host: str, bundle: Path, tmp_path: Path) -> None:
    (bundle / BOM).write_text("{}")
    pushed = push(bundle, f"{host}/back/affine:1")
    pulled = pull(pushed.reference, tmp_path / "out" / "affine")
    assert contents(tmp_path / "out" / "affine") == contents(bundle)
    assert (pulled.bundle_digest, pulled.name) == (pushed.bundle_digest, "affine")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["affine"]
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert modes == {0o644}


def test_equal_bundles_have_one_digest_under_every_name_and_are_sent_once(
    host: str, bundle: Path, tmp_path: Path
) -> None:
    first = push(bundle, f"{host}/once/affine:1")
    again = push(bundle_affine(tmp_path / "again").path, f"{host}/once/affine:prod")
    assert first.reference == again.reference == f"{host}/once/affine@{first.reference.partition('@')[2]}"
    assert first.moved_bytes > 0 and again.moved_bytes == 0 and again.kept_bytes == first.moved_bytes


def test_a_dry_run_says_what_would_be_done_and_does_nothing(host: str, bundle: Path, tmp_path: Path) -> None:
    would = push(bundle, f"{host}/dry/affine:1", dry_run=True)
    with pytest.raises(FerrymanError, match="doesn't have it"):
        pull(f"{host}/dry/affine:1", tmp_path / "out")
    assert push(bundle, f"{host}/dry/affine:1") == would
    assert pull(f"{host}/dry/affine:1", tmp_path / "out", dry_run=True).moved_bytes == would.moved_bytes
    assert [path.name for path in tmp_path.iterdir()] == ["dist"]


def test_a_new_version_brings_only_what_changed(host: str, tmp_path: Path) -> None:
    first = bundle_affine(tmp_path / "1").path
    other = bundle_affine(tmp_path / "2", factor=3.0).path
    push(first, f"{host}/new/affine:1")
    assert push(other, f"{host}/new/affine:2").kept_bytes > 0
    pull(f"{host}/new/affine:1", tmp_path / "out")
    moved = pull(f"{host}/new/affine:2", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(other)
    same = [name for name, payload in contents(other).items() if contents(first).get(name) == payload]
    assert moved.kept_bytes == sum((other / name).stat().st_size for name in same) > 0
    again = pull(f"{host}/new/affine:2", tmp_path / "out")
    assert again.moved_bytes < (other / "bundle.json").stat().st_size + 2000  # that, and the artifact's config


def test_a_damaged_file_of_the_old_version_is_not_used(host: str, bundle: Path, tmp_path: Path) -> None:
    push(bundle, f"{host}/heal/affine:1")
    pull(f"{host}/heal/affine:1", tmp_path / "out")
    (tmp_path / "out" / "golden" / "0000.npz").write_bytes(b"flipped")
    pull(f"{host}/heal/affine:1", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(bundle)


def test_what_is_no_bundle_is_neither_pushed_nor_replaced(host: str, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").write_text("mine")
    push(bundle, f"{host}/foreign/affine:1")
    with pytest.raises(BundleError, match="is not a bundle"):
        pull(f"{host}/foreign/affine:1", tmp_path / "thesis")
    assert contents(tmp_path / "thesis") == {"text": b"mine"}
    (bundle / "model" / "affine.onnx").write_bytes(b"flipped")
    with pytest.raises(BundleError, match="was changed"):
        push(bundle, f"{host}/foreign/affine:2")


def test_an_image_is_no_bundle(host: str, tmp_path: Path) -> None:
    blobs, reference = Blobs(tmp_path / "blobs"), Reference.parse(f"{host}/image/a:1")
    with Registry.of(reference) as registry:
        registry.push(blobs, make_image(blobs), reference)
    with pytest.raises(BundleError, match="is no model: it is a container image"):
        pull(str(reference), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def publish(
    host: str, bundle: Path, change: dict[str, bytes | None], names: dict[str, str], media_type: str = ""
) -> str:
    """Push what looks like a bundle: with other or no content for some files, under other names."""
    reference = Reference.parse(f"{host}/hostile/affine:1")
    blobs, layers = Blobs(bundle.parent / "blobs"), []
    for name, payload in {**contents(bundle), **change}.items():
        if payload is not None:
            said = {FILE_PATH: names.get(name, name)}
            kind = media_type or "application/vnd.cncf.model.weight.v1.raw"
            layers.append(Descriptor(kind, *blobs.add_bytes(payload), said))
    artifact = write_artifact(blobs, ARTIFACT_TYPE, layers=layers)
    with Registry.of(reference) as registry:
        registry.push(blobs, artifact, reference)
    return str(reference)


@pytest.mark.parametrize(
    ("change", "names", "says"),
    [
        ({"model/affine.onnx": b"other"}, {}, "model/affine.onnx is not what its bundle.json lists"),
        ({"model/affine.onnx": None}, {}, "lacks model/affine.onnx"),
        ({"bundle.json": None}, {}, "has no bundle.json"),
        ({"bundle.json": b"{}"}, {}, "no spec_version"),
        ({"extra.sh": b"#!"}, {}, "'extra.sh', which its bundle.json doesn't list"),
        ({}, {"model/affine.onnx": "../../escaped"}, "outside of the bundle"),
        ({}, {"model/affine.onnx": "/etc/cron.d/x"}, "outside of the bundle"),
        ({}, {"model/affine.onnx": "a\\..\\b"}, "outside of the bundle"),
        ({}, {"model/affine.onnx": ""}, "outside of the bundle"),
        ({}, {"model/affine.onnx": "proof.json"}, "is there twice"),
        ({"model.sig": bytes(17 * 1024 * 1024)}, {}, "model.sig claims"),
    ],
)
def test_a_hostile_artifact_lands_nowhere(
    host: str, bundle: Path, tmp_path: Path, change: dict[str, bytes | None], names: dict[str, str], says: str
) -> None:
    name = publish(host, bundle, change, names)
    (tmp_path / "land").mkdir()
    with pytest.raises(BundleError, match=says):
        pull(name, tmp_path / "land" / "affine")
    assert [path for path in (tmp_path / "land").rglob("*") if path.is_file() and path.name == "affine.onnx"] == []
    assert not (tmp_path / "land" / "affine").exists() and not (tmp_path / "escaped").exists()


def test_a_packed_artifact_of_another_tool_is_refused_in_words(host: str, bundle: Path, tmp_path: Path) -> None:
    name = publish(host, bundle, {}, {}, "application/vnd.cncf.model.weight.v1.tar")
    with pytest.raises(BundleError, match=r"is packed as .*\.tar"):
        pull(name, tmp_path / "out")


def test_a_registry_whose_store_was_altered_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry") as host:
        push(bundle, f"{host}/a/affine:1")
        model = (bundle / "model" / "affine.onnx").read_bytes()
        (stored,) = (
            path for path in (tmp_path / "registry").rglob("data") if path.is_file() and path.read_bytes() == model
        )
        stored.write_bytes(model[:-1] + bytes([model[-1] ^ 1]))
        with pytest.raises(ImageError, match="gives other bytes than sha256:"):
            pull(f"{host}/a/affine:1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def make_large(folder: Path) -> Path:
    """Write a bundle whose model is a few megabytes."""
    small = load_bundle(bundle_affine(folder / "small").path)
    heavy = folder / "heavy"
    heavy.mkdir()
    shutil.copy(small.artifact.path, heavy / "affine.onnx")
    (heavy / "weights.bin").write_bytes(random.Random(3).randbytes(6_000_000))
    artifact = replace(small.artifact, path=heavy, digest=digest_path(heavy))
    made = write_bundle(
        folder / "large", deployment=small.deployment, artifact=artifact, proof=small.proof, golden=small.golden,
        tolerance=small.tolerance, baseline=small.baseline, versions=small.versions,
    )  # fmt: skip
    return made.path


def test_a_pull_that_is_killed_leaves_the_old_bundle_and_goes_on(host: str, tmp_path: Path) -> None:
    old, new = bundle_affine(tmp_path / "old", factor=5.0).path, make_large(tmp_path)
    out = tmp_path / "land" / "affine"
    push(old, f"{host}/killed/affine:1")
    push(new, f"{host}/killed/affine:2")
    pull(f"{host}/killed/affine:1", out)
    code = "import sys; from ferryman.supply.verbs import pull; pull(*sys.argv[1:])"
    staging = out.with_name(".affine.pull")
    with Cutter(host, down_limits=[4_000_000], stalls=True).running() as cutter:
        pulling = subprocess.Popen([sys.executable, "-c", code, f"{cutter.host}/killed/affine:2", str(out)])
        wait_for(lambda: largest(staging / ".partial") > 2_000_000)
        os.kill(pulling.pid, signal.SIGKILL)
        pulling.wait(timeout=10)
    assert contents(out) == contents(old)
    with Cutter(host).running() as cutter:
        moved = pull(f"{cutter.host}/killed/affine:2", out)
        assert moved.kept_bytes > 2_000_000 and cutter.down_bytes < moved.moved_bytes + 50_000 < 4_500_000
    assert contents(out) == contents(new)
    assert [path.name for path in out.parent.iterdir()] == ["affine"]


def test_two_pulls_to_one_place_bring_it_once(host: str, tmp_path: Path) -> None:
    new = make_large(tmp_path)
    push(new, f"{host}/both/affine:1")
    code = "import sys; from ferryman.supply.verbs import pull; print(pull(*sys.argv[1:]).moved_bytes)"
    words = [sys.executable, "-c", code, f"{host}/both/affine:1", str(tmp_path / "out")]
    pulling = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    moved = sorted(int(one.communicate(timeout=60)[0]) for one in pulling)
    assert moved[0] < 10_000 and moved[1] > 6_000_000
    assert contents(tmp_path / "out") == contents(new)


def test_fetch_asks_no_registry_for_a_digest_that_is_there(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    with docker_registry(tmp_path / "registry") as host:
        named = push(bundle, f"{host}/f/affine:1").reference
        place = fetch(f"{host}/f/affine:1", tmp_path / "cache")
        assert fetch(named, tmp_path / "cache") == place
    assert fetch(named, tmp_path / "cache") == place
    assert load_bundle(place).manifest.name == "affine"


@pytest.mark.tool("oras")
def test_oras_reads_it_and_its_config_is_as_modelpack_has_it(host: str, bundle: Path, tmp_path: Path) -> None:
    name = f"{host}/oras/affine:1"
    pushed = push(bundle, name)
    manifest = json.loads(run("oras", "manifest", "fetch", "--plain-http", name))
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["annotations"][BUNDLE_DIGEST] == pushed.bundle_digest
    kinds = {layer["annotations"][FILE_PATH]: layer["mediaType"] for layer in manifest["layers"]}
    assert kinds["model/affine.onnx"] == "application/vnd.cncf.model.weight.v1.raw"
    assert kinds["golden/0000.npz"] == "application/vnd.cncf.model.dataset.v1.raw"
    assert kinds["proof.json"] == "application/vnd.cncf.model.weight.config.v1.raw"
    config = json.loads(run("oras", "manifest", "fetch-config", "--plain-http", name))
    assert config["descriptor"] == {"name": "affine"}
    assert (config["config"]["format"], config["config"]["precision"]) == ("onnx", "float32")
    assert config["modelfs"] == {"type": "layers", "diffIds": [layer["digest"] for layer in manifest["layers"]]}
    run("oras", "pull", "--plain-http", "-o", tmp_path / "theirs", name)
    assert contents(tmp_path / "theirs") == contents(bundle)
    run("oras", "push", "--plain-http", f"{host}/oras/foreign:1", "bundle.json", folder=bundle)
    with pytest.raises(BundleError, match="is no model"):
        pull(f"{host}/oras/foreign:1", tmp_path / "out")


def test_the_command_line_gives_what_scripts_need(
    host: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def ferryman(*words: str) -> tuple[int, str, str]:
        return (main(words), *capsys.readouterr())

    code, out, talk = ferryman("push", "dist/affine", f"{host}/cli/affine:1")
    assert code == 0 and out.startswith(f"{host}/cli/affine@sha256:") and "affine: sent 6." in talk
    told = json.loads(ferryman("pull", out.strip(), "--output", "there", "--json")[1])
    assert (told["reference"], told["path"], told["dry_run"]) == (out.strip(), str(tmp_path / "there"), False)
    shutil.rmtree(bundle)
    assert ferryman("pull", f"{host}/cli/affine:1")[1].strip() == str(bundle)
    code, out, _ = ferryman("pull", f"{host}/cli/affine:2", "--json")
    assert code == 2 and "doesn't have it" in json.loads(out)["error"]
    assert ferryman("push", "there", "https://registry.example/x")[0] == 2


def test_a_blob_that_was_damaged_while_a_pull_rested_is_got_again(host: str, tmp_path: Path) -> None:
    bundle, out = make_large(tmp_path), tmp_path / "out" / "affine"
    push(bundle, f"{host}/rests/affine:1")
    staging = out.with_name(".affine.pull")
    weights = next(bundle.rglob("weights.bin"))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    place = staging / "blobs" / "sha256" / digest
    place.parent.mkdir(parents=True)
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    place.write_bytes(content)  # as many bytes, and one is another
    pull(f"{host}/rests/affine:1", out)
    assert contents(out) == contents(bundle)
    assert not staging.exists()


def test_who_asks_for_a_pushed_bundles_signature_is_told_where_it_is(host: str, bundle: Path, tmp_path: Path) -> None:
    moved = push(bundle, f"{host}/asked/affine:1")
    _, public = make_key(tmp_path / "release")
    with pytest.raises(Untrusted, match="is a bundle, and not signed as images are") as refused:
        accept(moved.reference, keys=[public])
    assert "ferryman pull --require-signature" in refused.value.hint

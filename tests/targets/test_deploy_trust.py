"""What is deployed is signed as a policy asks, and the image was made of the bundle; a real registry."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ferryman import api
from ferryman.bundle.read import load_bundle
from ferryman.core.errors import ConfigError, Untrusted
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import Descriptor, Platform
from ferryman.oci.image import ImageConfig, write_image, write_index
from ferryman.oci.layer import Entry, write_layer
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.supply.keys import make_key
from ferryman.supply.policy import make_policy
from tests.bundle.making import bundle_affine
from tests.cli.running import ferryman
from tests.oci.registries import docker_registry
from tests.supply.making import BARE

pytestmark = pytest.mark.tool("docker-registry")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("good", "other"):
        make_key(folder / name)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_affine(tmp_path_factory.mktemp("bundles") / "affine").path


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "affine"))


@pytest.fixture(scope="module")
def registry_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


def pushed(registry_host: str, folder: Path, name: str, digest: str, *, architectures: tuple[str, ...] = ()) -> str:
    """Push an image that says of which bundle it was made; an index of such where architectures are named."""
    blobs = Blobs(folder / "blobs")
    says = {"ferryman.bundle.digest": f"sha256:{digest}"}

    def image(architecture: str) -> Descriptor:
        layers = [write_layer([Entry("note", content=f"{name} {architecture}".encode())], blobs)]
        platform = Platform("linux", architecture)
        return write_image(blobs, ImageConfig(), layers, platform=platform, annotations=says)

    images = [image(architecture) for architecture in architectures or ("amd64",)]
    top = write_index(blobs, images) if architectures else images[0]
    reference = Reference.parse(f"{registry_host}/{name}:1")
    with Registry.of(reference) as registry:
        registry.push(blobs, top, reference)
    return str(reference)


def going(bundle: Path, image: str, keys: Path | None = None) -> api.Destination:
    there = api.Destination("kubernetes", project=bundle.parent, bundle=bundle, image=image)
    return replace(there, policy=make_policy(None, [keys / "good.pub"])) if keys else there


def test_an_unsigned_bundle_is_refused_by_name_before_any_registry_is_asked(bundle: Path, keys: Path) -> None:
    with pytest.raises(Untrusted, match=str(bundle)):
        going(bundle, "127.0.0.1:9/affine:1", keys).render()


def test_an_image_is_asked_for_a_signature_too_and_goes_by_the_digest_that_was_signed(
    bundle: Path, keys: Path, registry_host: str, tmp_path: Path
) -> None:
    api.sign(bundle, keys / "good.pem")
    image = pushed(registry_host, tmp_path, "signed", load_bundle(bundle).manifest.digest)
    with pytest.raises(Untrusted, match=f"{registry_host}/signed@sha256"):
        going(bundle, image, keys).render()
    api.sign(image, keys / "other.pem", wish=BARE)
    with pytest.raises(Untrusted, match=r"not signed by .*good\.pub"):
        going(bundle, image, keys).render()
    api.sign(image, keys / "good.pem", wish=BARE)
    digest = api.accept(image, keys=[keys / "good.pub"]).digest
    deployment = going(bundle, image, keys).render()["deployment.yaml"]
    assert f"{registry_host}/signed@{digest}" in deployment


@pytest.mark.parametrize("table", ["canary", "shadow", "model"])
def test_every_image_beside_the_main_one_is_asked_for_a_signature_and_goes_by_its_digest(
    table: str, bundle: Path, keys: Path, registry_host: str, tmp_path: Path
) -> None:
    api.sign(bundle, keys / "good.pem")
    own = load_bundle(bundle).manifest.digest
    image, beside = (pushed(registry_host, tmp_path / name, f"{table}-{name}", own) for name in ("main", "beside"))
    (tmp_path / "ferryman.toml").write_text(
        '[model]\nname = "affine"\nsource = "affine.onnx"\n[task]\nkind = "tensor"\n'
        f'[targets.kubernetes]\n[targets.kubernetes.gateway]\ngateway = "front"\n'
        f'[targets.kubernetes.{table}]\nimage = "{beside}"\n'
    )
    api.sign(image, keys / "good.pem", wish=BARE)
    there = replace(going(bundle, image, keys), project=tmp_path)
    with pytest.raises(Untrusted, match=beside.rpartition(":")[0]):
        there.render()
    api.sign(beside, keys / "good.pem", wish=BARE)
    digest = api.accept(beside, keys=[keys / "good.pub"]).digest
    deployment = there.render()["deployment.yaml"]
    assert f"{beside.rpartition(':')[0]}@{digest}" in deployment
    assert beside not in deployment


def test_what_kserve_takes_from_a_storage_is_asked_for_a_signature_too(
    bundle: Path, keys: Path, registry_host: str, tmp_path: Path
) -> None:
    api.sign(bundle, keys / "good.pem")
    image = pushed(registry_host, tmp_path, "stored", load_bundle(bundle).manifest.digest)
    api.sign(image, keys / "good.pem", wish=BARE)
    digest = api.accept(image, keys=[keys / "good.pub"]).digest

    def runtime(storage: str) -> str:
        (tmp_path / "ferryman.toml").write_text(
            '[model]\nname = "affine"\nsource = "affine.onnx"\n[task]\nkind = "tensor"\n'
            f'[targets.kubernetes]\nkind = "kserve"\nstorage = "{storage}"\n'
        )
        return replace(going(bundle, image, keys), project=tmp_path).render()["inferenceservice.yaml"]

    with pytest.raises(Untrusted, match="s3://models/affine is in no registry") as caught:
        runtime("s3://models/affine")
    assert "oci://" in caught.value.hint
    assert f"oci://{registry_host}/stored@{digest}" in runtime(f"oci://{image}")


def test_a_bundle_that_was_changed_after_it_was_signed_goes_nowhere_also_without_a_policy(
    bundle: Path, keys: Path
) -> None:
    api.sign(bundle, keys / "good.pem")
    card = bundle / "bom.cdx.json"
    card.write_bytes(card.read_bytes().replace(b"affine", b"refine"))
    with pytest.raises(Untrusted):
        going(bundle, "localhost/affine:1").render()


def test_an_image_of_this_machine_alone_has_no_signature(bundle: Path, keys: Path) -> None:
    api.sign(bundle, keys / "good.pem")
    with pytest.raises(Untrusted, match="localhost/affine:1 is in no registry") as caught:
        going(bundle, "localhost/affine:1", keys).render()
    assert "--push" in caught.value.hint
    assert "localhost/affine:1" in going(bundle, "localhost/affine:1").render()["deployment.yaml"]


@pytest.mark.parametrize("architectures", [(), ("amd64", "arm64")], ids=["image", "index"])
def test_an_image_that_was_made_of_another_bundle_is_refused(
    bundle: Path, registry_host: str, tmp_path: Path, architectures: tuple[str, ...]
) -> None:
    image = pushed(registry_host, tmp_path, f"old{len(architectures)}", "0" * 64, architectures=architectures)
    with pytest.raises(ConfigError, match="made of another bundle") as caught:
        going(bundle, image).render()
    assert "--bundle" in caught.value.hint
    own = load_bundle(bundle).manifest.digest
    image = pushed(registry_host, tmp_path, f"new{len(architectures)}", own, architectures=architectures)
    assert "@sha256:" in going(bundle, image).render()["deployment.yaml"]


def test_the_command_line_takes_a_policy_and_so_does_the_environment(
    bundle: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = keys / "policy.toml"
    policy.write_text('keys = ["good.pub"]\n')
    words = ("deploy", "render", "compose", "--dry-run", "--bundle", str(bundle), "--image", "localhost/affine:1")
    for said in (["--policy", str(policy)], ["--require-signature", str(keys / "good.pub")]):
        done = ferryman(*words, *said, folder=bundle.parent)
        assert done.returncode == 2
        assert f"{bundle} is not signed" in done.stderr
    monkeypatch.setenv("FERRYMAN_POLICY", str(policy))
    assert ferryman(*words, folder=bundle.parent).returncode == 2
    monkeypatch.delenv("FERRYMAN_POLICY")
    assert ferryman(*words, folder=bundle.parent).returncode == 0

import base64
import io
import json
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ferryman.bundle.read import load_bundle
from ferryman.core.artifact import files_of
from ferryman.core.errors import ConfigError, ImageError, MissingExtra, Untrusted
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import LAYER, Descriptor, Platform
from ferryman.oci.image import ImageConfig, read_image, write_image, write_index
from ferryman.oci.layer import Entry, Layer, write_layer
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.supply.image_signature import SIMPLE, tag_of
from ferryman.supply.image_signing import accept_image, describe_image, sign_image
from ferryman.supply.keyless import accept_keyless, sign_keyless
from ferryman.supply.keys import load_private
from ferryman.supply.policy import make_policy
from ferryman.supply.signing import Wish
from ferryman.supply.verbs import push
from tests.supply.making import BARE

pytestmark = pytest.mark.tool("docker-registry", "cosign")
OFFLINE = ("--insecure-ignore-tlog=true", "--allow-http-registry")
LIST = [
    {"name": "numpy", "version": "2.4.6", "kind": "package", "licence": "MIT", "purl": "", "sha256": "e" * 64},
    {"name": "affine", "version": "1", "kind": "model", "licence": "", "purl": "", "sha256": ""},
]


def cosign(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COSIGN_PASSWORD": "x"}
    return subprocess.run(["cosign", *words], capture_output=True, text=True, timeout=60, env=environment)


@dataclass(frozen=True)
class Shop:
    """Hold a registry, and images to push there."""

    host: str
    blobs: Blobs
    bundle: Path

    def image(self, *, architecture: str = "amd64", note: str = "", says: bool = True) -> Descriptor:
        files = [Entry(f"bundle/{file.relative_to(self.bundle)}", content=file) for file in files_of(self.bundle)]
        listed = [Entry("opt/ferryman/contents.json", content=json.dumps(LIST).encode())] if says else []
        layers = [
            write_layer([Entry("note", content=note.encode()), *listed], self.blobs),
            write_layer(files, self.blobs),
        ]
        return write_image(self.blobs, ImageConfig(), layers, platform=Platform("linux", architecture))

    def push(self, descriptor: Descriptor, name: str) -> str:
        reference = Reference.parse(f"{self.host}/{name}:1")
        with Registry.of(reference) as registry:
            registry.push(self.blobs, descriptor, reference)
        return str(reference.pinned(descriptor.digest))


@pytest.fixture(scope="module")
def shop(registry_host: str, original: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(registry_host, Blobs(tmp_path_factory.mktemp("blobs")), original)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a pair of cosign's own keys."""
    folder = tmp_path_factory.mktemp("cosign")
    assert cosign("generate-key-pair", "--output-key-prefix", folder / "theirs").returncode == 0
    return folder


def test_cosign_verifies_what_was_signed_here_and_not_by_another_key(shop: Shop, keys: Path) -> None:
    image = shop.push(shop.image(), "signed")
    signed = sign_image(image, load_private(keys / "good.pem"), BARE)
    assert signed.target == image
    assert cosign("verify", *OFFLINE, "--key", keys / "good.pub", image).returncode == 0
    assert cosign("verify", *OFFLINE, "--key", keys / "other.pub", image).returncode != 0
    assert accept_image(image, make_policy(None, [keys / "good.pub"])).key == signed.key


def test_signing_again_adds_nothing_and_another_key_adds_its_own(shop: Shop, keys: Path) -> None:
    image = shop.push(shop.image(note="twice"), "twice")
    good, other = (load_private(keys / f"{name}.pem") for name in ("good", "other"))
    assert sign_image(image, good, BARE).written == (tag_of(image.partition("@")[2], "sig"),)
    assert sign_image(image, good, BARE).written == ()
    assert sign_image(image, other, BARE).written != ()
    for name in ("good", "other"):
        assert accept_image(image, make_policy(None, [keys / f"{name}.pub"])).signer.endswith(f"{name}.pub")
        assert cosign("verify", *OFFLINE, "--key", keys / f"{name}.pub", image).returncode == 0


def test_what_cosign_signed_and_attested_is_accepted_here(shop: Shop, theirs: Path, tmp_path: Path) -> None:
    image = shop.push(shop.image(note="theirs"), "theirs")
    key, offline = theirs / "theirs.key", ("--yes", "--tlog-upload=false", "--allow-http-registry")
    assert cosign("sign", *offline, "--key", key, image).returncode == 0
    policy_file = theirs / "policy.toml"
    policy_file.write_text('keys = ["theirs.pub"]\nrequire = ["bom"]')
    assert accept_image(image, make_policy(None, [theirs / "theirs.pub"])).is_signed
    with pytest.raises(Untrusted, match="has no bom that a trusted key signed"):
        accept_image(image, make_policy(policy_file))
    (tmp_path / "bom.json").write_text('{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    done = cosign("attest", *offline, "--key", key, "--type", "cyclonedx", "--predicate", tmp_path / "bom.json", image)
    assert done.returncode == 0, done.stderr
    assert accept_image(image, make_policy(policy_file)).is_signed


def test_cosign_verifies_the_bill_of_materials_and_the_provenance_that_are_attached(shop: Shop, keys: Path) -> None:
    image = shop.push(shop.image(note="attested"), "attested")
    key = load_private(keys / "good.pem")
    signed = sign_image(image, key, Wish(builder="https://ci.example/1"))
    assert [tag.rpartition(".")[2] for tag in signed.written] == ["att", "sig"]
    said: dict[str, Any] = {}
    for kind in ("cyclonedx", "slsaprovenance1"):
        done = cosign("verify-attestation", *OFFLINE, "--key", keys / "good.pub", "--type", kind, image)
        assert done.returncode == 0, done.stderr
        said[kind] = json.loads(base64.b64decode(json.loads(done.stdout)["payload"]))["predicate"]
    assert said["cyclonedx"]["metadata"]["component"]["version"] == image.partition("@")[2]
    assert {one["type"] for one in said["cyclonedx"]["components"]} == {"machine-learning-model", "library"}
    dependencies = said["slsaprovenance1"]["buildDefinition"]["resolvedDependencies"]
    assert dependencies[0]["digest"]["sha256"] == load_bundle(shop.bundle).manifest.digest
    assert said["cyclonedx"] == describe_image(image).document
    (keys / "all.toml").write_text('keys = ["good.pub"]\nrequire = ["bom", "provenance"]')
    assert accept_image(image, make_policy(keys / "all.toml")).is_signed
    assert sign_image(image, key, Wish(builder="https://ci.example/1")).written == ()


def test_an_unsigned_image_is_refused(shop: Shop, keys: Path) -> None:
    image = shop.push(shop.image(note="plain"), "plain")
    with pytest.raises(Untrusted, match=r"plain@sha256:.* is not signed") as refused:
        accept_image(image, make_policy(None, [keys / "good.pub"]))
    assert "ferryman sign" in refused.value.hint
    with pytest.raises(ConfigError, match="whose signature"):
        accept_image(image, make_policy(None))


def test_another_images_signature_is_refused(shop: Shop, keys: Path) -> None:
    good, evil = shop.push(shop.image(note="good"), "moved"), shop.push(shop.image(note="evil"), "moved")
    sign_image(good, load_private(keys / "good.pem"), BARE)
    reference = Reference.parse(good)
    with Registry.of(reference) as registry:
        signature = registry.pull(reference.tagged(tag_of(reference.digest, "sig")), shop.blobs)
        registry.push(shop.blobs, signature, reference.tagged(tag_of(Reference.parse(evil).digest, "sig")))
    with pytest.raises(Untrusted, match="is not what was signed"):
        accept_image(evil, make_policy(None, [keys / "good.pub"]))
    assert cosign("verify", *OFFLINE, "--key", keys / "good.pub", evil).returncode != 0


@pytest.mark.parametrize(
    ("payload", "annotation"),
    [(b"{", "AAAA"), (b"{}", "%%"), (b"[]", None), (b"[" * 100_000, "AAAA")],
    ids=["half", "no base64", "no signature", "deep"],
)  # fmt: skip
def test_a_hostile_signature_is_refused(shop: Shop, keys: Path, payload: bytes, annotation: str | None) -> None:
    reference = Reference.parse(shop.push(shop.image(note=repr(payload[:9])), "hostile"))
    about = {} if annotation is None else {"dev.cosignproject.cosign/signature": annotation}
    layer = Descriptor(SIMPLE, *shop.blobs.add_bytes(payload), about)
    made = [Layer(layer, layer.digest, layer.size)]
    manifest = write_image(shop.blobs, ImageConfig(), made, platform=Platform("linux", "amd64"))
    with Registry.of(reference) as registry:
        registry.push(shop.blobs, manifest, reference.tagged(tag_of(reference.digest, "sig")))
    with pytest.raises(Untrusted):
        accept_image(str(reference), make_policy(None, [keys / "good.pub"]))


def test_an_image_for_several_platforms_is_signed_with_all_of_its_images(shop: Shop, keys: Path) -> None:
    images = [shop.image(architecture=name, note="several") for name in ("amd64", "arm64")]
    index = shop.push(write_index(shop.blobs, images), "several")
    signed = sign_image(index, load_private(keys / "good.pem"))
    assert len(signed.written) == 5, "two attestations and three signatures"
    single = f"{index.partition('@')[0]}@{images[1].digest}"
    for image in (index, single):
        assert cosign("verify", *OFFLINE, "--key", keys / "good.pub", image).returncode == 0
    (keys / "all.toml").write_text('keys = ["good.pub"]\nrequire = ["bom", "provenance"]')
    assert accept_image(index, make_policy(keys / "all.toml")).digest == index.partition("@")[2]


def test_an_image_that_does_not_say_what_is_in_it_can_be_signed_bare(shop: Shop, keys: Path) -> None:
    image = shop.push(shop.image(note="silent", says=False), "silent")
    with pytest.raises(ImageError, match=r"has no /opt/ferryman/contents\.json") as refused:
        sign_image(image, load_private(keys / "good.pem"))
    assert "--bare" in refused.value.hint
    assert sign_image(image, load_private(keys / "good.pem"), BARE).written


def test_a_dry_run_pushes_nothing(shop: Shop, keys: Path) -> None:
    image = shop.push(shop.image(note="dry"), "dry")
    would = sign_image(image, load_private(keys / "good.pem"), Wish(dry_run=True)).written
    with pytest.raises(Untrusted, match="is not signed"):
        accept_image(image, make_policy(None, [keys / "good.pub"]))
    assert would == sign_image(image, load_private(keys / "good.pem")).written != ()
    assert sign_image(image, load_private(keys / "good.pem"), Wish(dry_run=True)).written == ()


def test_what_cosign_says_of_keyless_signatures_is_told(
    shop: Shop, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = shop.push(shop.image(note="keyless"), "keyless")
    with pytest.raises(Untrusted, match="cosign verify: "):
        accept_keyless(image, identity="ada@example.com", issuer="https://issuer.example")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingExtra, match="needs the program cosign"):
        sign_keyless(image)


def test_a_bundle_in_a_registry_is_no_image_and_the_way_out_is_told(shop: Shop, keys: Path) -> None:
    name = push(shop.bundle, f"{shop.host}/packed:1").reference
    for work in (lambda: sign_image(name, load_private(keys / "good.pem")), lambda: describe_image(name)):
        with pytest.raises(ConfigError, match="is a bundle, no image") as refused:
            work()
        assert "ferryman pull" in refused.value.hint


@pytest.mark.parametrize("name", [".wh.bundle", "bundle/.wh..wh..opq", "opt/.wh.ferryman"])
def test_an_image_that_takes_away_what_it_says_of_itself_is_not_vouched_for(shop: Shop, keys: Path, name: str) -> None:
    base = read_image(shop.blobs, shop.image(note="hidden"))
    listed = [Layer(one, diff, one.size) for one, diff in zip(base.layers, base.diff_ids, strict=True)]
    over = write_layer([Entry(name, content=b"")], shop.blobs)
    image = write_image(shop.blobs, ImageConfig(), [*listed, over], platform=Platform("linux", "amd64"))
    with pytest.raises(ImageError, match="hides what lies below"):
        sign_image(shop.push(image, "hidden"), load_private(keys / "good.pem"))


def test_an_image_whose_bundle_is_a_link_is_not_vouched_for(shop: Shop) -> None:
    base = read_image(shop.blobs, shop.image(note="linked"))
    listed = [Layer(one, diff, one.size) for one, diff in zip(base.layers, base.diff_ids, strict=True)]
    over = write_layer([Entry("bundle", link="/other", kind="link")], shop.blobs)
    image = write_image(shop.blobs, ImageConfig(), [*listed, over], platform=Platform("linux", "amd64"))
    with pytest.raises(ImageError, match="/bundle hides what lies below"):
        describe_image(shop.push(image, "linked"))


def test_an_index_in_an_index_is_not_accepted_unseen(shop: Shop, keys: Path) -> None:
    inner = write_index(shop.blobs, [shop.image(note="inner")])
    index = shop.push(write_index(shop.blobs, [inner]), "nested")
    with pytest.raises(ImageError, match="has an index in it"):
        sign_image(index, load_private(keys / "good.pem"))


def test_a_layer_whose_header_would_fill_memory_is_refused(shop: Shop) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("note")
        member.pax_headers = {"comment": "x" * 2_000_000}
        tar.addfile(member)
    digest, size = shop.blobs.add_bytes(packed.getvalue())
    layer = Layer(Descriptor(LAYER, digest, size), digest, size)
    image = write_image(shop.blobs, ImageConfig(), [layer], platform=Platform("linux", "amd64"))
    with pytest.raises(ImageError, match="a tar's header claims"):
        describe_image(shop.push(image, "bomb"))

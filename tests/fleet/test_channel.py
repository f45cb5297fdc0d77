"""What a fleet's operator may release."""

from pathlib import Path

import pytest

from ferryman.core.bundle import Bundle
from ferryman.core.errors import BundleError
from ferryman.fleet.channel import Channel
from ferryman.oci.blobs import Blobs
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from ferryman.supply.modelpack import push_bundle
from tests.oci.making import make_image
from tests.oci.registries import docker_registry


@pytest.mark.tool("docker-registry")
def test_a_bundle_is_pinned_and_an_image_is_refused_before_any_box_sees_it(
    tmp_path: Path, versions: dict[str, Bundle]
) -> None:
    with docker_registry(tmp_path) as host:
        channel = Channel(f"{host}/fleet/street:stable", "street")
        bundle, image = (Reference.parse(f"{host}/models/{name}:1") for name in ("affine", "image"))
        with Registry.of(bundle) as registry:
            moved = push_bundle(versions["one"].path, bundle, registry)
        blobs = Blobs(tmp_path / "image")
        with Registry.of(image) as registry:
            registry.push(blobs, make_image(blobs), image)
        assert channel.resolve(str(bundle)) == (moved.reference, moved.moved_bytes + moved.kept_bytes)
        with pytest.raises(BundleError, match="is no model: it is a container image") as refused:
            channel.resolve(str(image))
        assert "ferryman push" in refused.value.hint

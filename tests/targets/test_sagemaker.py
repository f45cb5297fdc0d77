"""SageMaker: what is rendered, and what becomes of an endpoint in moto's AWS, over HTTP, through boto3."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import silent
from ferryman.core.target import Change, Landing
from ferryman.oci.blobs import Blobs
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry
from tests.oci.making import make_image, make_index
from tests.oci.registries import docker_registry
from tests.targets.aws_cloud import ACCOUNT, PING, REGION, Cloud, cloud
from tests.targets.making import landing, target

ROLE = f"arn:aws:iam::{ACCOUNT}:role/ferryman"
_HTPASSWD = "AWS:$2b$04$abcdefghijklmnopqrstuu/cMn6kFoLFEf9ShbIPSVtJoiKQtizZG\n"  # moto's token for that account


@pytest.fixture(scope="module")
def source_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("source")) as host:
        yield host


@pytest.fixture(scope="module")
def ecr_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("ecr")
    (folder / "htpasswd").write_text(_HTPASSWD)
    with docker_registry(folder, {"htpasswd": {"realm": "ecr", "path": str(folder / "htpasswd")}}) as host:
        yield host


@pytest.fixture(scope="module")
def images(source_host: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Give three images in a registry, by digest; the last is an index of two platforms."""
    blobs = Blobs(tmp_path_factory.mktemp("blobs"))
    made = [make_image(blobs, b"one\n"), make_image(blobs, b"two\n"), make_index(blobs, b"three\n")]
    names = []
    with Registry(source_host) as registry:
        for number, image in enumerate(made):
            reference = Reference.parse(f"{source_host}/factory/street:{number}")
            registry.push(blobs, image, reference)
            names.append(str(reference.pinned(image.digest)))
    return names


@pytest.fixture
def aws(ecr_host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cloud]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with cloud(monkeypatch) as one:
        one.proxy = f"http://{ecr_host}"
        yield one


def sagemaker(**settings: Any) -> Any:  # a Target
    said = {"region": REGION, "role": ROLE, "repository": "street", "wait_s": 20, **settings}
    return target("sagemaker", **said)


def apply(one: Landing, dry_run: bool = False, **settings: Any) -> list[Change]:
    changes: list[Change] = sagemaker(**settings).apply(one, dry_run=dry_run, progress=silent)
    return changes


def moves(changes: list[Change]) -> list[str]:
    return [f"{change.move} {change.what.partition(' street-')[0]}" for change in changes]


@pytest.mark.tool("docker-registry")
def test_apply_copies_the_image_makes_everything_and_the_second_time_changes_nothing(
    aws: Cloud, images: list[str]
) -> None:
    first = landing(image=images[0], p99_ms=50.0)
    planned = apply(first, dry_run=True)
    assert aws.client("sagemaker").list_models()["Models"] == []
    assert apply(first) == planned
    print(moves(planned))
    assert sagemaker().status("street").is_ready
    assert {change.move for change in apply(first)} == {"keep"}

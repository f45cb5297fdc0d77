"""Copy an image into ECR, as Docker's manifest, which is what SageMaker takes."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from ferryman.core.errors import DeployError, NotInRegistry
from ferryman.core.progress import Progress
from ferryman.core.scratch import scratch_folder, user_cache
from ferryman.core.target import Change
from ferryman.oci.auth import Credentials
from ferryman.oci.blobs import Blobs
from ferryman.oci.descriptor import Platform
from ferryman.oci.registry import Registry
from ferryman.targets.aws.account import Account
from ferryman.targets.aws.docker_manifest import as_docker
from ferryman.targets.aws.place import Place
from ferryman.targets.aws.wanted import tag_list

_SERVICE = "ecr"


def compare(account: Account, place: Place) -> list[Change]:
    """Tell whether the repository and the image are there."""
    what = f"image {place.image.repository}:{place.image.tag}"
    if _repository(account, place) is None:
        return [Change("create", f"repository {place.image.repository}"), Change("create", what)]
    return [Change("keep" if _has(account, place) else "create", what)]


def bring(account: Account, place: Place, tags: dict[str, str], progress: Progress) -> None:
    """Copy the image where it isn't there yet, into a repository that is made where there is none.

    What a break left unfinished isn't seen: the tag comes last. Raises ImageError, RegistryError, DeployError.
    """
    if _repository(account, place) is None:
        account.ask(
            _SERVICE, "create_repository", repositoryName=place.image.repository, imageTagMutability="IMMUTABLE",
            tags=tag_list(tags),
        )  # fmt: skip
    if _has(account, place):
        return
    parent = user_cache() / "ferryman" / "ecr"
    parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(parent, prefix="copy-") as folder, _registry(account, place) as registry:
        blobs, platform = Blobs(folder), Platform("linux", place.architecture)
        if place.source.host == place.image.host:
            found = registry.pull(place.source, blobs, platform=platform, progress=progress)
        else:
            with Registry.of(place.source) as origin:
                found = origin.pull(place.source, blobs, platform=platform, progress=progress)
        mounts = [place.source.repository] if place.source.host == place.image.host else []
        registry.push(blobs, as_docker(blobs, found), place.image, mounts=mounts, progress=progress)


def _repository(account: Account, place: Place) -> dict[str, object] | None:
    named = {"registryId": _owner(place), "repositoryNames": [place.image.repository]}
    found = account.find(_SERVICE, "describe_repositories", **named)
    return found["repositories"][0] if found else None


def _has(account: Account, place: Place) -> bool:
    with _registry(account, place) as registry:
        try:
            registry.resolve(place.image)
        except NotInRegistry:
            return False
    return True


@contextmanager
def _registry(account: Account, place: Place) -> Iterator[Registry]:
    """Give the registry, as AWS says where it is and lets us in for some hours."""
    answer = account.ask(_SERVICE, "get_authorization_token", registryIds=[_owner(place)])
    told = answer["authorizationData"][0]
    user, _, password = base64.b64decode(told["authorizationToken"]).decode().partition(":")
    host = urlsplit(told["proxyEndpoint"]).netloc
    if not host or not password:
        raise DeployError(f"ECR gives no way in to {place.image.host}", hint="try: aws ecr get-authorization-token")
    with Registry(host, auth=Credentials(user, password)) as registry:
        yield registry


def _owner(place: Place) -> str:
    return place.image.host.partition(".")[0]

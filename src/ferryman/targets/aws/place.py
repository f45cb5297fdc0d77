"""Where an image goes in ECR, told from its name and the settings alone."""

import re
from dataclasses import dataclass

from ferryman.core.errors import ConfigError
from ferryman.oci.reference import Reference
from ferryman.targets.aws.settings import SageMakerSection

_HOST = re.compile(r"(?P<account>\d{12})\.dkr\.ecr(-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.(com(\.cn)?|eu)")
_ENDS = {"aws-cn": "com.cn", "aws-eusc": "eu"}  # "com" in the other partitions that are open to all
_ARM = re.compile(r"ml\.[a-z]+\d+g[a-z]*\.")  # Graviton: the g that follows the generation, as in ml.c7g.large
_HERE = "localhost"


@dataclass(frozen=True, slots=True)
class Place:
    """Hold what SageMaker is to run: `image` in ECR, for `architecture`, and the image that it is copied from."""

    region: str
    image: Reference
    source: Reference
    architecture: str


def place_of(image: str, section: SageMakerSection) -> Place:
    """Say where an image goes; raises ConfigError where region, role or repository is missing or doesn't fit.

    SageMaker takes no OCI manifests, so that even an image that is in ECR may have to be written again, as Docker's.
    The tag names the image that it was made of, and is therefore known before anything is copied.
    """
    source = Reference.parse(image)
    if source.host == _HERE or not source.digest:
        raise ConfigError(
            f"{image} is in no registry, or has no digest there",
            hint="ferryman package BUNDLE --tag HOST/NAME:TAG --push, and name that",
        )
    repository = _repository(source, section)
    region = section.region or _region_in(str(repository))
    if _region_in(str(repository)) != region:
        raise ConfigError(
            f"{repository.host} is not ECR in {region}: SageMaker takes images from its own region alone",
            hint='set repository = "a-name": `apply` copies the image there',
        )
    architecture = "arm64" if _ARM.match(section.instance_type) and section.serverless is None else "amd64"
    tag = f"{architecture}-{source.digest.partition(':')[2]}"
    return Place(region, repository.tagged(tag), source.pinned(source.digest), architecture)


def _repository(source: Reference, section: SageMakerSection) -> Reference:
    said = section.repository
    if not said:
        if not _HOST.fullmatch(source.host):
            raise ConfigError(
                f"{source} is not in ECR, and SageMaker takes images from nowhere else",
                hint='set repository = "a-name" in the target\'s section: `apply` copies the image there',
            )
        return source
    if "/" in said and "." in said.partition("/")[0]:  # a host; a repository's own name may have dots, too
        return Reference.parse(said)
    _, partition, _, _, account, *_ = role_of(section).split(":")
    host = f"{account}.dkr.ecr.{region_of(section)}.amazonaws.{_ENDS.get(partition, 'com')}"
    return Reference.parse(f"{host}/{said}")


def region_of(section: SageMakerSection) -> str:
    """Give the region that the section names, by itself or in an image's name; raises ConfigError where it doesn't."""
    region = section.region or _region_in(section.repository) or _region_in(section.image)
    if not region:
        raise ConfigError("no AWS region is named", hint='set region = "eu-central-1" in the target\'s section')
    return region


def _region_in(name: str) -> str:
    match = _HOST.fullmatch(name.partition("/")[0])
    return match["region"] if match else ""


def role_of(section: SageMakerSection) -> str:
    """Give the role's ARN; raises ConfigError where none is named."""
    if not section.role:
        raise ConfigError(
            "no role is named for SageMaker to take on",
            hint='set role = "arn:aws:iam::ACCOUNT:role/NAME" in the target\'s section; '
            "it must trust sagemaker.amazonaws.com and may pull from ECR",
        )
    return section.role

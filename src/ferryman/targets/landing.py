"""What a target is told of a bundle: its name there, its image, and the room that its contract asks for."""

import math
import re

from ferryman.core.bundle import Bundle
from ferryman.core.contract import serving_mib
from ferryman.core.errors import ConfigError
from ferryman.core.target import Landing, TargetSection

WITHOUT_PROMISE_MB = 1024
"""A copy's memory in MiB where the contract promises none."""

_NOT_IN_A_LABEL = re.compile(r"[^a-z0-9]+")
_LONGEST = 40  # names made of it add up to 20 signs, and a DNS label has 63


def land(bundle: Bundle, target: TargetSection, image: str) -> Landing:
    """Make a bundle's landing; raises ConfigError for a model whose name leaves no DNS label."""
    contract, model = bundle.deployment.contract, bundle.manifest.name
    cpus, tuned = target.cpus or 1.0, bundle.tuning.choice if bundle.tuning else None
    built_for = tuned.threads * tuned.instances if tuned else bundle.deployment.build.threads
    return Landing(
        name=target.service or label_of(model),
        model=model,
        image=image,
        digest=bundle.manifest.digest,
        format=bundle.manifest.format,
        memory_mb=target.memory_mb or memory_mb(contract.max_rss_mb),
        cpus=target.cpus or float(built_for or 1),
        threads=0 if built_for else math.ceil(cpus),  # or it would take every core of the machine that it lands on
        folder=bundle.path,
        cold_start_s=contract.max_cold_start_s,
        p99_ms=contract.p99_ms,
    )


def memory_mb(max_rss_mb: float | None) -> int:
    """Give a copy's memory in MiB of what the contract promises for the model's process, in 10^6 bytes."""
    return WITHOUT_PROMISE_MB if max_rss_mb is None else serving_mib(max_rss_mb)


def label_of(model: str) -> str:
    """Give a DNS label (RFC 1123) for a model's name; raises ConfigError where nothing of it is left."""
    label = _NOT_IN_A_LABEL.sub("-", model.lower())[:_LONGEST].strip("-").lstrip("0123456789-")
    if not label:
        raise ConfigError(f"'{model}' gives no DNS label", hint='set service = "a-name" in the target\'s section')
    return label

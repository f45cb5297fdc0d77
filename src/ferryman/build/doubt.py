"""Doubt a source that answers by chance: a contract that only compares with it promises nothing."""

import math
from collections.abc import Mapping

from ferryman.build.workshop import Workshop
from ferryman.core.signature import Signature
from ferryman.core.task import TaskSpec

_LEAST_MAP = 0.02
_LEAST_SHARE = 0.05
_TIMES_CHANCE = 3.0
_OVER_CHANCE = 0.1


def doubt_source(workshop: Workshop) -> str:
    """Say that the source is hardly better than chance on the labelled samples; empty where it is, or nothing tells."""
    source, count = workshop.source_figures, len(workshop.samples.items)
    figures: Mapping[str, float] = source.get("figures", {})
    asked = "are labels and [task] input right? the contract only compares with it"
    if workshop.deployment.task.kind == "detect" and figures.get("map", 1.0) < _LEAST_MAP:
        return f"the source itself measures map {figures['map']:.3g} on {count} samples: {asked}"
    share = figures.get("top1", figures.get("accuracy"))
    classes = count_classes(workshop.deployment.task, workshop.source.signature) or len(_labels(workshop))
    if share is None or classes < 2 or share >= least_share(classes):
        return ""
    return f"the source itself is right on {share * count:.0f} of {count} (chance: {count / classes:.2g}): {asked}"


def least_share(classes: int) -> float:
    """Give the share of right answers under which a classifier is hardly better than chance.

    Three times chance; where that is most of what there is, a tenth of the way from chance to all.
    """
    chance = 1 / classes
    return max(min(_TIMES_CHANCE * chance, chance + _OVER_CHANCE * (1 - chance)), _LEAST_SHARE)


def count_classes(spec: TaskSpec, signature: Signature) -> int:
    """Give the number of classes that labels or an output tell; 0 where neither does."""
    labels = getattr(spec, "labels", None)
    if isinstance(labels, tuple | list) and labels:
        return len(labels)
    if spec.kind != "classify":
        return 0
    ports = {port.name: port for port in signature.outputs}
    port = ports.get(getattr(spec, "output", None) or "", signature.outputs[0])
    sizes = [size for size in port.shape[1:] if isinstance(size, int)]
    return math.prod(sizes) if len(sizes) == len(port.shape) - 1 else 0


def _labels(workshop: Workshop) -> set[str]:
    return {str(truth) for truth in workshop.samples.truths or ()}

"""Which ways to serve are worth trying."""

from ferryman.core.bundle import Bundle, Choice

_BATCHES = (8, 32, 1)  # where there is no time for all, the most telling ones come first


def list_candidates(bundle: Bundle, cores: int) -> list[Choice]:
    """Give every sensible split of the cores, each with several batch sizes where the model takes batches.

    Splits use all cores (threads x instances), and one core alone, which wins where the server itself needs the others.
    """
    splits = {(threads, cores // threads) for threads in range(1, cores + 1) if cores % threads == 0}
    splits.add((1, 1))
    limit = bundle.artifact.signature.max_batch
    batches = [size for size in _BATCHES if limit is None or size <= limit]
    return [
        Choice(threads=threads, instances=instances, max_batch=size)
        for size in batches or [1]
        for threads, instances in sorted(splits, reverse=True)
    ]

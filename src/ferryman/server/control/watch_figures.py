"""What the front counts of each version, as the watch hears it every two seconds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ferryman.server.data.signals.processes import resident_bytes
from ferryman.server.data.signals.served import ServedMetrics


def read_figures(served: Sequence[ServedMetrics], readiness: Mapping[tuple[str, ...], float]) -> list[dict[str, Any]]:
    """Give, as JSON values, how requests ended, how many were slow, and how the workers are; probes are left out."""
    told = []
    for one in served:
        live, outcomes = one.live, Counter[str]()
        if (one.name, one.version) not in readiness:  # it was unloaded
            continue
        for (outcome, protocol), count in tuple(one.requests.items()):
            if protocol != "probe":
                outcomes[outcome] += count
        pids = live.worker_pids() if live is not None else ()
        golden_ok = live.golden_ok if live is not None else None
        told.append(
            {
                "model": one.name,
                "version": one.version,
                "outcomes": dict(outcomes),
                "slow": one.slow,
                "ready": readiness[one.name, one.version],
                "golden": None if golden_ok is None else float(golden_ok and bool(pids)),
                "memory": max((resident_bytes(pid) for pid in pids), default=None),
            }
        )
    return told

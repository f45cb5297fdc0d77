"""Describe what is served and by whom, for people."""

from typing import Any

from ferryman.server.control.repository import Repository
from ferryman.server.control.supervisor import Supervisor
from ferryman.server.data.dataplane import Dataplane


def describe(repository: Repository, plane: Dataplane) -> dict[str, Any]:  # JSON
    """Give every model with its versions, their workers and what went wrong last."""
    models: dict[str, Any] = {}  # JSON
    for row in repository.index():
        name, version = row["name"], row["version"]
        line = repository.lines.get(name)
        supervisor = line.running.get(version) if line is not None else None
        model = models.setdefault(
            name, {"active": plane.active(name), "chosen": repository.chosen(name), "versions": {}}
        )
        model["versions"][version] = {
            "state": row["state"],
            "reason": row["reason"],
            **(_describe(supervisor) if supervisor is not None else {}),
        }
    return {
        "ready": not plane.why_not_ready(),
        "reason": plane.why_not_ready(),
        "models": models,
        "problems": {str(path): problem for path, problem in repository.shelf.problems.items()},
    }


def _describe(supervisor: Supervisor) -> dict[str, Any]:  # JSON
    served = supervisor.served
    return {
        "digest": supervisor.bundle.manifest.digest,
        "path": str(supervisor.bundle.path),
        "generation": supervisor.generation,
        "engine": served.loaded.engine or supervisor.bundle.manifest.format,
        "device_engine": served.device,
        "golden_ok": supervisor.golden_ok,
        "golden_probes": supervisor.probes,
        "restarts": supervisor.restarts,
        "last_error": supervisor.last_error,
        "max_batch": served.loaded.max_batch,
        "why_unbatched": served.loaded.why_unbatched,
        "load_s": round(served.loaded.load_s, 4),
        "waiting": served.lane.waiting,
        "in_flight": served.lane.in_flight,
        "workers": [
            {"pid": hand.pid, "rss_bytes": hand.rss_bytes, "oldest_job_s": round(hand.job_s, 3)}
            for hand in supervisor.hands()
        ],
    }

"""A Ray cluster of several nodes on one machine; runs in Ray's own Python. A JSON line in, a JSON line out."""

import json
import os
import signal
import sys
from typing import Any

from ray.cluster_utils import Cluster

_STORE_BYTES = 80 * 2**20


def _children(pid: int) -> list[int]:
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent == pid:
            found += [int(entry)]
    return found


class Host:
    """Start and kill nodes; the first one is the head, which has the dashboard, and no room for copies."""

    def __init__(self, dashboard_port: int) -> None:
        self.cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": True,
                "dashboard_host": "127.0.0.1",
                "dashboard_port": dashboard_port,
                "object_store_memory": _STORE_BYTES,
            },
        )
        self.nodes: dict[str, Any] = {}  # Ray's Node: it has no types

    def add(self, name: str, cpus: float) -> dict[str, object]:
        """Start a node with so many cores, as it is told: this machine needn't have them."""
        self.nodes[name] = self.cluster.add_node(num_cpus=cpus, object_store_memory=_STORE_BYTES)
        return {"name": name, "node_id": self.nodes[name].node_id}

    def kill(self, node_id: str) -> dict[str, object]:
        """End a node as a power cut would: its raylet and every process that Ray started there, by SIGKILL.

        Gives, as `left`, what those had started themselves: nobody kills that.
        """
        name = next(name for name, node in self.nodes.items() if node.node_id == node_id)
        raylet = self.nodes.pop(name).all_processes["raylet"][0].process.pid
        victims = [raylet, *_children(raylet)]
        left = [pid for victim in victims[1:] for pid in _children(victim)]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        return {"name": name, "left": left}

    def stop(self) -> dict[str, object]:
        """End all of it."""
        self.cluster.shutdown()
        return {}


def main() -> None:
    """Do what each line says, until there are no more."""
    host = Host(int(sys.argv[1]))
    print("{}", flush=True)
    try:
        for line in sys.stdin:
            order = json.loads(line)
            print(json.dumps(getattr(host, order.pop("do"))(**order)), flush=True)
    finally:
        host.stop()


if __name__ == "__main__":
    main()

"""Kubernetes: a Deployment with all that belongs to it, as files or straight onto the cluster."""

from collections.abc import Iterator
from typing import ClassVar

from ferryman.core.progress import Progress
from ferryman.core.target import Change, Files, Landing, Standing
from ferryman.targets.kube.cluster import Cluster
from ferryman.targets.kube.deploying import bring, read_logs, take_away, tell
from ferryman.targets.kube.objects import KINDS, files, objects
from ferryman.targets.kube.settings import KubernetesSection
from ferryman.targets.kube.waiting import standing, wait


class Kubernetes(KubernetesSection):
    """Run on a Kubernetes cluster, as a Deployment that loses no request when it changes."""

    name: ClassVar[str] = "kubernetes"
    needs: ClassVar[tuple[str, ...]] = ("kubernetes",)
    extra: ClassVar[str] = "kubernetes"

    def render(self, landing: Landing) -> Files:
        """Give a kustomization or a Helm chart."""
        return files(landing, self)

    def apply(self, landing: Landing, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Apply on the server's side, take away what is no longer wanted, and wait for the rollout."""
        wanted = objects(landing, self)
        with self._cluster() as cluster:
            changes = bring(cluster, wanted, KINDS, name=landing.name, dry_run=dry_run, force=self.force_conflicts)
            if not dry_run:
                tell(changes, progress)
                names = [one["metadata"]["name"] for one in wanted if one["kind"] == "Deployment"]
                wait(cluster, landing.name, names, limit_s=self.wait_s, progress=progress)
        return changes

    def status(self, name: str) -> Standing:
        """Tell how many copies answer, and why others don't."""
        with self._cluster() as cluster:
            return standing(cluster, name)

    def logs(self, name: str, *, lines: int) -> Iterator[str]:
        """Yield the last lines of every pod."""
        with self._cluster() as cluster:
            yield from read_logs(cluster, name, container="server", lines=lines)

    def remove(self, name: str, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Delete what carries this name's labels."""
        with self._cluster() as cluster:
            return take_away(cluster, KINDS, name, dry_run=dry_run, limit_s=self.wait_s, progress=progress)

    def _cluster(self) -> Cluster:
        return Cluster(self.context, self.namespace)

"""Ray: the bundle as a Ray Serve application on every node, and KubeRay's RayService as a file."""

import json
import re
from collections.abc import Iterator
from typing import ClassVar

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import Progress
from ferryman.core.target import Change, Files, Landing, Standing
from ferryman.targets.compare import compare_text
from ferryman.targets.polling import until, until_gone
from ferryman.targets.ray_config import APPLICATION, DEPLOYMENT, RaySection, application, doors, serve_config
from ferryman.targets.ray_dashboard import Dashboard, Details
from ferryman.targets.ray_service import ray_service
from ferryman.targets.yaml import write_yaml

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_OURS = "ferryman.core.errors."
_RUNNING, _FAILED = "RUNNING", "DEPLOY_FAILED"


class Ray(RaySection):
    """Run as a Ray Serve application, with copies on every node of a Ray cluster."""

    name: ClassVar[str] = "ray"
    needs: ClassVar[tuple[str, ...]] = ()  # the cluster is asked over HTTP; Ray itself is on its nodes
    extra: ClassVar[str] = ""

    def render(self, landing: Landing) -> Files:
        """Give what `serve deploy` takes and, of an image, KubeRay's RayService."""
        files = {"serve.yaml": write_yaml(serve_config(landing, self))}
        if landing.image:
            files["rayservice.yaml"] = write_yaml(ray_service(landing, self))
        return files

    def apply(self, landing: Landing, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Tell Serve, which replaces copy by copy, and wait until all answer their golden samples."""
        if not (landing.image or self.bundle or landing.folder):
            raise ConfigError("nobody says where the nodes find the bundle", hint='bundle = "..." in the section')
        dashboard, wanted = self._dashboard(), application(landing, self)
        there = _own(dashboard.application(landing.name), landing.name)
        before = None if there is None else there["deployed_app_config"]
        change = compare_text(f"application {landing.name}", before and _text(before), _text(wanted))
        if dry_run:
            return [change]
        if change.move != "keep":
            progress(f"telling {self.address}")
            dashboard.put(wanted, landing.name, doors(self))
        until(lambda: self._look(dashboard, landing.name), limit_s=self.wait_s, name=landing.name, progress=progress)
        return [change]

    def status(self, name: str) -> Standing:
        """Tell how many copies answer, and why others don't."""
        return _standing(_own(self._dashboard().application(name), name), name)

    def logs(self, name: str, *, lines: int) -> Iterator[str]:
        """Yield the last lines of every copy, of those too that have just ended."""
        dashboard = self._dashboard()
        found = _own(dashboard.application(name), name)
        deployment = (found or {}).get("deployments", {}).get(DEPLOYMENT, {})
        for copy in [*deployment.get("recent_dead_replicas", ()), *deployment.get("replicas", ())]:
            if copy.get("node_id") and copy.get("log_file_path"):
                yield from _written(dashboard, copy, lines)

    def remove(self, name: str, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Take the application away; other applications stay."""
        dashboard = self._dashboard()
        there = _own(dashboard.application(name), name)
        if there is None:
            return []
        if not dry_run:
            progress(f"removing {name} from {self.address}")
            dashboard.put(None, name, doors(self))
            until_gone(
                lambda: dashboard.application(name) is not None, limit_s=self.wait_s, name=name, progress=progress
            )
        return [Change("remove", f"application {name}")]

    def _dashboard(self) -> Dashboard:
        return Dashboard(self.address, self.token_file)

    def _look(self, dashboard: Dashboard, name: str) -> Standing:
        found = dashboard.application(name)
        if found is not None and found["status"] == _FAILED:
            raise DeployError(
                f"{name} doesn't come up: " + "\n".join(_standing(found, name).notes), hint="see `ferryman deploy logs`"
            )
        return _standing(found, name)


def _written(dashboard: Dashboard, copy: Details, lines: int) -> Iterator[str]:
    """Give what one copy has written; one whose node can't tell doesn't hide the others."""
    try:
        found = list(dashboard.log(copy["node_id"], copy["log_file_path"], lines=lines))
    except DeployError as error:
        found = [f"can't be read: {error}"]
    yield from (f"{copy['replica_id']} {line}" for line in found)


def _own(found: Details | None, name: str) -> Details | None:
    """Refuse what somebody else has put there under the same name."""
    config = (found or {}).get("deployed_app_config") or {}
    if found is not None and config.get("import_path") != APPLICATION:
        raise DeployError(
            f"the application {name} there is not one of ferryman's", hint='choose another name: service = "..."'
        )
    return found


def _standing(found: Details | None, name: str) -> Standing:
    if found is None:
        return Standing(name, is_there=False, ready=0, wanted=0)
    deployment = found.get("deployments", {}).get(DEPLOYMENT, {})
    wanted = max(int(deployment.get("target_num_replicas", 1)), 0)
    ready = sum(copy["state"] == _RUNNING for copy in deployment.get("replicas", ()))
    notes = [_short(found.get("message", "")), _short(deployment.get("message", ""))]
    if found["status"] != _RUNNING:  # copies of an older version answer, too
        ready, notes = min(ready, max(wanted, 1) - 1), [found["status"], *notes]
        wanted = max(wanted, 1)
    return Standing(name, True, ready, wanted, notes=tuple(dict.fromkeys(note for note in notes if note)))


def _short(message: str) -> str:
    """Leave the trace out of what Ray says, but for its last line: there stands why."""
    lines = [_COLOUR.sub("", line).rstrip() for line in message.splitlines() if line.strip()]
    start = next((place for place, line in enumerate(lines) if line.startswith("ray::")), None)
    if start is None:
        return "\n".join(lines)
    ends = [place for place, line in enumerate(lines) if line.startswith(_OURS)] or [len(lines) - 1]
    why = [lines[ends[-1]].partition(": ")[2] if lines[ends[-1]].startswith(_OURS) else lines[ends[-1]]]
    return "\n".join([*lines[:start], *why, *lines[ends[-1] + 1 :]])


def _text(config: Details) -> str:
    return json.dumps(config, indent=2, sort_keys=True)

"""Azure Container Apps: the image as an app whose revisions take over by their share of the requests."""

from collections.abc import Iterator
from typing import ClassVar

from ferryman.core.plugins import find
from ferryman.core.progress import Progress, silent
from ferryman.core.target import Change, Files, Landing, Standing
from ferryman.targets.azure.app_objects import app
from ferryman.targets.azure.app_rollout import App, is_healthy, roll_out, shares
from ferryman.targets.azure.arm import Arm
from ferryman.targets.azure.settings import ContainerAppsSection
from ferryman.targets.azure.terraform import resource_files
from ferryman.targets.shares import share_notes
from ferryman.targets.yaml import write_yaml

_VERSION = "2025-01-01"


class ContainerApps(ContainerAppsSection):
    """Run on Azure Container Apps, from no copy to many."""

    name: ClassVar[str] = "aca"
    needs: ClassVar[tuple[str, ...]] = ("azure.mgmt.core", "azure.identity")
    extra: ClassVar[str] = "azure"

    def render(self, landing: Landing) -> Files:
        """Give the app as Terraform, and as the YAML of `az containerapp create --yaml`."""
        wanted = app(landing, self)
        newest = [{"latestRevision": True, "weight": 100}]
        wanted["properties"]["configuration"]["ingress"]["traffic"] = newest
        whole = {"type": "Microsoft.App/containerApps", "name": landing.name, **wanted}
        return {
            "main.tf": resource_files({"app": (f"Microsoft.App/containerApps@{_VERSION}", landing.name, wanted)}, self),
            "containerapp.yaml": write_yaml(whole),
        }

    def apply(self, landing: Landing, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Put a revision beside the one that answers, and give it its share once its copies are healthy."""
        wanted = app(landing, self)
        with self._arm(progress) as arm:
            return roll_out(App(arm, landing.name, self.wait_s), wanted, percent=self.percent, dry_run=dry_run)

    def status(self, name: str) -> Standing:
        """Tell how many copies of the revision that answers most there are, and who has which share."""
        with self._arm(silent) as arm:
            here = App(arm, name, self.wait_s)
            live = here.read()
            if live is None:
                return Standing(name, False, 0, 1)
            now, there = shares(live), here.revisions()
            top = there.get(max(now, key=lambda one: now[one], default=""), {})
            container = (top.get("template") or live["properties"]["template"])["containers"][0]
            wanted = max(1, self.least)
            ready = (max(1, top.get("replicas", 1)) if is_healthy(top) else 0) if top else 0
            states = [str(top.get(key)) for key in ("runningState", "healthState", "provisioningError") if top.get(key)]
            notes = [*share_notes(now), *([", ".join(states) or "no revision answers"] if ready < wanted else [])]
            return Standing(name, True, min(ready, wanted), wanted, container["image"], tuple(notes))

    def logs(self, name: str, *, lines: int) -> Iterator[str]:
        """Yield the last lines of every copy that runs."""
        with self._arm(silent) as arm:
            here = App(arm, name, self.wait_s)
            token = arm.ask(f"{here.id}/getAuthtoken", None, "logs")["properties"]["token"]
            for revision, one in sorted(here.revisions().items()):
                if not one.get("active"):
                    continue
                for copy in arm.items(f"{here.id}/revisions/{revision}/replicas", "logs"):
                    for container in copy["properties"]["containers"]:
                        address = f"{container['logStreamEndpoint']}?follow=false&tailLines={lines}&output=text"
                        yield from (f"{copy['name']}: {line}" for line in arm.text(address, token, "logs").splitlines())

    def remove(self, name: str, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Delete the app and its revisions."""
        with self._arm(progress) as arm:
            here = App(arm, name, self.wait_s)
            if here.read() is None:
                return []
            if not dry_run:
                progress(f"removing {here.what}")
                here.delete()
            return [Change("remove", here.what)]

    def _arm(self, progress: Progress) -> Arm:
        find("targets", self.name).require()
        return Arm(self, _VERSION, progress)

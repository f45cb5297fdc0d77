"""Cloud Run: the image as a Service whose revisions take over by their share of the requests."""

from collections.abc import Iterator
from typing import ClassVar

from ferryman.core.plugins import find
from ferryman.core.progress import Progress, silent
from ferryman.core.target import Change, Files, Landing, Standing
from ferryman.targets.google.api import Api
from ferryman.targets.google.logs import read_logs
from ferryman.targets.google.run_rollout import Service, last, roll_out, shares
from ferryman.targets.google.run_service import knative, run_service
from ferryman.targets.google.run_terraform import terraform
from ferryman.targets.google.settings import CloudRunSection
from ferryman.targets.shares import share_notes
from ferryman.targets.yaml import write_yaml


class CloudRun(CloudRunSection):
    """Run on Google's Cloud Run, from no instance to many."""

    name: ClassVar[str] = "cloudrun"
    needs: ClassVar[tuple[str, ...]] = ("googleapiclient",)
    extra: ClassVar[str] = "gcp"

    def render(self, landing: Landing) -> Files:
        """Give the Service as Terraform, and as the YAML of `gcloud run services replace`."""
        wanted = run_service(landing, self)
        return {
            "main.tf": terraform(landing.name, wanted, self),
            "service.yaml": write_yaml(knative(landing.name, wanted)),
        }

    def apply(self, landing: Landing, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Put a revision beside the one that answers, and give it its share once it is ready."""
        wanted = run_service(landing, self)
        with self._api() as api:
            service = Service(api, landing.name, self.wait_s, progress)
            return roll_out(service, wanted, percent=self.percent, dry_run=dry_run)

    def status(self, name: str) -> Standing:
        """Tell whether the Service is ready, which image answers, and who has which share."""
        with self._api() as api:
            service = Service(api, name, self.wait_s, silent)
            live = service.read()
            if live is None:
                return Standing(name, False, 0, 1)
            now = shares(live)
            top = max(now, key=lambda one: now[one], default=last(live.get("latestReadyRevision")))
            revision = service.revision(top) if top else None
            image = ((revision or live["template"]).get("containers") or [{}])[0].get("image", "")
            state = live.get("terminalCondition", {})
            is_ready = bool(now) and state.get("state") == "CONDITION_SUCCEEDED" and not live.get("reconciling")
            notes = share_notes(now)
            if not is_ready:
                notes.append(str(state.get("message") or "it is changing just now"))
            return Standing(name, True, int(is_ready), 1, image, tuple(notes))

    def logs(self, name: str, *, lines: int) -> Iterator[str]:
        """Yield the last lines of every revision, from Cloud Logging."""
        condition = f'resource.type="cloud_run_revision" AND resource.labels.service_name="{name}"'
        with self._api("logging", role="roles/logging.viewer") as api:
            yield from read_logs(api, condition, lines=lines, source="revision_name")

    def remove(self, name: str, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Delete the Service and its revisions."""
        with self._api() as api:
            service = Service(api, name, self.wait_s, progress)
            if service.read() is None:
                return []
            if not dry_run:
                progress(f"removing {service.what}")
                service.delete()
            return [Change("remove", service.what)]

    def _api(self, name: str = "run", role: str = "roles/run.developer, roles/iam.serviceAccountUser") -> Api:
        find("targets", self.name).require()
        return Api(name, "v2", project=self.project, region=self.region, address=self.api, role=role)

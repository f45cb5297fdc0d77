"""Vertex AI: the image as a model's version, deployed to an endpoint whose requests it takes over."""

import json
from collections.abc import Iterator
from typing import ClassVar

from ferryman.core.errors import ConfigError
from ferryman.core.plugins import find
from ferryman.core.progress import Progress, silent
from ferryman.core.target import Change, Files, Landing, Standing
from ferryman.targets.google.api import Api
from ferryman.targets.google.logs import read_logs
from ferryman.targets.google.run_terraform import PROVIDER, place
from ferryman.targets.google.settings import VertexSection
from ferryman.targets.google.vertex_objects import deployment, endpoint, model
from ferryman.targets.google.vertex_rollout import Vertex as Place
from ferryman.targets.google.vertex_rollout import Wanted, deployed, roll_out, shares
from ferryman.targets.shares import share_notes
from ferryman.targets.terraform import Block, Expression, write_terraform


class Vertex(VertexSection):
    """Run on Google's Vertex AI, on machines that follow the load."""

    name: ClassVar[str] = "vertex"
    needs: ClassVar[tuple[str, ...]] = ("googleapiclient",)
    extra: ClassVar[str] = "gcp"

    def render(self, landing: Landing) -> Files:
        """Give the endpoint as Terraform, and the API's requests for what Terraform has no resource for."""
        if not self.project:
            raise ConfigError("the files name the project", hint='set project = "..." in the target\'s section')
        wanted = self._wanted(landing)
        parent = f"projects/{self.project}/locations/{self.region}"
        version = f"{parent}/models/{landing.name}@{wanted.model['versionAliases'][0]}"
        deploy = {"deployedModel": {"model": version, **wanted.deployment}, "trafficSplit": {"0": 100}}
        upload = {"modelId": landing.name, "model": wanted.model}
        resource = Block(
            "resource",
            ("google_vertex_ai_endpoint", "endpoint"),
            {
                "name": landing.name,
                "display_name": landing.name,
                **place(self),
                "labels": wanted.endpoint["labels"],
                "dedicated_endpoint_enabled": wanted.endpoint.get("dedicatedEndpointEnabled"),
            },
        )
        uri = Block("output", ("endpoint",), {"value": Expression("google_vertex_ai_endpoint.endpoint.id")})
        return {
            "main.tf": write_terraform([PROVIDER, resource, uri]),
            "upload.json": json.dumps(upload, indent=2) + "\n",
            "deploy.json": json.dumps(deploy, indent=2) + "\n",
        }

    def apply(self, landing: Landing, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Upload the version, deploy it beside the one that answers, and give it its share."""
        wanted = self._wanted(landing)
        with self._api() as api:
            return roll_out(Place(api, landing.name, self.wait_s, progress), wanted, dry_run=dry_run)

    def status(self, name: str) -> Standing:
        """Tell how many machines of the version that answers most are there."""
        with self._api() as api:
            here = Place(api, name, self.wait_s, silent)
            found = here.endpoint()
            now = shares(found)
            if found is None or not now:
                return Standing(name, found is not None, 0, 1, notes=("nothing is deployed",) if found else ())
            top = max(now, key=lambda one: now[one])
            one = next(each for each in deployed(found) if each["displayName"] == top)
            version = api.find(api.resource("models").get(name=one["model"].partition("@")[0] + _at(one)), "model")
            state, wanted = one.get("status", {}), int(one["dedicatedResources"]["minReplicaCount"])
            ready = int(state.get("availableReplicaCount", 0))
            notes = [*share_notes(now), *([state["message"]] if ready < wanted and state.get("message") else [])]
            image = (version or {}).get("containerSpec", {}).get("imageUri", "")
            return Standing(name, True, ready, wanted, image, tuple(notes))

    def logs(self, name: str, *, lines: int) -> Iterator[str]:
        """Yield the last lines of every deployed version, from Cloud Logging."""
        with self._api() as api:
            found = Place(api, name, self.wait_s, silent).endpoint()
        if found is None:
            return
        number = found["name"].rpartition("/")[2]
        condition = f'resource.type="aiplatform.googleapis.com/Endpoint" AND resource.labels.endpoint_id="{number}"'
        with self._api("logging", "v2", role="roles/logging.viewer") as api:
            yield from read_logs(api, condition, lines=lines, source="endpoint_id")

    def remove(self, name: str, *, dry_run: bool, progress: Progress) -> list[Change]:
        """Take every version off its machines, and delete the endpoint and the model."""
        with self._api() as api:
            here = Place(api, name, self.wait_s, progress)
            found, uploaded = here.endpoint(), here.version()
            changes = [Change("remove", f"deployment {one['displayName']}") for one in deployed(found)]
            changes += [Change("remove", f"endpoint {name}")] if found else []
            changes += [Change("remove", f"model {name}")] if uploaded else []
            if dry_run or not changes:
                return changes
            progress(f"removing {name}")
            left = deployed(found)
            for index, one in enumerate(left):
                rest = left[index + 1 :]
                here.undeploy(found or {}, one, {rest[0]["id"]: 100} if rest else None)
            here.delete(found, uploaded)
            return changes

    def _wanted(self, landing: Landing) -> Wanted:
        version = model(landing, self)
        return Wanted(endpoint(landing, self), version, deployment(landing, self, version), self.percent)

    def _api(self, name: str = "aiplatform", version: str = "v1", role: str = "roles/aiplatform.user") -> Api:
        find("targets", self.name).require()
        address = self.api or ("" if name == "logging" else f"https://{self.region}-aiplatform.googleapis.com")
        return Api(name, version, project=self.project, region=self.region, address=address, role=role)


def _at(one: dict[str, str]) -> str:
    return f"@{one['modelVersionId']}" if one.get("modelVersionId") else ""

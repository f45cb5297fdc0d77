"""How Vertex AI takes a new version: deployed beside the old one without traffic, then given its share."""

import re
from dataclasses import dataclass
from typing import Any

from ferryman.core.errors import DeployError
from ferryman.core.progress import Progress
from ferryman.core.target import Change
from ferryman.targets.compare import compare_text
from ferryman.targets.google.api import Api
from ferryman.targets.google.vertex_objects import NAME, OWNER, labels
from ferryman.targets.shares import divided, share_lines
from ferryman.targets.wanted import Json, compare_json, like

_COUNTS = ("minReplicaCount", "maxReplicaCount", "autoscalingMetricSpecs")


@dataclass(frozen=True)
class Wanted:
    """Hold what is wanted: the endpoint, the model's version, how it is deployed, and its percent of the requests."""

    endpoint: Json
    model: Json
    deployment: Json
    percent: int


@dataclass(frozen=True)
class Vertex:
    """Be one model on Vertex AI with its endpoint, there or not."""

    api: Api
    name: str
    limit_s: float
    progress: Progress

    @property
    def model_name(self) -> str:
        """Give the model's name in the API."""
        return f"{self.api.parent}/models/{self.name}"

    def endpoint(self) -> Json | None:
        """Give the endpoint that was made under this name."""
        wanted = labels(self.name)
        told = f"labels.{OWNER}={wanted[OWNER]} AND labels.{NAME}={self.name}"
        listed = self.api.call(self._endpoints.list(parent=self.api.parent, filter=told), "endpoints")
        found = [one for one in listed.get("endpoints", ()) if wanted.items() <= one.get("labels", {}).items()]
        if len(found) > 1:
            names = ", ".join(one["name"] for one in found)
            raise DeployError(
                f"there are {len(found)} endpoints of {self.name}: {names}",
                hint="remove the one that is not wanted: gcloud ai endpoints delete",
            )
        return found[0] if found else None

    def version(self, alias: str = "") -> Json | None:
        """Give the model, or one of its versions; raises DeployError where somebody else made the model."""
        full = f"{self.model_name}@{alias}" if alias else self.model_name
        found = self.api.find(self._models.get(name=full), f"model {self.name}")
        if found is not None and found.get("labels", {}).get(OWNER) != "ferryman":
            raise DeployError(
                f"model {self.name} in {self.api.region} is not one of ferryman's",
                hint='set service = "another-name" in the target\'s section',
            )
        return found

    def create_endpoint(self, body: Json) -> Json:
        """Make the endpoint and give it."""
        request = self._endpoints.create(parent=self.api.parent, body=body)
        return {**body, **self._finish(request, f"endpoint {self.name}")}

    def upload(self, body: Json) -> None:
        """Add a version to the model, or make it with its first one."""
        is_there = self.version() is not None
        where = {"parentModel": self.model_name} if is_there else {"modelId": self.name}
        self._finish(self._models.upload(parent=self.api.parent, body={"model": body, **where}), f"model {self.name}")

    def deploy(self, endpoint: Json, body: Json, split: dict[str, int]) -> None:
        """Deploy a version; "0" in the split is the new one, and an empty split leaves all as it is."""
        told = {"deployedModel": body, **({"trafficSplit": split} if split else {})}
        request = self._endpoints.deployModel(endpoint=endpoint["name"], body=told)
        self._finish(request, f"deployment {body['displayName']}")

    def mutate(self, endpoint: Json, one: Json, resources: Json) -> None:
        """Change how many machines a deployed version has."""
        body = {"id": one["id"], "dedicatedResources": resources}
        mask = ",".join(
            f"dedicated_resources.{key}"
            for key in ("min_replica_count", "max_replica_count", "autoscaling_metric_specs")
        )
        told = {"deployedModel": body, "updateMask": mask}
        request = self._endpoints.mutateDeployedModel(endpoint=endpoint["name"], body=told)
        self._finish(request, f"deployment {one['displayName']}")

    def split(self, endpoint: Json, split: dict[str, int]) -> None:
        """Divide the requests."""
        request = self._endpoints.patch(
            name=endpoint["name"], updateMask="trafficSplit", body={"trafficSplit": split, "etag": endpoint.get("etag")}
        )
        self.api.call(request, f"endpoint {self.name}")

    def undeploy(self, endpoint: Json, one: Json, split: dict[str, int] | None = None) -> None:
        """Take a deployed version off its machines."""
        body = {"deployedModelId": one["id"], **({"trafficSplit": split} if split else {})}
        request = self._endpoints.undeployModel(endpoint=endpoint["name"], body=body)
        self._finish(request, f"deployment {one['displayName']}")

    def delete(self, endpoint: Json | None, model: Json | None) -> None:
        """Take endpoint and model away."""
        if endpoint is not None:
            self._finish(self._endpoints.delete(name=endpoint["name"]), f"endpoint {self.name}")
        if model is not None:
            self._finish(self._models.delete(name=self.model_name), f"model {self.name}")

    def _finish(self, request: Any, what: str) -> Json:  # a request of the client
        operation = self.api.call(request, what)
        return self.api.finish(operation, what, limit_s=self.limit_s, progress=self.progress)

    @property
    def _endpoints(self) -> Any:  # a resource of the client
        return self.api.resource("endpoints")

    @property
    def _models(self) -> Any:  # a resource of the client
        return self.api.resource("models")


def shares(endpoint: Json | None) -> dict[str, int]:
    """Give the percent of the requests that each deployed version answers, by its name."""
    split = (endpoint or {}).get("trafficSplit", {})
    return {one["displayName"]: split[one["id"]] for one in deployed(endpoint) if split.get(one["id"])}


def idle(endpoint: Json | None, then: dict[str, int]) -> list[Json]:
    """Give what we have deployed and nothing asks for: what gets no share, and what a broken-off try left twice."""
    split, kept = (endpoint or {}).get("trafficSplit", {}), dict[str, str]()
    own = re.compile(re.escape((endpoint or {}).get("labels", {}).get(NAME, "")) + r"-[0-9a-f]{10}")
    ours = [one for one in deployed(endpoint) if own.fullmatch(one["displayName"])]
    for one in sorted(ours, key=lambda each: -split.get(each["id"], 0)):
        kept.setdefault(one["displayName"], one["id"])
    return [one for one in ours if one["displayName"] not in then or kept[one["displayName"]] != one["id"]]


def deployed(endpoint: Json | None) -> list[Json]:
    """Give what is deployed to an endpoint."""
    found: list[Json] = (endpoint or {}).get("deployedModels", [])
    return found


def roll_out(vertex: Vertex, wanted: Wanted, *, dry_run: bool) -> list[Change]:
    """Bring endpoint, model and deployment to what is wanted; what fails leaves the traffic where it was."""
    endpoint, alias = vertex.endpoint(), wanted.model["versionAliases"][0]
    if endpoint is not None:
        _check_address(endpoint, wanted.endpoint)
    version = vertex.version(alias)
    here = next((one for one in deployed(endpoint) if one["displayName"] == wanted.deployment["displayName"]), None)
    now = shares(endpoint)
    then = divided(now, wanted.deployment["displayName"], wanted.percent)
    changes = [
        _existing(f"endpoint {vertex.name}", endpoint, wanted.endpoint),
        _existing(f"model {vertex.name}@{alias}", version, wanted.model),
        compare_json(
            f"deployment {wanted.deployment['displayName']}",
            here,
            _counts(wanted.deployment) if here else wanted.deployment,
        ),
        compare_text("traffic", share_lines(now) if endpoint else None, share_lines(then)),
        *(Change("remove", f"deployment {one['displayName']}") for one in idle(endpoint, then)),
    ]
    if not dry_run and any(change.move != "keep" for change in changes):
        _bring(vertex, wanted, endpoint, is_uploaded=version is not None)
        _shift(vertex, then)
    return changes


def _existing(what: str, there: Json | None, wanted: Json) -> Change:
    """Tell what is made once and never changes: its name stands for what is in it."""
    return compare_json(what, None, wanted) if there is None else Change("keep", what)


def _counts(deployment: Json) -> Json:
    return {"dedicatedResources": {key: deployment["dedicatedResources"][key] for key in _COUNTS}}


def _check_address(endpoint: Json, wanted: Json) -> None:
    there, asked = (bool(one.get("dedicatedEndpointEnabled")) for one in (endpoint, wanted))
    if there != asked:
        raise DeployError(
            f"the endpoint has {'an' if there else 'no'} address of its own, which never changes",
            hint=f"set dedicated = {str(there).lower()}, or `ferryman deploy remove` it first",
        )


def _bring(vertex: Vertex, wanted: Wanted, endpoint: Json | None, *, is_uploaded: bool) -> None:
    alias = wanted.model["versionAliases"][0]
    if not is_uploaded:
        vertex.progress(f"uploading model {vertex.name}")
        vertex.upload(wanted.model)
    if endpoint is None:
        vertex.progress(f"making endpoint {vertex.name}")
        endpoint = vertex.create_endpoint(wanted.endpoint)
    here = next((one for one in deployed(endpoint) if one["displayName"] == wanted.deployment["displayName"]), None)
    if here is None:
        vertex.progress(f"deploying {wanted.deployment['displayName']}")
        body = {**wanted.deployment, "model": f"{vertex.model_name}@{alias}"}
        vertex.deploy(endpoint, body, {} if deployed(endpoint) else {"0": 100})
    elif like(here, _counts(wanted.deployment)) != _counts(wanted.deployment):
        vertex.progress(f"scaling {wanted.deployment['displayName']}")
        vertex.mutate(endpoint, here, wanted.deployment["dedicatedResources"])


def _shift(vertex: Vertex, then: dict[str, int]) -> None:
    """Give the new version its share, and take off the machines what has none any more."""
    endpoint = vertex.endpoint() or {}
    left = idle(endpoint, then)
    ids = {one["displayName"]: one["id"] for one in deployed(endpoint) if one not in left}
    if shares(endpoint) != then:
        vertex.progress("giving the new version its share")
        vertex.split(endpoint, {ids[name]: value for name, value in then.items()})
    for one in left:
        vertex.progress(f"taking {one['displayName']} off")
        vertex.undeploy(endpoint, one)

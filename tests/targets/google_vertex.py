"""What Vertex AI does, beside what its discovery document says: versions, deployments, traffic."""

import re
from typing import Any

from tests.targets.google_cloud import Call, Cloud, Failed, Refused, invalid

Json = dict[str, Any]


def add_vertex(cloud: Cloud) -> None:
    """Let the cloud answer for Vertex AI."""
    vertex, base = _Vertex(cloud), "aiplatform.projects.locations"
    cloud.handlers |= {
        f"{base}.endpoints.{name}": getattr(vertex, f"endpoints_{name}")
        for name in ("list", "get", "create", "patch", "delete", "deployModel", "undeployModel", "mutateDeployedModel")
    }
    cloud.handlers |= {
        f"{base}.models.{name}": getattr(vertex, f"models_{name}") for name in ("get", "upload", "delete")
    }


class _Vertex:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def models_get(self, call: Call) -> Json:
        name, _, wanted = call.name.partition("@")
        versions = self._cloud.models.get(name, [])
        for one in reversed(versions):
            if not wanted or wanted == one["versionId"] or wanted in one["versionAliases"]:
                return one
        raise Refused(404, "NOT_FOUND", f"The Model does not exist: {call.name}")

    def models_upload(self, call: Call) -> Json:
        model, parent = call.body["model"], call.body.get("parentModel")
        name = parent or f"{call.parent('models')}/models/{call.body.get('modelId') or self._cloud.number()}"
        if parent and parent not in self._cloud.models:
            raise Refused(404, "NOT_FOUND", f"The Model does not exist: {parent}")
        if not parent and name in self._cloud.models:
            raise Refused(409, "ALREADY_EXISTS", f"Model already exists: {name}")
        _check_model(model)
        image = model["containerSpec"]["imageUri"]

        def work() -> Json:
            if "not found" in self._cloud.broken.get(image, ""):
                raise Failed(5, self._cloud.broken[image])
            versions = self._cloud.models.setdefault(name, [])
            number = str(len(versions) + 1)
            for one in versions:
                one["versionAliases"] = [each for each in one["versionAliases"] if each not in model["versionAliases"]]
            first = [] if versions else ["default"]
            aliases = [*model["versionAliases"], *first]
            versions.append({**model, "name": name, "versionId": number, "versionAliases": aliases})
            return {"model": name, "modelVersionId": number}

        return self._cloud.begin(work, under=name)

    def models_delete(self, call: Call) -> Json:
        used = [one["model"] for each in self._cloud.endpoints.values() for one in each.get("deployedModels", ())]
        if call.name in used:
            raise Refused(400, "FAILED_PRECONDITION", f"The Model {call.name} is deployed")
        self._found(self._cloud.models, call.name)
        return self._cloud.begin(lambda: _gone(self._cloud.models, call.name))

    def endpoints_list(self, call: Call) -> Json:
        wanted = dict(re.findall(r"labels\.([a-z0-9_-]+)=(\S+)", call.query.get("filter", "")))
        found = [one for one in self._cloud.endpoints.values() if wanted.items() <= one.get("labels", {}).items()]
        return {"endpoints": found}

    def endpoints_get(self, call: Call) -> Json:
        found: Json = self._found(self._cloud.endpoints, call.name)
        return found

    def endpoints_create(self, call: Call) -> Json:
        _check_labels(call.body)
        name = f"{call.parent('endpoints')}/endpoints/{self._cloud.number()}"

        def work() -> Json:
            self._cloud.endpoints[name] = {**call.body, "name": name, "etag": self._cloud.number()}
            return {"name": name}

        return self._cloud.begin(work, under=name)

    def endpoints_patch(self, call: Call) -> Json:
        found: Json = self._found(self._cloud.endpoints, call.name)
        if call.query.get("updateMask") != "trafficSplit":
            raise invalid("only trafficSplit is changed here")
        if call.body.get("etag") not in (None, found["etag"]):
            raise Refused(409, "ABORTED", "the etag is another one")
        _check_split(found, call.body["trafficSplit"])
        found |= {"trafficSplit": call.body["trafficSplit"], "etag": self._cloud.number()}
        return found

    def endpoints_delete(self, call: Call) -> Json:
        if self._found(self._cloud.endpoints, call.name).get("deployedModels"):
            raise Refused(400, "FAILED_PRECONDITION", "Endpoint has deployed or being-deployed DeployedModel(s)")
        return self._cloud.begin(lambda: _gone(self._cloud.endpoints, call.name))

    def endpoints_deployModel(self, call: Call) -> Json:
        endpoint, one = self._found(self._cloud.endpoints, call.name), call.body["deployedModel"]
        resources = one.get("dedicatedResources") or {}
        if not resources.get("machineSpec", {}).get("machineType"):
            raise invalid("dedicated_resources.machine_spec.machine_type is required")
        _check_counts(resources)
        model = self.models_get(Call(name=one["model"], query={}, body={}))
        split = call.body.get("trafficSplit")
        if split:
            _check_split(endpoint, split, new="0")

        def work() -> Json:
            if said := self._cloud.broken.get(model["containerSpec"]["imageUri"]):
                raise Failed(8 if "quota" in said else 9, said)
            number = self._cloud.number()
            state = {"availableReplicaCount": resources["minReplicaCount"]}
            told = {"id": number, "model": model["name"], "modelVersionId": model["versionId"], "status": state}
            endpoint.setdefault("deployedModels", []).append({**one, **told})
            if split:
                endpoint["trafficSplit"] = {number if key == "0" else key: value for key, value in split.items()}
            endpoint["etag"] = self._cloud.number()
            return {"deployedModel": {"id": number}}

        return self._cloud.begin(work, under=call.name)

    def endpoints_undeployModel(self, call: Call) -> Json:
        endpoint, number = self._found(self._cloud.endpoints, call.name), call.body["deployedModelId"]
        left = [one for one in endpoint.get("deployedModels", ()) if one["id"] != number]
        split = call.body.get("trafficSplit") or endpoint.get("trafficSplit", {})
        if left and split.get(number):
            raise invalid(f"DeployedModel {number} has traffic: set its traffic_split to 0 first")

        def work() -> Json:
            rest = {key: value for key, value in split.items() if key != number}
            endpoint.update(deployedModels=left, trafficSplit=rest, etag=self._cloud.number())
            return {}

        return self._cloud.begin(work, under=call.name)

    def endpoints_mutateDeployedModel(self, call: Call) -> Json:
        endpoint, new = self._found(self._cloud.endpoints, call.name), call.body["deployedModel"]
        known = {"min_replica_count", "max_replica_count", "required_replica_count", "autoscaling_metric_specs"}
        if wrong := {part.rpartition(".")[2] for part in call.body["updateMask"].split(",")} - known:
            raise invalid(f"these fields can't be mutated: {sorted(wrong)}")
        one = next(each for each in endpoint["deployedModels"] if each["id"] == new["id"])
        _check_counts(new["dedicatedResources"])

        def work() -> Json:
            one["dedicatedResources"] |= new["dedicatedResources"]
            one["status"] = {"availableReplicaCount": new["dedicatedResources"]["minReplicaCount"]}
            return {"deployedModel": one}

        return self._cloud.begin(work, under=call.name)

    @staticmethod
    def _found(where: dict[str, Any], name: str) -> Any:  # an endpoint, or a model's versions
        if name not in where:
            raise Refused(404, "NOT_FOUND", f"{name} is not found.")
        return where[name]


def _gone(where: dict[str, Any], name: str) -> Json:
    del where[name]
    return {}


def _check_model(model: Json) -> None:
    for alias in model.get("versionAliases", ()):
        if not re.fullmatch(r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]", alias):
            raise invalid(f"version alias '{alias}' must match [a-z][a-zA-Z0-9-]{{0,126}}[a-z0-9]")
    _check_labels(model)
    image = model["containerSpec"]["imageUri"]
    if not re.match(r"([a-z]+\.)?gcr\.io/|[a-z0-9-]+-docker\.pkg\.dev/", image):
        raise invalid(f"Image URI {image} must be in Artifact Registry or Container Registry")


def _check_labels(one: Json) -> None:
    for key, value in one.get("labels", {}).items():
        if not re.fullmatch(r"[a-z0-9_-]{1,63}", key) or not re.fullmatch(r"[a-z0-9_-]{0,63}", value):
            raise invalid(f"label {key}={value} is not allowed")


def _check_split(endpoint: Json, split: dict[str, int], new: str = "") -> None:
    known = {one["id"] for one in endpoint.get("deployedModels", ())} | {new}
    if sum(split.values()) != 100:
        raise invalid(f"Traffic split percentages must sum to 100, not {sum(split.values())}")
    if set(split) - known:
        raise invalid(f"Traffic split has unknown deployed models {sorted(set(split) - known)}")


def _check_counts(resources: Json) -> None:
    if not 1 <= resources["minReplicaCount"] <= resources.get("maxReplicaCount", resources["minReplicaCount"]):
        raise invalid("min_replica_count must be from 1 to max_replica_count")

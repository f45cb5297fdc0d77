"""What Container Apps does: its fields, names, revisions and traffic, as its API of 2025-01-01 has them."""

import copy
import re
from typing import Any

from tests.targets.azure_cloud import GROUP, TOKEN, Answer, Azure, Call, Failed, Refused, check, merged

Json = dict[str, Any]
VERSION = "2025-01-01"
_PROBE = {
    "type!": str, "httpGet": {"path": str, "port!": int, "scheme": str}, "periodSeconds": int, "timeoutSeconds": int,
    "failureThreshold": int, "initialDelaySeconds": int, "successThreshold": int,
}  # fmt: skip
_APP: Json = {
    "location!": str, "tags": {"*": str}, "identity": {"type!": str, "userAssignedIdentities": {"*": dict}},
    "properties!": {
        "environmentId!": str, "workloadProfileName": str,
        "configuration!": {
            "activeRevisionsMode": str, "maxInactiveRevisions": int,
            "registries": [{"server!": str, "identity": str, "username": str, "passwordSecretRef": str}],
            "ingress": {
                "external": bool, "targetPort": int, "transport": str, "allowInsecure": bool,
                "traffic": [{"revisionName": str, "weight": int, "latestRevision": bool, "label": str}],
            },
        },
        "template!": {
            "revisionSuffix": str, "terminationGracePeriodSeconds": int,
            "containers!": [{
                "name!": str, "image!": str, "args": [str], "env": [{"name!": str, "value": str}],
                "resources": {"cpu": (int, float), "memory": str}, "probes": [_PROBE],
            }],
            "scale": {
                "minReplicas": int, "maxReplicas": int,
                "rules": [{"name!": str, "http": {"metadata": {"*": str}}}],
            },
        },
    },
}  # fmt: skip


def add_apps(azure: Azure) -> None:
    """Let the cloud answer for Container Apps."""
    apps = _Apps(azure)
    app = re.escape(f"{GROUP}/providers/Microsoft.App/containerApps/") + "[^/]+"
    azure.routes += [
        (re.compile(app), VERSION, apps.app),
        (re.compile(f"{app}/revisions"), VERSION, apps.revisions),
        (re.compile(f"{app}/revisions/[^/]+/deactivate"), VERSION, apps.deactivate),
        (re.compile(f"{app}/revisions/[^/]+/replicas"), VERSION, apps.replicas),
        (
            re.compile(f"{app}/getAuthtoken"),
            VERSION,
            lambda _: Answer(200, {"properties": {"token": TOKEN}}),
        ),
        (re.compile("/stream/.*"), "", lambda call: Answer(200, f"line of {call.path.rpartition('/')[2]}\n")),  # type: ignore[arg-type]  # text, as it streams
    ]


class _Apps:
    def __init__(self, azure: Azure) -> None:
        self._azure = azure

    def app(self, call: Call) -> Answer:
        live = self._azure.things.get(call.path)
        if call.verb == "PUT":
            return self._put(call, call.body, 201 if live is None else 200)
        if live is None:
            raise Refused(404, "ResourceNotFound", f"The Resource '{call.path}' was not found.")
        if call.verb == "PATCH":
            kept = {key: live[key] for key in ("location", "tags", "identity", "properties") if key in live}
            kept["properties"] = {key: live["properties"][key] for key in live["properties"] if key in _known()}
            return self._put(call, merged(kept, call.body), 202)
        if call.verb == "DELETE":
            return Answer(202, work=lambda: self._gone(call.path))
        return Answer(200, live)

    def revisions(self, call: Call) -> Answer:
        return Answer(200, {"value": list(self._revisions(call.path.removesuffix("/revisions")).values())})

    def deactivate(self, call: Call) -> Answer:
        path, name = call.path.split("/revisions/")[0], call.path.split("/")[-2]
        one = self._revisions(path)[name]
        if self._azure.is_stuck:
            raise Refused(409, "ContainerAppOperationInProgress", "another operation is in progress")
        if any(each.get("revisionName") == name and each["weight"] for each in _traffic(self._azure.things[path])):
            raise Refused(400, "RevisionHasTraffic", f"revision {name} has traffic")
        one["properties"] |= {"active": False, "runningState": "Stopped", "replicas": 0}
        return Answer(200)

    def replicas(self, call: Call) -> Answer:
        name = call.path.split("/")[-2]
        address = f"{self._azure.url}/stream/{name}"
        containers = [{"name": "server", "logStreamEndpoint": address}]
        return Answer(200, {"value": [{"name": f"{name}-1", "properties": {"containers": containers}}]})

    def _put(self, call: Call, body: Json, status: int) -> Answer:
        check(body, _APP)
        name, template = call.path.rpartition("/")[2], body["properties"]["template"]
        _check_names(name, template)
        _check_sizes(template["containers"][0])
        revision = f"{name}--{template['revisionSuffix']}"
        there = self._revisions(call.path)
        if revision in there and there[revision]["properties"]["template"] != template:
            raise Refused(400, "ContainerAppInvalidRevisionSuffix", f"revision {revision} exists with another template")
        weights = _traffic(body)
        if sum(one["weight"] for one in weights) != 100:
            raise Refused(400, "InvalidTraffic", "the weights must sum to 100")
        for one in weights:
            known = one.get("latestRevision") or there.get(one.get("revisionName", ""), {}).get("properties", {}).get(
                "active"
            )
            if not known:
                raise Refused(400, "RevisionNotFound", f"traffic to {one.get('revisionName')}, which isn't active")
        if call.path not in self._azure.things:
            self._azure.things[call.path] = {**copy.deepcopy(body), "name": name}
        return Answer(status, {"name": name}, work=lambda: self._work(call.path, copy.deepcopy(body), revision))

    def _work(self, path: str, body: Json, revision: str) -> None:
        there, template = self._revisions(path), body["properties"]["template"]
        said = self._azure.broken.get(template["containers"][0]["image"], "")
        if "manifest" in said:
            raise Failed(said)
        properties = self._azure.things[path].get("properties", {})
        ready = properties.get("latestReadyRevisionName", "")
        if revision not in there:
            least = template["scale"].get("minReplicas", 0)
            state = {"runningState": "Failed", "healthState": "Unhealthy", "provisioningError": said}
            good = {
                "runningState": "Running",
                "healthState": "Healthy",
                "replicas": max(1, least),
            }
            told = {
                "active": True,
                "template": template,
                "provisioningState": "Provisioned",
                **(state if said else good),
            }
            self._azure.things[f"{path}/revisions/{revision}"] = {"name": revision, "properties": told}
        ready = ready if said else revision
        newest = {"latestRevisionName": revision, "latestReadyRevisionName": ready}
        body["properties"] |= {key: value for key, value in newest.items() if value}
        body |= {"location": "West Europe"}  # as the real one shows them, whatever was sent
        ingress = body["properties"]["configuration"]["ingress"]
        ingress["transport"] = ingress["transport"].capitalize()
        self._azure.things[path] = {**body, "name": path.rpartition("/")[2]}

    def _revisions(self, path: str) -> dict[str, Json]:
        head = f"{path}/revisions/"
        return {key[len(head) :]: one for key, one in self._azure.things.items() if key.startswith(head)}

    def _gone(self, path: str) -> None:
        self._azure.things = {
            key: one for key, one in self._azure.things.items() if not (f"{key}/").startswith(f"{path}/")
        }


def _known() -> set[str]:
    return {key.rstrip("!") for key in _APP["properties!"]}


def _traffic(body: Json) -> list[Json]:
    found: list[Json] = body["properties"]["configuration"].get("ingress", {}).get("traffic", [])
    return found


def _check_names(name: str, template: Json) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}[a-z0-9]", name) or "--" in name:
        raise Refused(400, "ContainerAppInvalidName", f"Invalid ContainerApp name '{name}'")
    suffix = template["revisionSuffix"]
    if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", suffix) or "--" in suffix or len(f"{name}--{suffix}") > 54:
        raise Refused(400, "ContainerAppInvalidRevisionSuffix", f"Invalid revision suffix '{suffix}'")


def _check_sizes(container: Json) -> None:
    cores, memory = container["resources"]["cpu"], container["resources"]["memory"]
    if cores * 4 != int(cores * 4) or not 0.25 <= cores <= 4 or memory != f"{cores * 2:g}Gi":
        raise Refused(400, "ContainerAppInvalidResourceTotal", f"no CPU - memory combination {cores} - {memory}")
    for probe in container["probes"]:
        if not 1 <= probe["failureThreshold"] <= 10 or not 1 <= probe["periodSeconds"] <= 240:
            raise Refused(400, "ContainerAppInvalidProbe", f"failureThreshold 1 to 10, periodSeconds 1 to 240: {probe}")

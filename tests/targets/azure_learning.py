"""What online endpoints of Azure Machine Learning do: fields, names, traffic, as the API of 2024-10-01 has them."""

import re
from typing import Any

from tests.targets.azure_cloud import GROUP, Answer, Azure, Call, Failed, Refused, check, merged

Json = dict[str, Any]
VERSION = "2024-10-01"
WORKSPACE = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/lab"
_ROUTE = {"path!": str, "port!": int}
_PROBE = {"period": str, "timeout": str, "initialDelay": str, "failureThreshold": int, "successThreshold": int}
_TRACKED: Json = {
    "location!": str, "tags": {"*": str}, "kind": str,
    "identity": {"type!": str, "userAssignedIdentities": {"*": dict}},
}  # fmt: skip
_ENVIRONMENT: Json = {
    "properties!": {
        "image": str, "osType": str, "description": str,
        "inferenceConfig": {"livenessRoute": _ROUTE, "readinessRoute": _ROUTE, "scoringRoute": _ROUTE},
    }
}  # fmt: skip
_ENDPOINT: Json = {
    **_TRACKED,
    "properties!": {"authMode!": str, "publicNetworkAccess": str, "traffic": {"*": int}, "description": str},
}  # fmt: skip
_DEPLOYMENT: Json = {
    **_TRACKED, "sku!": {"name!": str, "tier": str, "capacity!": int},
    "properties!": {
        "endpointComputeType!": str, "environmentId!": str, "environmentVariables": {"*": str}, "instanceType!": str,
        "livenessProbe": _PROBE, "readinessProbe": _PROBE, "scaleSettings": {"scaleType!": str},
        "requestSettings": {"maxConcurrentRequestsPerInstance": int, "requestTimeout": str, "maxQueueWait": str},
        "model": str, "appInsightsEnabled": bool,
    },
}  # fmt: skip


def add_learning(azure: Azure) -> None:
    """Let the cloud answer for online endpoints."""
    online, one = _Online(azure), "[^/]+"
    endpoint = re.escape(f"{WORKSPACE}/onlineEndpoints/") + one
    azure.routes += [
        (re.compile(re.escape(f"{WORKSPACE}/environments/") + f"{one}/versions/{one}"), VERSION, online.environment),
        (re.compile(endpoint), VERSION, online.endpoint),
        (re.compile(f"{endpoint}/deployments"), VERSION, online.deployments),
        (re.compile(f"{endpoint}/deployments/{one}"), VERSION, online.deployment),
        (re.compile(f"{endpoint}/deployments/{one}/getLogs"), VERSION, online.logs),
    ]


class _Online:
    def __init__(self, azure: Azure) -> None:
        self._azure = azure

    def environment(self, call: Call) -> Answer:
        if call.verb == "GET":
            return Answer(200, self._found(call.path))
        check(call.body, _ENVIRONMENT)
        if call.path in self._azure.things:
            raise Refused(400, "UserError", "The environment version is immutable")
        self._azure.things[call.path] = call.body
        return Answer(201, call.body)

    def endpoint(self, call: Call) -> Answer:
        if call.verb == "GET":
            return Answer(200, self._found(call.path))
        if call.verb == "DELETE":
            self._found(call.path)
            return Answer(202, work=lambda: self._gone(call.path))
        check(call.body, _ENDPOINT)
        name, traffic = call.path.rpartition("/")[2], call.body["properties"].get("traffic", {})
        if not re.fullmatch(r"[a-z][a-z0-9-]{1,30}[a-z0-9]", name):
            raise Refused(400, "BadArgument", f"Endpoint name '{name}' is not valid")
        if traffic and sum(traffic.values()) not in (0, 100):
            raise Refused(400, "BadArgument", "The sum of traffic must be 0 or 100")
        if strange := set(traffic) - set(self._deployments(call.path)):
            raise Refused(400, "BadArgument", f"traffic to deployments that aren't there: {sorted(strange)}")
        shown = {**call.body, "name": name, "location": "West Europe"}
        status = 200 if call.path in self._azure.things else 201

        def work() -> None:
            self._azure.things[call.path] = shown

        if status == 201:
            self._azure.things[call.path] = {
                **shown,
                "properties": {**shown["properties"], "provisioningState": "Creating"},
            }
        return Answer(status, shown, work=work)

    def deployments(self, call: Call) -> Answer:
        return Answer(200, {"value": list(self._deployments(call.path.removesuffix("/deployments")).values())})

    def deployment(self, call: Call) -> Answer:
        path, name = call.path.split("/deployments/")
        endpoint = self._found(path)
        if call.verb == "GET":
            return Answer(200, self._found(call.path))
        if call.verb == "DELETE":
            if endpoint["properties"].get("traffic", {}).get(name):
                raise Refused(400, "BadArgument", f"deployment {name} has traffic")
            return Answer(202, work=lambda: self._gone(call.path))
        if call.verb == "PATCH":
            check(call.body, {"sku": {"name": str, "tier": str, "capacity": int}, "tags": {"*": str}})
            changed = merged(self._found(call.path), call.body)
            return Answer(202, work=lambda: self._azure.things.update({call.path: changed}))
        check(call.body, _DEPLOYMENT)
        if not re.fullmatch(r"[a-z][a-z0-9-]{1,30}[a-z0-9]", name):
            raise Refused(400, "BadArgument", f"Deployment name '{name}' is not valid")
        environment = self._found(call.body["properties"]["environmentId"])
        self._azure.things[call.path] = {**call.body, "name": name}
        return Answer(201, {"name": name}, work=lambda: self._start(call, name, environment["properties"]["image"]))

    def logs(self, call: Call) -> Answer:
        check(call.body, {"containerType": str, "tail": int})
        name = call.path.split("/")[-2]
        self._found(call.path.removesuffix("/getLogs"))
        return Answer(200, {"content": f"first line of {name}\nlast line of {name}\n"})

    def _start(self, call: Call, name: str, image: str) -> None:
        said = self._azure.broken.get(image, "")
        state = {"provisioningState": "Failed" if said else "Succeeded"}
        self._azure.things[call.path] = {**call.body, "name": name, "properties": {**call.body["properties"], **state}}
        if said:
            raise Failed(said)

    def _found(self, path: str) -> Json:
        if path not in self._azure.things:
            raise Refused(404, "NotFound", f"{path} is not there")
        return self._azure.things[path]

    def _deployments(self, path: str) -> dict[str, Json]:
        head = f"{path}/deployments/"
        return {key[len(head) :]: one for key, one in self._azure.things.items() if key.startswith(head)}

    def _gone(self, path: str) -> None:
        for key in [key for key in self._azure.things if f"{key}/".startswith(f"{path}/")]:
            del self._azure.things[key]

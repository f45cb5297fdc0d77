"""What Cloud Run does, beside what its discovery document says: names, sizes, revisions, traffic."""

import copy
import re
from typing import Any

from tests.targets.google_cloud import Call, Cloud, Failed, Refused, invalid

Json = dict[str, Any]
_LATEST, _REVISION = (f"TRAFFIC_TARGET_ALLOCATION_TYPE_{one}" for one in ("LATEST", "REVISION"))
_HOSTS = re.compile(r"([a-z0-9-]+\.)?gcr\.io|[a-z0-9-]+-docker\.pkg\.dev|docker\.io")
_LEAST_MB = {"1": 512, "2": 512, "4": 2048, "6": 4096, "8": 4096}
_FIELDS = {"labels", "annotations", "ingress", "invokerIamDisabled", "template", "traffic"}


def add_run(cloud: Cloud) -> None:
    """Let the cloud answer for Cloud Run."""
    run = _Run(cloud)
    services = "run.projects.locations.services"
    cloud.handlers |= {
        f"{services}.get": run.get, f"{services}.create": run.create, f"{services}.patch": run.patch,
        f"{services}.delete": run.delete, f"{services}.revisions.get": run.revision,
    }  # fmt: skip


class _Run:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def get(self, call: Call) -> Json:
        return self._found(call.name)

    def revision(self, call: Call) -> Json:
        if call.name not in self._cloud.revisions:
            raise Refused(404, "NOT_FOUND", f"Resource '{call.name}' was not found")
        return self._cloud.revisions[call.name]

    def create(self, call: Call) -> Json:
        short = call.query.get("serviceId", "")
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,47}[a-z0-9])?", short):
            raise invalid(f"service_id '{short}' must be lower case letters, digits and hyphens, shorter than 50")
        name = f"{call.parent('services')}/services/{short}"
        if name in self._cloud.services:
            raise Refused(409, "ALREADY_EXISTS", f"Service {short} already exists")
        service = {"name": name, "ingress": "INGRESS_TRAFFIC_ALL", **call.body, "generation": "1"}
        service.setdefault("traffic", [{"type": _LATEST, "percent": 100}])
        return self._change(service)

    def patch(self, call: Call) -> Json:
        live = self._found(call.name)
        mask = call.query.get("updateMask", "").split(",")
        if unknown := set(mask) - _FIELDS:
            raise invalid(f"The update mask contains unknown fields {sorted(unknown)}")
        if call.body.get("etag") not in (None, live["etag"]):
            raise Refused(409, "ABORTED", "Conflict for resource: version differs from the one in the request")
        changed = {**live, **{key: call.body.get(key) for key in mask}}
        return self._change({**changed, "generation": str(int(live["generation"]) + 1)})

    def delete(self, call: Call) -> Json:
        self._found(call.name)

        def work() -> Json:
            self._cloud.revisions = {
                key: one for key, one in self._cloud.revisions.items() if not key.startswith(f"{call.name}/")
            }
            return self._cloud.services.pop(call.name)

        return self._cloud.begin(work)

    def _found(self, name: str) -> Json:
        if name not in self._cloud.services:
            raise Refused(404, "NOT_FOUND", f"Resource '{name}' of kind 'SERVICE' does not exist")
        return self._cloud.services[name]

    def _change(self, service: Json) -> Json:
        name, template = service["name"], service["template"]
        _check_template(name.rpartition("/")[2], template)
        full = f"{name}/revisions/{template['revision']}"
        before = self._cloud.revisions.get(full)
        if before is not None and before["made_of"] != template:
            raise Refused(
                409,
                "ALREADY_EXISTS",
                f"Revision named '{template['revision']}' with different configuration already exists",
            )
        self._check_traffic(service, full)
        service["etag"] = f'"{self._cloud.number()}"'
        service["reconciling"] = True
        self._cloud.services[name] = service
        return self._cloud.begin(lambda: self._reconcile(service, full))

    def _check_traffic(self, service: Json, newest: str) -> None:
        targets = service["traffic"]
        if sum(one.get("percent", 0) for one in targets) != 100:
            raise invalid("spec.traffic: Traffic targets must sum to 100")
        for one in targets:
            full = f"{service['name']}/revisions/{one.get('revision')}"
            if one.get("type") == _REVISION and full not in self._cloud.revisions and full != newest:
                raise invalid(f"Revision named '{one.get('revision')}' in spec.traffic does not exist")

    def _reconcile(self, service: Json, full: str) -> Json:
        image = service["template"]["containers"][0]["image"]
        said = self._cloud.broken.get(image, "")
        is_new = full not in self._cloud.revisions
        made_of = copy.deepcopy(service["template"])
        kept = {key: made_of[key] for key in ("containers", "labels", "annotations", "scaling")}
        state = {"type": "Ready", "state": "CONDITION_FAILED" if said else "CONDITION_SUCCEEDED", "message": said}
        if is_new:
            self._cloud.revisions[full] = _Revision({"name": full, **kept, "conditions": [state]}, made_of)
        service["reconciling"] = False
        service["latestCreatedRevision"] = full
        if not said:
            service["latestReadyRevision"] = full
        service["trafficStatuses"] = [
            {**one, **({"uri": f"{self._cloud.url}/tagged/{one['revision']}"} if one.get("tag") else {})}
            for one in service["traffic"]
        ]
        service["terminalCondition"] = {**state}
        if said and is_new:
            raise Failed(9, said)
        return {"@type": "type.googleapis.com/google.cloud.run.v2.Service", **service}


class _Revision(dict[str, Any]):
    """Be a revision as it is answered, and beside it the template that it was made of."""

    def __init__(self, shown: Json, made_of: Json) -> None:
        super().__init__(shown)
        self._made_of = made_of

    def __getitem__(self, key: str) -> Any:
        return self._made_of if key == "made_of" else super().__getitem__(key)


def _check_template(service: str, template: Json) -> None:
    name, one = template.get("revision", ""), template["containers"][0]
    if not name.startswith(f"{service}-") or not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name):
        raise invalid(f"metadata.name: Invalid revision name '{name}': must be prefixed by the service's name")
    if not _HOSTS.fullmatch(one["image"].partition("/")[0]):
        raise invalid(
            f"Expected an image path like [host/]repo-path[:tag and/or @digest], where host is one of [region.]gcr.io, "
            f"[region-]docker.pkg.dev or docker.io but obtained {one['image']}"
        )
    limits = one["resources"]["limits"]
    memory_mb = int(limits["memory"].removesuffix("Mi"))
    if limits["cpu"] not in _LEAST_MB or memory_mb < _LEAST_MB[limits["cpu"]]:
        raise invalid(f"Invalid value specified for cpu or memory: {limits}")
    if memory_mb > 4096 * int(limits["cpu"]) or memory_mb > 32768:
        raise invalid(f"For {memory_mb}Mi memory more cpu is needed than {limits['cpu']}")
    _check_probes(one)
    if template["scaling"].get("minInstanceCount", 0) > template["scaling"]["maxInstanceCount"]:
        raise invalid("minInstanceCount is over maxInstanceCount")


def _check_probes(one: Json) -> None:
    for kind in ("startupProbe", "livenessProbe"):
        probe = one.get(kind)
        if probe and probe["timeoutSeconds"] > probe["periodSeconds"]:
            raise invalid(f"{kind}: timeout must not be over the period")
        if probe and len({"httpGet", "grpc", "tcpSocket"} & set(probe)) != 1:
            raise invalid(f"{kind}: exactly one of httpGet, grpc, tcpSocket")
    if one["startupProbe"]["periodSeconds"] * one["startupProbe"]["failureThreshold"] > 240:
        raise invalid("startupProbe: failureThreshold times periodSeconds must not be over 240")

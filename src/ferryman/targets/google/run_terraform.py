"""The same Service for Terraform's google provider."""

from collections.abc import Iterator

from ferryman.targets.google.settings import CloudRunSection, GoogleSection
from ferryman.targets.terraform import Block, Expression, write_terraform
from ferryman.targets.wanted import Json

_SOURCE = {"google": {"source": "hashicorp/google", "version": ">= 7.0"}}
PROVIDER = Block("terraform", blocks=(Block("required_providers", attributes=_SOURCE),))


def place(section: GoogleSection, key: str = "location") -> Json:
    """Give the attributes that say where a resource is."""
    return {"project": section.project or None, key: section.region}


def terraform(name: str, service: Json, section: CloudRunSection) -> str:
    """Give main.tf: the Service, whose changes Terraform hands on to Cloud Run as a whole."""
    inner = service["template"]
    template = Block(
        "template",
        attributes={
            "labels": inner["labels"],
            "annotations": inner["annotations"],
            "timeout": inner["timeout"],
            "max_instance_request_concurrency": inner["maxInstanceRequestConcurrency"],
            "execution_environment": inner["executionEnvironment"],
            "service_account": inner.get("serviceAccount"),
            "gpu_zonal_redundancy_disabled": inner.get("gpuZonalRedundancyDisabled"),
        },
        blocks=tuple(_inside(inner)),
    )
    resource = Block(
        "resource",
        ("google_cloud_run_v2_service", "server"),
        {
            "name": name,
            **place(section),
            "ingress": service["ingress"],
            "invoker_iam_disabled": service["invokerIamDisabled"],
            "labels": service["labels"],
            "deletion_protection": False,
        },
        (template, Block("traffic", attributes={"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100})),
    )
    uri = Block("output", ("uri",), {"value": Expression("google_cloud_run_v2_service.server.uri")})
    return write_terraform([PROVIDER, resource, uri])


def _inside(inner: Json) -> Iterator[Block]:
    scaling = {"min_instance_count": "minInstanceCount", "max_instance_count": "maxInstanceCount"}
    yield Block("scaling", attributes={key: inner["scaling"][value] for key, value in scaling.items()})
    if "nodeSelector" in inner:
        yield Block("node_selector", attributes=inner["nodeSelector"])
    if "vpcAccess" in inner:
        inside = tuple(Block("network_interfaces", attributes=one) for one in inner["vpcAccess"]["networkInterfaces"])
        yield Block("vpc_access", attributes={"egress": inner["vpcAccess"]["egress"]}, blocks=inside)
    yield _container(inner["containers"][0])


def _container(one: Json) -> Block:
    resources, port = one["resources"], one["ports"][0]
    asked = {"cpu_idle": resources["cpuIdle"], "startup_cpu_boost": resources["startupCpuBoost"]}
    blocks = [Block("env", attributes=variable) for variable in one.get("env", ())]
    blocks.append(Block("ports", attributes={"name": port["name"], "container_port": port["containerPort"]}))
    blocks.append(Block("resources", attributes={"limits": resources["limits"], **asked}))
    for kind, key in (("startup_probe", "startupProbe"), ("liveness_probe", "livenessProbe")):
        if key in one:
            blocks.append(_probe(kind, one[key]))
    said = {"name": one["name"], "image": one["image"], "args": one["args"]}
    return Block("containers", attributes=said, blocks=tuple(blocks))


def _probe(kind: str, probe: Json) -> Block:
    how = "grpc" if "grpc" in probe else "http_get"
    numbers = {
        "period_seconds": "periodSeconds",
        "timeout_seconds": "timeoutSeconds",
        "failure_threshold": "failureThreshold",
    }
    return Block(
        kind,
        attributes={key: probe[value] for key, value in numbers.items()},
        blocks=(Block(how, attributes=probe.get("grpc") or probe["httpGet"]),),
    )

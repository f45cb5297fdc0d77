"""What is rendered for Kubernetes: valid by the newest schemas, the same each time, and what its settings say."""

import ast
import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest
import yaml

from ferryman.core.deployment import read_target
from ferryman.core.errors import ConfigError
from ferryman.core.target import Files
from tests.targets.making import COPIED, EVERYTHING, IMAGE, KEDA, OTHER, render

NEWEST = "1.37"
SECTIONS: dict[str, dict[str, Any]] = {"plain": {}, "everything": EVERYTHING, "keda": KEDA, "copied": COPIED}
CRDS = Path(__file__).parent / "crds"


def objects(files: Files) -> list[dict[str, Any]]:
    texts = [text for name, text in files.items() if name != "kustomization.yaml"]
    return [one for text in texts for one in yaml.safe_load_all(text)]


def plainly(found: Iterable[Any]) -> list[str]:  # JSON
    return sorted(json.dumps(one, sort_keys=True) for one in found)


def only(found: list[dict[str, Any]], kind: str, name: str = "street") -> dict[str, Any]:
    (one,) = [one for one in found if one["kind"] == kind and one["metadata"]["name"] == name]
    return one


def strict(schema: Any) -> Any:  # JSON schema
    """Refuse keys that the schema doesn't name: the cluster would drop them without a word."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    is_open = "additionalProperties" in found or found.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(found.get("properties"), dict) and found.get("type") == "object" and not is_open:
        found["additionalProperties"] = False
    return found


def check_custom(one: dict[str, Any]) -> None:
    crd = json.loads((CRDS / f"{one['kind'].lower()}.json").read_text(encoding="utf-8"))
    assert one["apiVersion"] == f"{crd['group']}/{crd['version']}"
    schema = crd["schema"]
    schema["properties"]["metadata"] = {"type": "object", "additionalProperties": True}
    jsonschema_rs.validator_for(strict(schema)).validate(one)


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)
def test_every_object_is_valid_by_the_newest_schema(section: dict[str, Any]) -> None:
    for one in objects(render("kubernetes", section)):
        if one["apiVersion"].partition("/")[0].endswith((".sh", ".com", "gateway.networking.k8s.io")):
            check_custom(one)
        else:
            kubernetes_validate.validate(one, NEWEST, strict=True)


def test_the_validators_do_refuse_what_is_wrong() -> None:
    found = objects(render("kubernetes", EVERYTHING))
    deployment = only(found, "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, NEWEST, strict=True)
    route = only(found, "HTTPRoute")
    route["spec"]["rules"][0]["backendRefs"][0]["wait"] = 1
    with pytest.raises(jsonschema_rs.ValidationError):
        check_custom(route)


@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)
def test_equal_settings_give_equal_bytes(section: dict[str, Any]) -> None:
    assert render("kubernetes", section) == render("kubernetes", json.loads(json.dumps(section)))


@pytest.mark.tool("kustomize", "kubectl")
@pytest.mark.parametrize("section", SECTIONS.values(), ids=SECTIONS)
def test_kustomize_and_kubectl_build_the_same_objects(section: dict[str, Any], tmp_path: Path) -> None:
    files = render("kubernetes", section)
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        done = subprocess.run([*command, tmp_path], capture_output=True, text=True, timeout=60, check=True)
        assert plainly(yaml.safe_load_all(done.stdout)) == plainly(objects(files))


def test_a_copy_keeps_to_the_restricted_pod_security_standard() -> None:
    for one in objects(render("kubernetes", COPIED)):
        if one["kind"] != "Deployment":
            continue
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 65532
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert all(set(volume) - {"name"} <= {"emptyDir", "image"} for volume in pod["volumes"])
        for container in [*pod["containers"], *pod["initContainers"]]:
            own = container["securityContext"]
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]) == (False, True)


def test_a_new_version_takes_over_before_the_old_one_leaves() -> None:
    spec = only(objects(render("kubernetes", {"unready_s": 7, "drain_s": 60})), "Deployment")["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = spec["template"]["spec"]
    assert pod["containers"][0]["args"] == ["serve", "--unready-s", "7", "--drain-s", "60"]
    assert pod["terminationGracePeriodSeconds"] > 7 + 60
    probes = {
        name: pod["containers"][0][f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")
    }
    assert probes == {"startup": "/v2/health/live", "readiness": "/v2/health/ready", "liveness": "/v2/health/live"}


def test_what_podman_takes_otherwise_is_left_out_for_it_and_the_rest_is_the_same() -> None:
    (podmans,) = objects(render("kubernetes", {"form": "podman", "replicas": 3}))
    container = podmans["spec"]["template"]["spec"]["containers"][0]
    theirs = only(objects(render("kubernetes", {})), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container.pop("volumeMounts") == [{"name": "street-shm", "mountPath": "/dev/shm"}]
    assert [one["name"] for one in podmans["spec"]["template"]["spec"]["volumes"]] == ["street-shm"]
    assert theirs.pop("volumeMounts")
    assert theirs.items() >= container.items()
    assert set(theirs) - set(container) == {"ports", "startupProbe", "readinessProbe", "livenessProbe"}
    assert podmans["spec"]["replicas"] == 1


def test_resources_are_the_contracts() -> None:
    found = objects(render("kubernetes", EVERYTHING, cpus=1.5, memory_mb=700))
    resources = only(found, "Deployment")["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": "1500m", "memory": "700Mi", "nvidia.com/gpu": "1"}
    assert resources["limits"] == {"cpu": "2500m", "memory": "700Mi", "nvidia.com/gpu": "1"}


def test_what_scales_the_copies_is_not_disturbed_by_an_apply() -> None:
    for section in (EVERYTHING, KEDA):
        assert "replicas" not in only(objects(render("kubernetes", section)), "Deployment")["spec"]
    assert only(objects(render("kubernetes", {})), "Deployment")["spec"]["replicas"] == 2


def test_a_budget_never_blocks_the_emptying_of_a_node() -> None:
    assert only(objects(render("kubernetes", {})), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    kinds = {one["kind"] for one in objects(render("kubernetes", {"replicas": 1}))}
    assert "PodDisruptionBudget" not in kinds


def test_nothing_leaves_a_copy_and_only_named_namespaces_reach_it() -> None:
    spec = only(objects(render("kubernetes", EVERYTHING)), "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in spec
    assert [set(source) for source in spec["ingress"][0]["from"]] == [{"podSelector"}, {"namespaceSelector"}]


def test_canary_and_shadow_get_what_they_are_given_and_no_pod_of_another_track() -> None:
    found = objects(render("kubernetes", EVERYTHING))
    rule = only(found, "HTTPRoute")["spec"]["rules"][0]
    assert [(one["name"], one["weight"]) for one in rule["backendRefs"]] == [("street", 90), ("street-canary", 10)]
    assert rule["filters"][0]["requestMirror"]["backendRef"]["name"] == "street-shadow"
    for track, name, image in (("stable", "street", IMAGE), ("canary", "street-canary", OTHER)):
        one = only(found, "Deployment", name)
        assert one["spec"]["template"]["spec"]["containers"][0]["image"] == image
        assert only(found, "Service", name)["spec"]["selector"]["ferryman/track"] == track
        assert one["spec"]["selector"]["matchLabels"]["ferryman/track"] == track


def test_the_bundle_may_come_from_an_image_of_its_own() -> None:
    pod = only(objects(render("kubernetes", {"model": {"image": OTHER}})), "Deployment")["spec"]["template"]["spec"]
    assert {"name": "model", "image": {"reference": OTHER, "pullPolicy": "IfNotPresent"}} in pod["volumes"]
    assert pod["containers"][0]["env"] == [{"name": "FERRYMAN_BUNDLE", "value": "/models/bundle"}]
    pod = only(objects(render("kubernetes", COPIED)), "Deployment")["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["image"] == OTHER
    assert pod["containers"][0]["env"] == [{"name": "FERRYMAN_BUNDLE", "value": "/models"}]


def test_a_chart_says_the_same_as_the_kustomization() -> None:
    """Fill in the values as Helm does with `{{ .Values.KEY | toJson }}`: the only expressions that there are."""
    for section in SECTIONS.values():
        files = render("kubernetes", {**section, "form": "helm", "namespace": "elsewhere"})
        values = yaml.safe_load(files["values.yaml"])
        text = "---\n".join(_filled(files, values))
        assert list(yaml.safe_load_all(text)) == objects(render("kubernetes", {**section, "namespace": "here"}))


def _filled(files: Files, values: dict[str, Any]) -> Iterator[str]:
    flat = {
        f"{key}.{inner}": one
        for key, table in values.items()
        if isinstance(table, dict)
        for inner, one in table.items()
    }
    for name, text in files.items():
        if not name.startswith("templates/"):
            continue
        for key, value in {**flat, **values}.items():
            text = text.replace("{{ .Values." + key + " | toJson }}", json.dumps(value))
        text = text.replace("{{ .Release.Namespace | toJson }}", '"here"')
        text = text.replace("{{ .Release.Namespace }}", "here").replace("{{ .Release.Service }}", "ferryman")
        text = text.replace("{{ `{{` }}", "OPENED")
        assert "{{" not in text, "an expression that Helm would not read, or read as something else"
        yield text.replace("OPENED", "{{")


def test_a_path_and_a_tag_of_any_signs_leave_program_and_labels_whole() -> None:
    section = {"model": {"image": OTHER, "by": "copy", "path": "it's here"}}
    pod = only(objects(render("kubernetes", section)), "Deployment")["spec"]["template"]["spec"]
    program = ast.parse(pod["initContainers"][0]["command"][-1])
    assert [one.value for one in ast.walk(program) if isinstance(one, ast.Constant)] == ["/it's here", "/models", True]
    for image, version in (
        ("registry:5000/street", ""),
        ("localhost/street", ""),
        ("registry:5000/street:release-10--2", "release-10"),
        (OTHER, "c" * 12),
    ):
        section = {"gateway": {"gateway": "front"}, "canary": {"image": image}}
        one = only(objects(render("kubernetes", section)), "Deployment", "street-canary")
        assert one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/version"] == version


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"replicsa": 3}, "unknown key 'targets.kubernetes.replicsa'; did you mean 'replicas'?"),
        ({"autoscale": {"leest": 3}}, "did you mean 'least'?"),
        ({"replicas": 0}, "key 'targets.kubernetes.replicas' = 0"),
        ({"canary": {"image": OTHER}}, "need a gateway table"),
        ({"autoscale": {"by": "keda"}}, 'by = "keda" needs prometheus'),
        ({"autoscale": {"least": 5, "most": 2}}, "least = 5 is over most = 2"),
        ({"namespace": "Not_A_Name"}, "targets.kubernetes.namespace"),
        ({"service": "UPPER"}, "targets.kubernetes.service"),
        ({"kind": "kubernetse"}, "did you mean 'kubernetes'?"),
    ],
)
def test_a_wrong_setting_names_its_key_and_the_way_out(section: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_target("kubernetes", section, origin="test")
    assert said in str(caught.value)
    assert caught.value.hint


def test_kserve_gets_objects_that_its_definitions_accept() -> None:
    section = {"storage": "oci://registry.example.com/model:1", "mode": "Standard", "canary_percent": 10, "gpus": 1}
    for settings in ({}, section):
        found = objects(render("kserve", settings))
        assert [one["kind"] for one in found] == ["ServingRuntime", "InferenceService"]
        for one in found:
            check_custom(one)
        runtime, service = found
        assert service["spec"]["predictor"]["model"]["runtime"] == runtime["metadata"]["name"]
        assert service["spec"]["predictor"]["model"]["protocolVersion"] in runtime["spec"]["protocolVersions"]

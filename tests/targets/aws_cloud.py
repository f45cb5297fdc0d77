"""AWS as moto plays it, served over HTTP, with what moto lacks: endpoints that take their time, change and fail."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import boto3
import botocore.loaders
import botocore.session
import pytest
from moto.cloudwatch.models import cloudwatch_backends
from moto.core.base_backend import BackendDict
from moto.core.responses import ActionResult
from moto.ecr.responses import ECRResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpoint, FakeEndpointConfig, SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

ACCOUNT, REGION = "123456789012", "eu-central-1"
PING = "The primary container for production variant main did not pass the ping health check."
_BUSY = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")


@dataclass
class Cloud:
    """Steer what AWS does: `ends` are the statuses in which the next creations and updates end, InService by default.

    `refusals`, a code and a message each, answer the next calls; `calls` are the operations that were asked for.
    """

    url: str = ""
    ends: list[str] = field(default_factory=list)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    proxy: str = ""
    pending: dict[str, tuple[str, str, int]] = field(default_factory=dict)

    def client(self, service: str) -> Any:  # boto3's
        return boto3.client(service, region_name=REGION, endpoint_url=self.url)

    def endpoint(self, name: str = "street") -> FakeEndpoint:
        return sagemaker_backends[ACCOUNT][REGION].endpoints[name]

    def models(self) -> list[dict[str, Any]]:
        """Give every model there is, the oldest first."""
        client = self.client("sagemaker")
        names = [model.model_name for model in sagemaker_backends[ACCOUNT][REGION].list_models()]
        return [{**client.describe_model(ModelName=name), "ResponseMetadata": None} for name in names]

    def ring(self, alarm: str, reason: str) -> None:
        cloudwatch_backends[ACCOUNT][REGION].set_alarm_state(alarm, reason, "{}", "ALARM")

    def begin(self, endpoint: FakeEndpoint, status: str, config: str) -> None:
        """Let an endpoint be `status` for one look, and then end as was said."""
        endpoint.endpoint_status, endpoint.failure_reason = status, None
        self.pending[endpoint.endpoint_name] = (self.ends.pop(0) if self.ends else "InService", config, 1)

    def look(self, endpoint: FakeEndpoint) -> None:
        """Go on by one look."""
        if (pending := self.pending.pop(endpoint.endpoint_name, None)) is None:
            return
        end, config, left = pending
        if left:
            self.pending[endpoint.endpoint_name] = (end, config, left - 1)
            return
        endpoint.endpoint_status = "InService" if end == "RolledBack" else end
        if end == "InService":
            _take_over(endpoint, config)
        elif end != "RolledBack":
            endpoint.failure_reason = PING

    def __call__(self, environment: dict[str, Any], start: Any) -> Any:  # WSGI
        request = Request(environment)
        action = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if self.refusals and action:
            code, message = self.refusals.pop(0)
            body = json.dumps({"__type": code, "message": message})
            return Response(body, 400, content_type="application/x-amz-json-1.1")(environment, start)
        self.calls.append(action)
        return self.application(environment, start)

    def __post_init__(self) -> None:
        self.application = DomainDispatcherApplication(create_backend_app)


def _take_over(endpoint: FakeEndpoint, config: str) -> None:
    configs = sagemaker_backends[ACCOUNT][REGION].endpoint_configs
    endpoint.endpoint_config_name = config
    endpoint.production_variants = endpoint._process_production_variants(configs[config].production_variants)


@contextmanager
def cloud(patch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Serve it on a free port, and point boto3 there."""
    one = Cloud()
    _extend(patch, one)
    patch.setattr(botocore.session, "create_loader", cache(botocore.loaders.create_loader))  # 0.1 s a session
    server = make_server("127.0.0.1", 0, one, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    one.url = f"http://127.0.0.1:{server.server_port}"
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    said = {
        "ENDPOINT_URL": one.url,
        "ACCESS_KEY_ID": "AKIATEST",
        "SECRET_ACCESS_KEY": "secret",
        "EC2_METADATA_DISABLED": "true",
        "CONFIG_FILE": "/nonexistent/config",
        "SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
    }
    for name, value in said.items():
        patch.setenv(f"AWS_{name}", value)
    patch.setenv("NO_PROXY", "127.0.0.1")
    try:
        yield one
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
        BackendDict.reset()


def _extend(patch: pytest.MonkeyPatch, one: Cloud) -> None:
    """Add to moto what it says is "not implemented", by the rules of the API reference."""
    for owner, name, make in (
        (SageMakerModelBackend, "create_endpoint", _creating),
        (SageMakerModelBackend, "describe_endpoint", _describing),
        (SageMakerModelBackend, "delete_endpoint_config", _deleting),
        (SageMakerResponse, "update_endpoint", _updating),
        (SageMakerResponse, "create_model", _isolating),
        (FakeEndpointConfig, "validate_instance_type", _checking),
        (ECRResponse, "get_authorization_token", _letting_in),
    ):
        patch.setattr(owner, name, make(one, getattr(owner, name, None)), raising=False)


def _creating(one: Cloud, create: Any) -> Any:
    def create_endpoint(self: Any, endpoint_name: str, endpoint_config_name: str, tags: Any) -> FakeEndpoint:
        if endpoint_name in self.endpoints:
            raise ValidationError(message=f"Cannot create already existing endpoint '{endpoint_name}'.")
        endpoint: FakeEndpoint = create(self, endpoint_name, endpoint_config_name, tags)
        one.begin(endpoint, "Creating", endpoint_config_name)
        return endpoint

    return create_endpoint


def _describing(one: Cloud, describe: Any) -> Any:
    def describe_endpoint(self: Any, endpoint_name: str) -> Any:
        if endpoint_name in self.endpoints:
            one.look(self.endpoints[endpoint_name])
        return describe(self, endpoint_name)

    return describe_endpoint


def _deleting(one: Cloud, delete: Any) -> Any:
    def delete_endpoint_config(self: Any, endpoint_config_name: str) -> None:
        using = [each for each in self.endpoints.values() if each.endpoint_config_name == endpoint_config_name]
        assert using == [], "a configuration that an endpoint uses must not be deleted (API_DeleteEndpointConfig)"
        delete(self, endpoint_config_name)

    return delete_endpoint_config


def _updating(one: Cloud, missing: None) -> Any:
    def update_endpoint(self: SageMakerResponse) -> ActionResult:
        keys = ("EndpointName", "EndpointConfigName", "DeploymentConfig", "RetainAllVariantProperties")
        said = {key: self._get_param(key) for key in keys}
        one.updates.append(said)
        backend = self.sagemaker_backend
        backend.describe_endpoint_config(said["EndpointConfigName"])
        endpoint = backend.endpoints[said["EndpointName"]]
        if endpoint.endpoint_status in (*_BUSY, "Failed"):
            raise ValidationError(message=f"Cannot update endpoint in {endpoint.endpoint_status} state.")
        back = (said["DeploymentConfig"] or {}).get("AutoRollbackConfiguration", {}).get("Alarms", [])
        known = cloudwatch_backends[ACCOUNT][REGION].alarms
        if unknown := [alarm["AlarmName"] for alarm in back if alarm["AlarmName"] not in known]:
            raise ValidationError(message=f"Could not find alarms {unknown}.")
        one.begin(endpoint, "Updating", said["EndpointConfigName"])
        return ActionResult({"EndpointArn": endpoint.arn})

    return update_endpoint


def _isolating(one: Cloud, create: Any) -> Any:
    def create_model(self: SageMakerResponse) -> ActionResult:
        answer: ActionResult = create(self)
        model = self.sagemaker_backend.describe_model(self._get_param("ModelName"))
        model.enable_network_isolation = bool(self._get_param("EnableNetworkIsolation"))  # which moto forgets
        return answer

    return create_model


def _checking(one: Cloud, check: Any) -> Any:
    def validate_instance_type(self: FakeEndpointConfig, instance_type: str) -> None:
        if not instance_type.startswith("ml.c7g."):  # moto's list ends before Graviton
            check(self, instance_type)

    return validate_instance_type


def _letting_in(one: Cloud, get_token: Any) -> Any:
    def get_authorization_token(self: ECRResponse) -> ActionResult:
        answer: ActionResult = get_token(self)
        found: Any = answer.result
        for told in found["authorizationData"]:
            told["proxyEndpoint"] = one.proxy or told["proxyEndpoint"]
        return answer

    return get_authorization_token

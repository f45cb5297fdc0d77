"""Settings of the SageMaker target for its tests."""

from typing import Any

from tests.targets.aws_cloud import ACCOUNT, REGION
from tests.targets.making import target

ROLE = f"arn:aws:iam::{ACCOUNT}:role/ferryman"
EVERYTHING: dict[str, Any] = {  # TOML
    "instance_type": "ml.c5.large",
    "autoscale": {"least": 2, "most": 6, "by": "cpu"},
    "rollout": {"by": "linear", "percent": 10, "wait_s": 120, "keep_old_s": 60},
    "alarms": {"p99_ms": 40.0, "others": ["queue-too-long"]},
    "network": {"subnets": ["subnet-0a1b2c3d"], "security_groups": ["sg-0a1b2c3d"]},
    "allow_out": True,
    "capture": {"to": "s3://a-bucket/street", "percent": 5, "kms_key": "alias/capture"},
    "kms_key": "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "start_s": 300,
    "env": {"OTEL_SERVICE_NAME": "street ${x} %{y}"},
    "tags": {"team": "vision"},
}


def sagemaker(**settings: Any) -> Any:  # a Target
    said = {"region": REGION, "role": ROLE, "repository": "street", "wait_s": 20, **settings}
    return target("sagemaker", **said)

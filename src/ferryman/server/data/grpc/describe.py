"""What a server and its models tell of themselves, as the protocol's messages."""

from collections.abc import Mapping, Sequence
from typing import Any

from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.grpc.messages import message
from ferryman.server.data.models import Served
from ferryman.server.data.v2.messages import describe_tensors

EXTENSIONS = ("model_repository", "model_configuration", "statistics", "schedule_policy")
_Metadata = message("inference.ModelMetadataResponse")
_Config = message("inference.ModelConfigResponse")
_Index = message("inference.RepositoryIndexResponse")
_MOST = 2**31 - 1


def describe_model(served: Served, dataplane: Dataplane) -> Any:  # a ModelMetadataResponse
    """Tell what a model takes and gives; -1 is any size."""
    manifest = served.bundle.manifest
    answer = _Metadata(name=served.name, versions=dataplane.serving(served.name), platform=manifest.format)
    tensors = describe_tensors(served.loaded.signature)
    for tensor in tensors["inputs"]:
        answer.inputs.add(**tensor)
    for tensor in tensors["outputs"]:
        answer.outputs.add(**tensor)
    answer.properties["task"] = served.bundle.deployment.task.kind
    answer.properties["precision"] = manifest.precision
    answer.properties["digest"] = manifest.digest
    answer.properties["engine"] = served.loaded.engine or manifest.format
    if served.device:
        answer.properties["device_engine"] = served.device
    return answer


def describe_config(served: Served) -> Any:  # a ModelConfigResponse
    """Tell a model's shapes with its batch left out of them, where it has one."""
    answer = _Config()
    config = answer.config
    config.name, config.platform, config.backend = served.name, served.bundle.manifest.format, "ferryman"
    signature = served.loaded.signature
    is_batched = served.loaded.max_batch > 1 and all(
        spec.has_dynamic_batch for spec in (*signature.inputs, *signature.outputs)
    )
    config.max_batch_size = min(served.loaded.max_batch, served.lane.limits.max_batch, _MOST) if is_batched else 0
    if is_batched:
        config.dynamic_batching.SetInParent()
    tensors = describe_tensors(signature)
    for side, target in (("inputs", config.input), ("outputs", config.output)):
        for tensor in tensors[side]:
            kind = "TYPE_STRING" if tensor["datatype"] == "BYTES" else f"TYPE_{tensor['datatype']}"
            target.add(name=tensor["name"], data_type=kind, dims=tensor["shape"][1:] if is_batched else tensor["shape"])
    return answer


def list_models(index: Sequence[Mapping[str, str]], *, only_ready: bool) -> Any:  # a RepositoryIndexResponse
    """List every version of every model."""
    answer = _Index()
    for entry in index:
        if not only_ready or entry["state"] == "READY":
            answer.models.add(**entry)
    return answer

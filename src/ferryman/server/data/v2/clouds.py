"""What the clouds ask a container under: addresses as data. Behind them is what V2's own addresses do.

Sources, as read in 2026: SageMaker's "Use Your Own Inference Code", Vertex AI's "Custom container requirements for
inference", Azure ML's "Deploy a custom container". Cloud Run and Azure Container Apps ask for no address.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SAGEMAKER_PING = "/ping"
SAGEMAKER_INVOCATIONS = "/invocations"
AZURE_SCORE = "/score"


@dataclass(frozen=True, slots=True)
class CloudRoutes:
    """Hold the paths where a server's health is asked for (200 or 503, no body), and those of its one model."""

    health: tuple[str, ...] = (SAGEMAKER_PING,)
    infer: tuple[str, ...] = (SAGEMAKER_INVOCATIONS, AZURE_SCORE)


def cloud_routes(health: str = "", infer: str = "") -> CloudRoutes:
    """Give the usual routes and, where they are named, one more of each, as Vertex AI chooses them."""
    usual = CloudRoutes()
    return CloudRoutes(
        health=(*usual.health, *([health] if health else ())), infer=(*usual.infer, *([infer] if infer else ()))
    )


def vertex_routes(environment: Mapping[str, str]) -> tuple[str, str]:
    """Give the health and predict routes that Vertex AI tells a container ("" and "": none); its defaults by their ids.

    AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE, else /v1/endpoints/ENDPOINT/deployedModels/MODEL and the same with :predict.
    """
    endpoint, model = (environment.get(name, "") for name in ("AIP_ENDPOINT_ID", "AIP_DEPLOYED_MODEL_ID"))
    usual = f"/v1/endpoints/{endpoint}/deployedModels/{model}" if endpoint and model else ""
    health = environment.get("AIP_HEALTH_ROUTE") or usual
    return health, environment.get("AIP_PREDICT_ROUTE") or (f"{usual}:predict" if usual else "")

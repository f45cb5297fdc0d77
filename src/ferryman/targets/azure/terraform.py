"""Resources of Azure for Terraform's azapi provider, whose bodies are the Resource Manager's own."""

from ferryman.targets.azure.arm import group_of
from ferryman.targets.azure.settings import AzureSection
from ferryman.targets.terraform import Block, Expression, write_terraform
from ferryman.targets.wanted import Json

_SOURCE = {"azapi": {"source": "Azure/azapi", "version": ">= 2.0"}}
_OUTSIDE = ("location", "tags", "identity")  # of the body, what is an attribute of its own


def resource_files(
    resources: dict[str, tuple[str, str, Json]], section: AzureSection, parents: Json | None = None
) -> str:
    """Give main.tf: each resource with its type, name and body; `parents` says what is not in the group itself."""
    blocks = [Block("terraform", blocks=(Block("required_providers", attributes=_SOURCE),))]
    before = ""  # each waits for the one before it
    for label, (kind, name, body) in resources.items():
        attributes = {
            "type": kind,
            "name": name,
            "parent_id": (parents or {}).get(label, group_of(section)),
            "location": body.get("location"),
            "tags": body.get("tags"),
            "body": {key: value for key, value in body.items() if key not in _OUTSIDE},
            "response_export_values": ["properties"],
            "depends_on": [Expression(f"azapi_resource.{before}")] if before else None,
        }
        inner = _identity(body["identity"]) if "identity" in body else ()
        blocks.append(Block("resource", ("azapi_resource", label), attributes, inner))
        before = label
    last = f"azapi_resource.{next(reversed(resources))}.id"
    return write_terraform([*blocks, Block("output", ("id",), {"value": Expression(last)})])


def _identity(identity: Json) -> tuple[Block, ...]:
    said: Json = {"type": identity["type"]}
    if "userAssignedIdentities" in identity:
        said["identity_ids"] = list(identity["userAssignedIdentities"])
    return (Block("identity", attributes=said),)

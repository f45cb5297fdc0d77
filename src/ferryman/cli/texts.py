"""Find out what a model of texts calls them."""

from ferryman import api
from ferryman.client.access import Access
from ferryman.client.http import Client
from ferryman.tasks.text import TextSpec


def text_column(target: str | api.Bundle, model: str | None, access: Access) -> str:
    """Give the name of a model's one text, of a bundle or a server; nothing where it takes none, or pairs."""
    if isinstance(target, str):
        with Client(target, access=access) as client:
            known = client.models() if model is None else [model]
            told = client.metadata(known[0]).get("parameters") if len(known) == 1 else {}
        columns = list((told or {}).get("columns") or ())
    else:
        spec = target.deployment.task
        columns = list(spec.columns) if isinstance(spec, TextSpec) else []
    return str(columns[0]) if len(columns) == 1 else ""

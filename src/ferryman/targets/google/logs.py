"""The last lines that copies have written, from Cloud Logging."""

import json
from collections.abc import Iterator
from typing import Any

from ferryman.targets.google.api import Api

_MOST = 1000  # entries of one page


def read_logs(api: Api, condition: str, *, lines: int, source: str) -> Iterator[str]:
    """Yield the last lines that fit a condition, oldest first, each begun with what its label `source` says."""
    body: dict[str, Any] = {  # JSON
        "resourceNames": [f"projects/{api.project}"],
        "filter": condition,
        "orderBy": "timestamp desc",
        "pageSize": min(lines, _MOST),
    }
    found: list[dict[str, Any]] = []  # JSON
    while len(found) < lines:  # a page may be short, even empty, where Google is not done looking
        page = api.call(api.client.entries().list(body=body), "logs")
        found += page.get("entries", [])
        if not page.get("nextPageToken"):
            break
        body["pageToken"] = page["nextPageToken"]
    for one in reversed(found[:lines]):
        yield f"{one.get('resource', {}).get('labels', {}).get(source, '-')}: {_text(one)}"


def _text(entry: dict[str, Any]) -> str:  # JSON
    if "textPayload" in entry:
        return str(entry["textPayload"]).rstrip("\n")
    said = entry.get("jsonPayload") or entry.get("httpRequest") or entry.get("protoPayload") or {}
    return str(said["message"]) if set(said) == {"message"} else json.dumps(said)

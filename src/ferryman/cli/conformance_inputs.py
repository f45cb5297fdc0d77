"""Read what `ferryman conformance` is given on its command line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ferryman.core.errors import ConfigError


def split_pair(text: str, sign: str, form: str) -> tuple[str, str]:
    """Read NAME and VALUE around a sign; raises ConfigError that shows the form."""
    name, found, value = text.partition(sign)
    if not found or not name.strip():
        raise ConfigError(f"{text!r} is not of the form {form}", hint=f"give {form}")
    return name.strip(), value.strip()


def read_requests(given: Sequence[str]) -> dict[str, dict[str, Any]]:  # JSON
    """Read NAME=FILE pairs, each file a V2 request; raises ConfigError."""
    pairs = [split_pair(text, "=", "NAME=FILE") for text in given]
    return {name: _read(Path(file)) for name, file in pairs}


def _read(file: Path) -> dict[str, Any]:  # JSON
    try:
        request = json.loads(file.read_bytes())
        if isinstance(request["inputs"], list):
            return dict(request)
    except (OSError, ValueError, TypeError, KeyError) as error:
        hint = 'JSON with "inputs", as POST .../infer takes it'
        raise ConfigError(f"{file} is not a request: {error!r}", hint=hint) from None
    raise ConfigError(f"{file} is not a request: 'inputs' is no list", hint="as POST .../infer takes it")

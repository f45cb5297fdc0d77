"""JSON in, JSON out: what every handler of the control plane does with a request."""

import json
from dataclasses import replace
from typing import Any

from ferryman.core.errors import FerrymanError, InputError
from ferryman.server.control.rollout_moves import Conflict
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.v2.addresses import Handler
from ferryman.server.data.v2.errors import internal, refusal

_MOST_BYTES = 64 * 1024
_MOST_CHARACTERS = 200
_CONFLICT = 409


def told(handler: Handler) -> Handler:
    """Turn errors into answers."""

    async def answered(request: Request, where: dict[str, str]) -> Response:
        try:
            return await handler(request, where)
        except FerrymanError as error:
            return _refusal(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a request: logged, and told without its words
            return internal(error)

    return answered


def read(request: Request, *known: str) -> dict[str, Any]:  # JSON
    """Read a JSON object that has no other keys than these; raises InputError."""
    if len(request.body) > _MOST_BYTES:
        raise InputError(
            f"the request has {len(request.body)} bytes; at most {_MOST_BYTES} are read",
            hint="send it in parts; ferryman feedback FILE does so",
        )
    try:
        asked = json.loads(bytes(request.body) or b"{}", parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the request is no JSON: {error}") from None
    if not isinstance(asked, dict):
        raise InputError("the request is no JSON object")
    if unknown := sorted(set(asked) - set(known)):
        raise InputError(f"unknown key '{unknown[0]}'", hint=f"keys that are taken here: {', '.join(known) or 'none'}")
    return asked


def text(values: dict[str, Any], key: str) -> str | None:  # JSON
    """Give a value that is a short text, or None where it is missing; raises InputError."""
    value = values.get(key)
    if value is not None and not (isinstance(value, str) and 0 < len(value) <= _MOST_CHARACTERS):
        raise InputError(f"key '{key}' must be text")
    return value


def answer(value: object, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(status, json.dumps(value, allow_nan=False).encode())


def _refusal(error: FerrymanError) -> Response:
    response = Response(_CONFLICT) if isinstance(error, Conflict) else refusal(error)
    if response.status == 500:  # its words are not for callers
        return response
    words = {"error": str(error), **({"hint": error.hint} if error.hint else {})}
    return replace(response, body=json.dumps(words).encode())


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")

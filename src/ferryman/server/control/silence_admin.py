"""The silences' part of the admin interface: alerts that somebody knows of are muted for a time."""

import math

from ferryman.core.errors import InputError
from ferryman.server.control.admin_json import answer, read, text, told
from ferryman.server.control.watcher import Watcher
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.v2.addresses import Route

SILENCES = "/v1/monitor/silences"
_FORM = '{"matchers": {"rule": "drift", "model": "street"}, "for_s": 7200, "comment": "WHY"}'


def silence_routes(watcher: Watcher) -> list[Route]:
    """Give the handlers that list, make and end silences; they belong on the admin listener."""

    async def listed(_request: Request, _parameters: dict[str, str]) -> Response:
        return answer(await watcher.ask("silences"))

    async def made(request: Request, _parameters: dict[str, str]) -> Response:
        asked = read(request, "matchers", "for_s", "comment", "author")
        matchers, for_s = asked.get("matchers"), asked.get("for_s")
        if not isinstance(matchers, dict) or not all(isinstance(pattern, str) for pattern in matchers.values()):
            raise InputError("key 'matchers' must be an object of texts", hint=_FORM)
        if not isinstance(for_s, int | float) or isinstance(for_s, bool) or not math.isfinite(for_s):
            raise InputError("key 'for_s' must be a number of seconds", hint=_FORM)
        author = text(asked, "author") or (request.caller.id if request.caller is not None else "")
        comment = text(asked, "comment")
        if comment is None:
            raise InputError("key 'comment' must say why", hint=_FORM)
        content = {"matchers": matchers, "for_s": for_s, "author": author, "comment": comment}
        return answer(await watcher.ask("silence", content), 201)

    async def ended(_request: Request, parameters: dict[str, str]) -> Response:
        return answer(await watcher.ask("unsilence", parameters["id"]))

    return [
        ("GET", SILENCES, told(listed)),
        ("POST", SILENCES, told(made)),
        ("DELETE", f"{SILENCES}/{{id}}", told(ended)),
    ]

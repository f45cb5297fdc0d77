"""The Open Inference Protocol V2 over HTTP: translate requests for the dataplane, and its answers back.

At the same address as tensors, POST a picture's bytes, or {"rows": [...]}, to get answers in the task's own words.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ferryman.core.errors import InputError
from ferryman.core.signature import Array
from ferryman.core.task import Item
from ferryman.server.data.answers import Unsupported, guarded, json_response
from ferryman.server.data.body import Intake
from ferryman.server.data.old_dataplane import Dataplane
from ferryman.server.data.v2.messages import (
    TensorRequest,
    decode_rows,
    decode_tensors,
    describe_tensors,
    encode_answers,
    encode_tensors,
    parse_json,
    to_json,
)

_JSON_LENGTH = "inference-header-content-length"
_BYTES = "application/octet-stream"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"  # what curl -d says where it is told nothing
_MOST_ON_THE_LOOP_BYTES = 256_000
_ANSWER_BYTES = 256  # about what a row's takes
_Result = TypeVar("_Result")


class HttpV2:
    """Translate between HTTP and a dataplane."""

    def __init__(self, dataplane: Dataplane, intake: Intake, *, server_version: str) -> None:
        self._dataplane = dataplane
        self._intake = intake
        self._server_version = server_version

    def routes(self) -> list[Route]:
        """Give every address of the protocol."""
        routes = [
            Route("/v2", guarded(self.describe_server)),
            Route("/v2/health/live", guarded(self.tell_live)),
            Route("/v2/health/ready", guarded(self.tell_ready)),
            Route("/v2/repository/index", guarded(self.list_models), methods=["GET", "POST"]),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [
                Route(model, guarded(self.describe_model)),
                Route(f"{model}/ready", guarded(self.tell_model_ready)),
                Route(f"{model}/infer", guarded(self.infer), methods=["POST"]),
            ]
        return routes

    async def describe_server(self, _: Request) -> Response:
        """Answer GET /v2."""
        server = {"name": "ferryman", "version": self._server_version, "extensions": ["binary_tensor_data"]}
        return json_response(to_json(server))

    async def list_models(self, _: Request) -> Response:
        """Answer POST /v2/repository/index (and GET): what is served here, and what isn't ready."""
        return json_response(to_json(self._dataplane.index()))

    async def tell_live(self, _: Request) -> Response:
        """Answer GET /v2/health/live: the process answers."""
        return json_response(b'{"live":true}')

    async def tell_ready(self, _: Request) -> Response:
        """Answer GET /v2/health/ready: every model answers its golden samples right, and the server is not stopping."""
        reason = self._dataplane.why_not_ready()
        if reason:
            return json_response(to_json({"ready": False, "error": reason}), 503)
        return json_response(b'{"ready":true}')

    async def tell_model_ready(self, request: Request) -> Response:
        """Answer GET /v2/models/{model}/ready."""
        model = self._dataplane.find(*_address(request))
        return json_response(to_json({"name": model.name, "ready": True}))

    async def describe_model(self, request: Request) -> Response:
        """Answer GET /v2/models/{model}."""
        model = self._dataplane.find(*_address(request))
        manifest = model.bundle.manifest
        metadata = {
            "name": model.name,
            "versions": self._dataplane.versions(model.name),
            "platform": manifest.format,
            **describe_tensors(model.session.signature),
            "parameters": {"task": model.task.kind, "precision": manifest.precision, "digest": manifest.digest},
        }
        return json_response(to_json(metadata))

    async def infer(self, request: Request) -> Response:
        """Answer POST /v2/models/{model}/infer."""
        name, version = _address(request)
        with self._dataplane.track(name):
            self._dataplane.find(name, version)  # before the body: an unknown model needs no upload
            is_picture = _is_picture(request)
            async with self._intake.body(request) as body:
                _check_form(request, body)
                if is_picture:
                    return await self._infer_items(name, version, [body])
                split = _split_at(request, body)
                asked = await _beside_the_loop(lambda: _decode(body, split), size_bytes=len(body))
                if isinstance(asked, TensorRequest):
                    return await self._infer_tensors(name, version, asked)
                return await self._infer_rows(name, version, asked)

    async def _infer_tensors(self, name: str, version: str | None, asked: TensorRequest) -> Response:
        model = self._dataplane.find(name, version)
        outputs = await self._dataplane.infer_tensors(name, version, asked.inputs, asked.outputs)
        size_bytes = sum(array.nbytes for array in outputs.values())
        return await _beside_the_loop(
            lambda: _tensor_response(asked, outputs, name=name, version=model.version), size_bytes=size_bytes
        )

    async def _infer_rows(self, name: str, version: str | None, rows: Sequence[Item]) -> Response:
        if self._dataplane.find(name, version).takes != "row":
            raise InputError(f"model '{name}' doesn't take rows", hint="see /docs for what it takes")
        return await self._infer_items(name, version, rows)

    async def _infer_items(self, name: str, version: str | None, items: Sequence[Item]) -> Response:
        model = self._dataplane.find(name, version)
        if isinstance(items[0], bytes) and model.takes != "picture":
            raise Unsupported(f"model '{name}' doesn't take pictures", hint="see /docs for what it takes")
        answers = await self._dataplane.infer_items(name, version, items)
        return await _beside_the_loop(
            lambda: json_response(encode_answers(answers, name=name, version=model.version)),
            size_bytes=len(answers) * _ANSWER_BYTES,
        )


async def _beside_the_loop(work: Callable[[], _Result], *, size_bytes: int) -> _Result:
    """Do small work at once, and large work in a thread, so that the loop goes on answering health probes."""
    return await asyncio.to_thread(work) if size_bytes > _MOST_ON_THE_LOOP_BYTES else work()


def _decode(body: bytes, split: int) -> TensorRequest | list[dict[str, Any]]:  # rows from outside
    raw = parse_json(memoryview(body)[:split])
    return decode_rows(raw) if "rows" in raw else decode_tensors(raw, memoryview(body)[split:])


def _tensor_response(asked: TensorRequest, outputs: Mapping[str, Array], *, name: str, version: str) -> Response:
    answer, blobs = encode_tensors(asked, outputs, name=name, version=version)
    if not blobs:
        return json_response(answer)
    headers = {"Inference-Header-Content-Length": str(len(answer))}
    return Response(b"".join((answer, *blobs)), headers=headers, media_type=_BYTES)


def _address(request: Request) -> tuple[str, str | None]:
    return request.path_params["model"], request.path_params.get("version")


def _is_picture(request: Request) -> bool:
    """Tell from the headers what the body is; raises Unsupported for what can't be read here."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Unsupported(f"content-encoding {encoding!r:.40} can't be read", hint="send the body as it is")
    content_type = _content_type(request)
    if _JSON_LENGTH in request.headers:
        readable = {"", _BYTES, _JSON}
    else:
        if content_type == _BYTES or content_type.startswith("image/"):
            return True
        readable = {"", _JSON, _FORM}
    if content_type not in readable:
        raise _unreadable(content_type)
    return False


def _check_form(request: Request, body: bytes) -> None:
    """Refuse a form; a JSON object under a form's name is what clients send that set no content type."""
    if _content_type(request) == _FORM and not body.lstrip().startswith(b"{"):
        raise _unreadable(_FORM)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _unreadable(content_type: str) -> Unsupported:
    hint = f"send {_JSON}, or a picture as image/jpeg"
    return Unsupported(f"content-type {content_type!r:.60} can't be read", hint=hint)


def _split_at(request: Request, body: bytes) -> int:
    """Give the length of the JSON at the start of the body."""
    declared = request.headers.get(_JSON_LENGTH)
    if declared is None:
        return len(body)
    if not (declared.isascii() and declared.isdecimal()) or len(declared) > 18 or int(declared) > len(body):
        raise InputError(f"inference-header-content-length {declared!r:.40} with a body of {len(body)} bytes")
    return int(declared)

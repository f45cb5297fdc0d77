"""What is read of a server: its health, its models, its figures, its documentation."""

from base64 import b64encode
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from ferryman.core.errors import Forbidden
from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.models import Served
from ferryman.server.data.signals.exposition import wants_openmetrics
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.v2.addresses import Address
from ferryman.server.data.v2.clouds import CloudRoutes
from ferryman.server.data.v2.errors import error_response
from ferryman.server.data.v2.messages import describe_tensors, to_json
from ferryman.server.data.v2.openapi import describe
from ferryman.server.data.v2.statistics import count_version
from ferryman.server.data.v2.texts import text_columns

_DOCS = Path(__file__).with_name("docs.html")
DOCS = "/docs"
INDEX = "/v2/repository/index"
_GET = ("GET", "HEAD")
_OPEN = frozenset({"/v2", "/v2/health/live", "/v2/health/ready", DOCS})  # a browser has no key until a page asks for it
EXTENSIONS = ["binary_tensor_data", "model_repository", "model_configuration", "statistics", "schedule_policy"]


class Pages:
    """Answer what needs no model's engine."""

    def __init__(
        self, dataplane: Dataplane, metrics: Metrics, *, server_version: str, clouds: CloudRoutes | None = None
    ) -> None:
        self.clouds = clouds or CloudRoutes()
        self._dataplane = dataplane
        self._metrics = metrics
        self._server_version = server_version
        self._pages: dict[str, Callable[[Request], Response]] = {
            "/v2": self._show_server,
            "/v2/health/live": self._show_live,
            "/v2/health/ready": self._show_ready,
            INDEX: self._show_index,
            "/metrics": self._show_metrics,
            "/openapi.json": self._show_description,
            DOCS: self._show_docs,
            **dict.fromkeys(self.clouds.health, self._show_ping),
        }

    def addresses(self) -> dict[str, tuple[str, ...]]:
        """Give the server's own paths and their methods."""
        return {path: (*_GET, "POST") if path == INDEX else _GET for path in self._pages}

    def action_of(self, path: str) -> Literal["open", "read"]:
        """Tell what a caller must be allowed to do to read a page; load balancers ask for health without a key."""
        return "open" if path in _OPEN or path in self.clouds.health else "read"

    def answer(self, request: Request, address: Address) -> Response:
        """Give a page, or what a model's addresses tell; raises FerrymanError."""
        if address.verb == "page":
            return self._pages[request.path](request)
        if address.verb == "stream":
            return error_response("this address takes a WebSocket", 426, ((b"upgrade", b"websocket"),))
        served = self._dataplane.find(address.model, address.version)
        shown: dict[str, Callable[[Served], Any]] = {  # JSON
            "describe": self._describe,
            "ready": lambda served: {"name": served.name, "ready": True},
            "config": _configuration,
            "stats": self._statistics,
        }
        return Response(200, to_json(shown[address.verb](served)))

    def _show_server(self, _: Request) -> Response:
        server = {"name": "ferryman", "version": self._server_version, "extensions": EXTENSIONS}
        return Response(200, to_json(server))

    def _show_live(self, _: Request) -> Response:
        return Response(200, b'{"live":true}')

    def _show_ready(self, _: Request) -> Response:
        reason = self._dataplane.why_not_ready()
        if reason:
            return Response(503, to_json({"ready": False, "error": reason}), headers=((b"retry-after", b"1"),))
        return Response(200, b'{"ready":true}')

    def _show_ping(self, _: Request) -> Response:
        return Response(503 if self._dataplane.why_not_ready() else 200, b"", b"")

    def _show_index(self, request: Request) -> Response:
        return Response(200, to_json([row for row in self._dataplane.index() if row["name"] in request.reach]))

    def _show_metrics(self, request: Request) -> Response:
        if not request.reach.are_all:
            raise Forbidden(
                f"{request.caller.id} may not read the figures: they are of all models",
                hint="ask with a credential that is not limited to some",
            )
        text, content_type = self._metrics.render(wants_openmetrics(request.header(b"accept")))
        return Response(200, text, content_type.encode())

    def _show_description(self, request: Request) -> Response:
        models = [served for served in self._dataplane.models() if served.name in request.reach]
        return Response(200, to_json(describe(models, server_version=self._server_version, clouds=self.clouds)))

    def _show_docs(self, _: Request) -> Response:
        page, policy = _docs()
        return Response(200, page, b"text/html; charset=utf-8", ((b"content-security-policy", policy),))

    def _describe(self, served: Served) -> dict[str, Any]:  # JSON
        manifest = served.bundle.manifest
        return {
            "name": served.name,
            "versions": self._dataplane.serving(served.name),
            "platform": manifest.format,
            **describe_tensors(served.loaded.signature),
            "parameters": {
                "task": served.bundle.deployment.task.kind,
                **({"columns": columns} if (columns := text_columns(served)) else {}),
                "precision": manifest.precision,
                "digest": manifest.digest,
                "version": served.version,
                "max_batch": served.loaded.max_batch,
                **({"why_unbatched": served.loaded.why_unbatched} if served.loaded.why_unbatched else {}),
                "engine": served.loaded.engine or manifest.format,
                **({"device_engine": served.device} if served.device else {}),
            },
        }

    def _statistics(self, served: Served) -> dict[str, Any]:  # JSON
        return {"model_stats": [count_version(served, self._metrics.find(served.name, served.version))]}


@cache
def _docs() -> tuple[bytes, bytes]:
    """Give the page and the policy that lets it run its own script alone and talk to this server alone."""
    page = _DOCS.read_bytes()
    kinds = {}
    for kind in (b"script", b"style"):
        digest = sha256(page.partition(b"<%b>" % kind)[2].partition(b"</%b>" % kind)[0]).digest()
        kinds[kind] = b"%b-src 'sha256-%b'" % (kind, b64encode(digest))
    rest = b"connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return page, b"; ".join((b"default-src 'none'", *kinds.values(), rest))


def _configuration(served: Served) -> dict[str, Any]:  # JSON
    tensors = describe_tensors(served.loaded.signature)
    is_batched = served.loaded.max_batch > 1
    return {
        "name": served.name,
        "platform": served.bundle.manifest.format,
        "backend": "ferryman",
        "max_batch_size": served.lane.limits.max_batch if is_batched else 0,
        "input": [_config_tensor(tensor, is_batched) for tensor in tensors["inputs"]],
        "output": [_config_tensor(tensor, is_batched) for tensor in tensors["outputs"]],
    }


def _config_tensor(tensor: dict[str, Any], is_batched: bool) -> dict[str, Any]:  # JSON
    """Describe a tensor as Triton's configuration does: without the batch where there is one."""
    datatype = "TYPE_STRING" if tensor["datatype"] == "BYTES" else f"TYPE_{tensor['datatype']}"
    dims = tensor["shape"][1:] if is_batched else tensor["shape"]
    return {"name": tensor["name"], "data_type": datatype, "dims": dims}

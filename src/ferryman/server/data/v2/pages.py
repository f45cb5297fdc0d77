"""What is read of a server: its health, its models, its figures, its documentation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ferryman.server.data.dataplane import Dataplane
from ferryman.server.data.http.request import Request, Response
from ferryman.server.data.models import Served
from ferryman.server.data.signals.exposition import wants_openmetrics
from ferryman.server.data.signals.metrics import Metrics
from ferryman.server.data.v2.addresses import Address
from ferryman.server.data.v2.errors import error_response
from ferryman.server.data.v2.messages import describe_tensors, to_json
from ferryman.server.data.v2.openapi import describe

_DOCS = Path(__file__).with_name("docs.html")
_ONLY_OURSELVES = b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
INDEX = "/v2/repository/index"
_GET = ("GET", "HEAD")
_OPEN = frozenset({"/v2", "/v2/health/live", "/v2/health/ready"})
EXTENSIONS = ["binary_tensor_data", "model_repository", "model_configuration", "statistics", "schedule_policy"]


class Pages:
    """Answer what needs no model's engine."""

    def __init__(self, dataplane: Dataplane, metrics: Metrics, *, server_version: str) -> None:
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
            "/docs": self._show_docs,
        }

    def addresses(self) -> dict[str, tuple[str, ...]]:
        """Give the server's own paths and their methods."""
        return {path: (*_GET, "POST") if path == INDEX else _GET for path in self._pages}

    def action_of(self, path: str) -> Literal["open", "read"]:
        """Tell what a caller must be allowed to do to read a page; load balancers ask for health without a key."""
        return "open" if path in _OPEN else "read"

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

    def _show_index(self, _: Request) -> Response:
        return Response(200, to_json(self._dataplane.index()))

    def _show_metrics(self, request: Request) -> Response:
        text, content_type = self._metrics.render(wants_openmetrics(request.header(b"accept")))
        return Response(200, text, content_type.encode())

    def _show_description(self, _: Request) -> Response:
        return Response(200, to_json(describe(self._dataplane.models(), server_version=self._server_version)))

    def _show_docs(self, _: Request) -> Response:
        headers = ((b"content-security-policy", _ONLY_OURSELVES),)
        return Response(200, _DOCS.read_bytes(), b"text/html; charset=utf-8", headers)

    def _describe(self, served: Served) -> dict[str, Any]:  # JSON
        manifest = served.bundle.manifest
        return {
            "name": served.name,
            "versions": self._dataplane.versions(served.name),
            "platform": manifest.format,
            **describe_tensors(served.loaded.signature),
            "parameters": {
                "task": served.bundle.deployment.task.kind,
                "precision": manifest.precision,
                "digest": manifest.digest,
                "version": served.version,
                "max_batch": served.loaded.max_batch,
                **({"why_unbatched": served.loaded.why_unbatched} if served.loaded.why_unbatched else {}),
            },
        }

    def _statistics(self, served: Served) -> dict[str, Any]:  # JSON
        figures = self._metrics.find(served.name, served.version)
        counts: dict[str, int] = {}
        if figures is not None:
            for (outcome, _), count in figures.requests.items():
                key = "success" if outcome == "ok" else "fail"
                counts[key] = counts.get(key, 0) + count
        return {
            "model_stats": [
                {
                    "name": served.name,
                    "version": served.version,
                    "inference_count": figures.rows if figures is not None else 0,
                    "execution_count": figures.batch_rows.count() if figures is not None else 0,
                    "inference_stats": {key: {"count": counts.get(key, 0)} for key in ("success", "fail")},
                }
            ]
        }


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

"""What is read of a server by people and by Prometheus: description, documentation, metrics."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ferryman.server.data.answers import guarded, json_response
from ferryman.server.data.old_dataplane import Dataplane
from ferryman.server.data.v2.messages import to_json
from ferryman.server.data.v2.openapi import describe

_DOCS = Path(__file__).parent / "v2" / "docs.html"
_ONLY_OURSELVES = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"


class Pages:
    """Show what a dataplane serves."""

    def __init__(self, dataplane: Dataplane, *, server_version: str) -> None:
        self._dataplane = dataplane
        self._server_version = server_version

    def routes(self) -> list[Route]:
        """Give the addresses of the pages."""
        return [
            Route("/metrics", guarded(self.show_metrics)),
            Route("/openapi.json", guarded(self.show_description)),
            Route("/docs", guarded(self.show_docs)),
        ]

    async def show_metrics(self, _: Request) -> Response:
        """Answer GET /metrics."""
        return Response(self._dataplane.metrics.render(), media_type="text/plain; version=0.0.4")

    async def show_description(self, _: Request) -> Response:
        """Answer GET /openapi.json."""
        return json_response(to_json(describe(self._dataplane.models(), server_version=self._server_version)))

    async def show_docs(self, _: Request) -> Response:
        """Answer GET /docs."""
        headers = {"Content-Security-Policy": _ONLY_OURSELVES}
        return Response(_DOCS.read_bytes(), headers=headers, media_type="text/html")

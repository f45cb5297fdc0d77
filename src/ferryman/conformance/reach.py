"""Tell, before any check, what would make them all fail for a reason that is not the protocol's."""

import importlib
from collections.abc import Sequence

from ferryman.client.link import way_in
from ferryman.conformance.broken import Broken
from ferryman.conformance.case import Case
from ferryman.conformance.clients import open_stub
from ferryman.conformance.target import INDEX, Reply, Target, model_path
from ferryman.core.errors import NotFound, NotReady, UserError

_SILENT = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def reach(target: Target, models: Sequence[str]) -> list[str]:
    """Give the models to ask: those named, else all in the index.

    Raises UserError where the server doesn't let this caller in, NotFound for a model that it lacks, ConfigError where
    it lists none, NotReady where nobody answers.
    """
    _admitted(target, "/v2")
    names = list(models)
    if not names:
        _admitted(target, INDEX, "POST")
        names = target.model_names()
    for model in names:
        path = model_path(model)
        reply = _admitted(target, path)
        # A server that breaks the protocol may describe nothing: it is still to be examined where the model is ready.
        if 400 <= reply.status < 500 and target.ask("GET", f"{path}/ready").status != 200:
            raise NotFound(f"{target.url} has no model '{model}': {_words(reply)}", hint="--model takes a name of its")
    if target.grpc:
        _check_grpc(target)
    return names


def _admitted(target: Target, path: str, method: str = "GET") -> Reply:
    reply = target.ask(method, path, b"{}" if method == "POST" else b"", {"Content-Type": "application/json"})
    if reply.status in (401, 403):
        has_key = any(name.lower() in ("authorization", "x-api-key") for name in target.headers)
        hint = way_in(reply.status, has_key=has_key)
        raise UserError(f"{target.url}{path} says {reply.status}: {_words(reply)}", hint=hint)
    return reply


def _words(reply: Reply) -> str:
    try:
        return str(reply.object().get("error", reply.status))
    except Broken:
        return str(reply.status)


def _check_grpc(target: Target) -> None:
    grpc = importlib.import_module("grpc")  # it has no types
    messages = importlib.import_module("tritonclient.grpc.service_pb2")
    try:
        with open_stub(Case(target)) as (stub, options):
            stub.ServerLive(messages.ServerLiveRequest(), **options)
    except grpc.RpcError as error:
        if error.code().name in _SILENT:  # any other status is an answer, which the checks look at
            speaks = "with TLS, as the URL does" if target.is_tls else "without TLS, as the URL does"
            raise NotReady(
                f"nobody answers gRPC at {target.grpc}: {' '.join(str(error.details()).split())}",
                hint=f"--grpc takes HOST:PORT, and is asked {speaks}",
            ) from None

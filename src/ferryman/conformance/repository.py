"""Checks of the model repository extension, over HTTP and gRPC."""

import time
from collections.abc import Callable

from ferryman.conformance.broken import NotTried, expect
from ferryman.conformance.case import Case
from ferryman.conformance.check import Check
from ferryman.conformance.clients import call_options, open_grpc, open_http
from ferryman.conformance.target import model_path
from ferryman.conformance.triton import or_refused

_JSON = {"Content-Type": "application/json"}
_KEYS = {"name", "version", "state", "reason"}


def _index(case: Case) -> None:
    reply = case.target.ask("POST", "/v2/repository/index", b"{}", _JSON)
    expect(reply.status == 200, f"status {reply.status}")
    entries = reply.json()
    expect(isinstance(entries, list) and bool(entries), f"no list of models: {reply.payload[:120]!r}")
    for entry in entries:
        expect(isinstance(entry, dict) and isinstance(entry.get("name"), str), f"an entry without a name: {entry!r}")
        expect(set(entry) <= _KEYS, f"an entry with unknown keys: {sorted(set(entry) - _KEYS)}")


def _index_ready_only(case: Case) -> None:
    reply = case.target.ask("POST", "/v2/repository/index", b'{"ready": true}', _JSON)
    expect(reply.status == 200, f"status {reply.status}")
    states = {entry.get("state", "READY") for entry in reply.json()}
    expect(states <= {"READY"}, f"states {sorted(states)} where only ready ones were asked for")


def _http_index(case: Case) -> None:
    with open_http(case) as (client, _):
        entries = client.get_model_repository_index(headers=dict(case.target.headers))
    expect(case.model in {entry["name"] for entry in entries}, f"'{case.model}' is not in the index")


def _grpc_index(case: Case) -> None:
    with open_grpc(case) as (client, _):
        index = or_refused(lambda: client.get_model_repository_index(**call_options(case)))
    expect(case.model in {entry.name for entry in index.models}, f"'{case.model}' is not in the index")


def _unload_and_load(case: Case) -> None:
    wanted = case.wanted  # asked for while the model is there
    headers = dict(case.target.headers)
    with open_http(case) as (client, _):
        or_refused(lambda: client.unload_model(case.model, headers=headers))
        try:
            _wait(lambda: not _is_ready(case), case, "the model is still ready after it was unloaded")
        finally:
            client.load_model(case.model, headers=headers)
        _wait(lambda: _is_ready(case), case, "the model is not ready after it was loaded")
    expect(Case(case.target, case.model).wanted.keys() == wanted.keys(), "the model has other outputs than before")


def _load_unknown(case: Case) -> None:
    reply = case.target.ask("POST", f"/v2/repository/models/{'no-such-model-here'}/load", b"{}", _JSON)
    if reply.status in (403, 405, 501):
        raise NotTried(f"the server doesn't load models on request: {reply.status}")
    expect(400 <= reply.status < 500, f"status {reply.status}, not 4xx")


def _is_ready(case: Case) -> bool:
    return case.target.ask("GET", f"{model_path(case.model)}/ready").status == 200


def _wait(condition: Callable[[], bool], case: Case, message: str) -> None:
    deadline_s = time.monotonic() + case.target.timeout_s
    while not condition():
        expect(time.monotonic() < deadline_s, message)
        time.sleep(0.02)


_NAME, _WHERE = "model_repository", "Model Repository Extension"
CHECKS = (
    Check("repository.index", "the index", "POST v2/repository/index lists name, version, state, reason", _WHERE,
          _index, "server", extension=_NAME),
    Check("repository.ready", "the index of what is ready", "ready: true leaves out the others", _WHERE,
          _index_ready_only, "server", extension=_NAME),
    Check("repository.unknown", "loading an unknown model is a 4xx", "errors are 4xx", _WHERE, _load_unknown, "server",
          extension=_NAME, optional=True, steers=True),
    Check("repository.triton-http", "tritonclient.http: get_model_repository_index", "as above", _WHERE, _http_index,
          extension=_NAME),
    Check("repository.triton-grpc", "tritonclient.grpc: get_model_repository_index", "RepositoryIndex", _WHERE,
          _grpc_index, extension=_NAME, needs_grpc=True),
    Check("repository.reload", "tritonclient.http: unload_model, load_model", "an unloaded model is not ready", _WHERE,
          _unload_and_load, extension=_NAME, optional=True, steers=True),
)  # fmt: skip

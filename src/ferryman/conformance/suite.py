"""Run every check against one server."""

import time
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread

from ferryman.conformance import (
    grpc_rules,
    http_binary,
    http_facts,
    http_infer,
    http_refusals,
    kserve_sdk,
    repository,
    triton_grpc,
    triton_http,
)
from ferryman.conformance.broken import Broken, NotTried
from ferryman.conformance.case import Case
from ferryman.conformance.check import Check, Result, Verdict
from ferryman.conformance.clients import load_clients
from ferryman.conformance.reach import reach
from ferryman.conformance.target import INDEX, Target

_BEFORE_LAST = (
    http_facts, http_infer, http_binary, triton_http, triton_grpc, grpc_rules, kserve_sdk, http_refusals,
)  # fmt: skip
# What takes a model away comes last.
CHECKS: tuple[Check, ...] = tuple(check for module in (*_BEFORE_LAST, repository) for check in module.CHECKS)
_SDK_START_S = 60  # to import it, in an environment of its own
# Servers that offer an extension without announcing it; the repository's is known by its answer.
_KNOWN_BY_ANSWER = {"model_repository": INDEX}


def run_suite(target: Target, models: Sequence[str] = (), checks: Sequence[Check] = CHECKS) -> Iterator[Result]:
    """Give the result of each check as it comes; those of a model once for each of `models` (default: all).

    Raises what keeps the checks from meaning anything: NotReady where the server can't be reached, UserError where it
    doesn't let this caller in, lacks a model or doesn't list its models, MissingExtra without tritonclient.
    """
    load_clients()
    names = reach(target, models)
    offered = target.extensions | {name for name, path in _KNOWN_BY_ANSWER.items() if _is_there(target, path)}
    cases = [Case(target, name) for name in names]
    for check in checks:
        for case in cases if check.scope == "model" else [Case(target)]:
            yield _run(check, case, offered)


def _is_there(target: Target, path: str) -> bool:
    return target.ask("POST", path, b"{}", {"Content-Type": "application/json"}).status == 200


def _run(check: Check, case: Case, offered: frozenset[str]) -> Result:
    """Run one check in a thread of its own: a client that never comes back must not end the suite."""
    start_s = time.perf_counter()
    limit_s = 3 * case.target.timeout_s + (_SDK_START_S if check in kserve_sdk.CHECKS else 0)
    told: SimpleQueue[tuple[Verdict, str]] = SimpleQueue()
    Thread(target=lambda: told.put(_try(check, case, offered)), daemon=True).start()
    try:
        verdict, message = told.get(timeout=limit_s)
    except Empty:
        verdict, message = "failed", f"the client has not come back after {limit_s:g} s"
    return Result(check, case.model, verdict, " ".join(message.split()), time.perf_counter() - start_s)


def _try(check: Check, case: Case, offered: frozenset[str]) -> tuple[Verdict, str]:
    try:
        _check_offered(check, case, offered)
        check.run(case)
    except NotTried as reason:
        return "not run", str(reason)
    except Broken as error:
        return "failed", str(error)
    except Exception as error:  # noqa: BLE001 - a client's own error is a result, too
        return "failed", f"{type(error).__name__}: {error}"
    return "passed", ""


def _check_offered(check: Check, case: Case, offered: frozenset[str]) -> None:
    if check.steers and not case.target.may_unload:
        raise NotTried("it loads and unloads models, for others who ask them, too; --may-unload allows it")
    if check.needs_grpc and not case.target.grpc:
        raise NotTried("no address for gRPC is given: --grpc HOST:PORT")
    if check.extension and check.extension not in offered:
        raise NotTried(f"the server doesn't announce '{check.extension}'")

"""Checks of what a container answers: the protocol's rules, and the bundle's golden samples."""

from ferryman.conformance.case import Case
from ferryman.conformance.check import Result
from ferryman.conformance.clients import load_clients, open_grpc
from ferryman.conformance.report import breaks
from ferryman.conformance.suite import run_suite
from ferryman.conformance.target import Target
from ferryman.container.asking import GoldenAsker
from ferryman.container.outcome import Fails, Finding, NotChecked
from ferryman.container.visit import Visit
from ferryman.core.errors import FerrymanError, MissingExtra

_MOST_NAMED = 3
_TIMEOUT_S = 20.0
_PROBE_S = 2.0


def conformance(visit: Visit) -> Finding:
    """Run the suite of the Open Inference Protocol V2 over HTTP and, where the server speaks it, gRPC."""
    container, model = visit.live, visit.model
    given = {model: visit.settings.request} if visit.settings.request else {}
    try:
        grpc = f"127.0.0.1:{container.port}" if _speaks_grpc(container.port) else ""
        target = Target(container.url, grpc=grpc, timeout_s=_TIMEOUT_S, inputs=given)
        results = list(run_suite(target, [model] if model else []))
    except MissingExtra as error:
        raise NotChecked(str(error), hint=error.hint) from None
    except FerrymanError as error:
        raise Fails(str(error), hint=error.hint) from None
    counts = {verdict: sum(one.verdict == verdict for one in results) for verdict in ("passed", "failed", "not run")}
    figures = {name.replace(" ", "_"): count for name, count in counts.items()}
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    if broken := breaks(results):
        raise Fails(
            f"{told}: {_named(broken)}", hint=f"ferryman conformance {container.url} tells each", figures=figures
        )
    if not counts["passed"]:
        raise NotChecked(f"{told}: no rule could be tried", figures=figures)
    return Finding(told + ("" if grpc else "; gRPC not asked"), figures)


def golden(visit: Visit) -> Finding:
    """Compare the answers to the bundle's golden samples with those that were verified."""
    asker = visit.questions
    if not isinstance(asker, GoldenAsker):
        why = visit.bundle_missing or "the bundle has no golden samples"
        raise NotChecked(why, hint="--bundle DIR names the bundle that the image serves")
    answers = asker.ask(visit.live.url)
    figures = {"samples": len(answers)}
    if wrong := asker.wrong(answers):
        raise Fails("; ".join(wrong[:_MOST_NAMED]), hint="another model, or another runtime, than was verified",
                    figures={**figures, "wrong": len(wrong)})  # fmt: skip
    return Finding(f"{len(answers)} samples answered as when they were verified", figures)


def _speaks_grpc(port: int) -> bool:
    """Tell whether gRPC is answered on the same port."""
    load_clients()
    address = f"127.0.0.1:{port}"
    with open_grpc(Case(Target(f"http://{address}", grpc=address))) as (client, _):
        try:
            return bool(client.is_server_live(client_timeout=_PROBE_S))
        except Exception:  # noqa: BLE001 - whatever the client raises where nobody speaks it
            return False


def _named(broken: list[Result]) -> str:
    return "; ".join(f"{one.check.id}: {one.message[:160]}" for one in broken[:_MOST_NAMED])

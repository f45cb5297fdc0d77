"""One turn of one server: start it, check its answers, load it, ask at random times, weigh it, stop it."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.serving import _asks
from benchmarks.serving._load import LOADS, measure
from benchmarks.serving._models import Questions
from benchmarks.serving._peers import Peer, Place
from benchmarks.serving._poisson import ask_at_random
from benchmarks.serving._tree import Tree

Turn = dict[str, Any]  # JSON
SERVER_CORE = "0"
_START_S = 120.0
_POLL_S = 0.005
_POISSON_SHARE = 1.3  # of the time of a load


@dataclass(frozen=True, slots=True)
class Dose:
    """Say how much a turn holds: which loads, about how long each, and the pattern of the random arrivals."""

    loads: tuple[str, ...]
    seconds: float
    seed: int


def run_turn(peer: Peer, place: Place, asked: Questions, dose: Dose) -> Turn:
    """Measure; what fails is told in "fault" or in its load's, and never stops the other servers."""
    turn: Turn = {"peer": peer.name, "cells": {}, "load_before": os.getloadavg()[0]}
    try:
        with _running(peer, place) as (tree, began):
            kinds = _start(peer, place, asked, tree)
            turn |= {"start_s": time.monotonic() - began, "start_cpu_s": tree.cpu_s()}
            for name in dose.loads:
                if name in peer.loads:
                    turn["cells"][name] = _cell(peer, place, asked, tree, name, dose.seconds)
            if "rate" in turn["cells"].get("M", {}):
                turn["poisson"] = _poisson(peer, place, asked, turn["cells"]["M"]["rate"], dose)
            turn["memory"] = asdict(tree.memory())
            turn["fault"] = _still_right(peer, place, asked, kinds)
    except Exception as error:  # noqa: BLE001 - whatever happens to one server, the others are measured
        turn["fault"] = str(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}"
    return turn


@contextlib.contextmanager
def _running(peer: Peer, place: Place) -> Iterator[tuple[Tree, float]]:
    command, environment = peer.start_command(place), peer.environ(place)
    began = time.monotonic()
    tree = Tree(command, cores=SERVER_CORE, environment=environment, log=place.scratch / "log.txt")
    try:
        yield tree, began
    finally:
        tree.stop()


def bare_limit(models: Path) -> dict[str, dict[str, float]]:
    """Time the bare loops on the server's core."""
    command = ["taskset", "-c", SERVER_CORE, sys.executable, str(Path(__file__).with_name("_limit.py"))]
    environment = {**os.environ, "BENCH_MODELS": str(models), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def _start(peer: Peer, place: Place, asked: Questions, tree: Tree) -> list[str]:
    """Wait for a right answer of each model; gives which were asked. Raises RuntimeError."""
    kinds = ["Tgrpc", "Mgrpc"] if peer.loads == ("Tgrpc",) else ["T", "M" if "M" in peer.loads else "Mjson", "D"]
    deadline = time.monotonic() + _START_S
    for kind in kinds:
        _retry(partial(_answer, peer, place, asked, kind), tree, deadline)
    if peer.ready_path:
        _retry(lambda: _get(place.port, peer.ready_path), tree, deadline)
    return kinds


def _retry(attempt: Callable[[], object], tree: Tree, deadline: float) -> None:
    while True:
        try:
            attempt()
            return
        except (_NotYet, OSError, http.client.HTTPException) as error:
            if not tree.is_running:
                raise RuntimeError(f"it ended while starting: {tree.last_words()}") from error
            if time.monotonic() > deadline:
                raise RuntimeError(f"no answer after {_START_S:.0f} s: {error}; {tree.last_words()}") from error
            time.sleep(_POLL_S)


class _NotYet(Exception):
    """Tell that the server is there and answers nothing useful yet."""


def _answer(peer: Peer, place: Place, asked: Questions, kind: str) -> bytes:
    """Ask once and check the answer; gives its body. Raises _NotYet, OSError, and RuntimeError for a wrong answer."""
    ask = peer.form(kind, asked)
    headers: dict[str, str] = {}
    if ask.is_grpc:
        body = _call(ask, place.port if peer.one_port else place.grpc_port)
    else:
        headers, body = _post(ask, place.port)
    try:
        fault = _asks.fault(kind, asked, ask.read(headers, body))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        fault = f"can't be read ({type(error).__name__}: {error}): {body[:200]!r}"
    if fault:
        raise RuntimeError(f"wrong answer to {kind}: {fault}")
    return body


def _post(ask: _asks.Ask, port: int) -> tuple[dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", ask.path, ask.body, dict(ask.headers))
        response = connection.getresponse()
        body = response.read()
    if response.status != 200:
        raise _NotYet(f"status {response.status}: {body[:300]!r}")
    return {name.lower(): value for name, value in response.getheaders()}, body


def _get(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        status = connection.getresponse().status
    if status != 200:
        raise _NotYet(f"{path} answers {status}")


def _call(ask: _asks.Ask, port: int) -> bytes:
    """Call over gRPC, bytes in and out, with somebody else's client."""
    try:
        import grpc
    except ImportError:
        raise RuntimeError("grpcio is missing here: pip install grpcio") from None

    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]) as channel:
        call: Callable[..., bytes] = channel.unary_unary(ask.path, request_serializer=None, response_deserializer=None)
        try:
            answer = call(ask.body[5:], timeout=30)
        except grpc.RpcError as error:
            raise _NotYet(f"gRPC: {error.code()}: {error.details()}") from None
    return answer


def _cell(peer: Peer, place: Place, asked: Questions, tree: Tree, name: str, seconds: float) -> dict[str, Any]:
    load = LOADS[name]
    ask = peer.form(load.kind, asked)
    port = place.grpc_port if ask.is_grpc and not peer.one_port else place.port
    with _told() as fault:
        body = _answer(peer, place, asked, load.kind)
        answer_bytes = len(body) + (5 if ask.is_grpc else 0)  # gRPC puts a prefix before it
        return asdict(measure(load, ask, tree, port=port, seconds=seconds, answer_bytes=answer_bytes))
    return {"fault": fault[0]}


def _poisson(peer: Peer, place: Place, asked: Questions, capacity: float, dose: Dose) -> dict[str, Any]:
    ask = peer.form("M", asked)
    with _told() as fault:
        seconds = _POISSON_SHARE * dose.seconds
        return asdict(ask_at_random(ask, port=place.port, capacity=capacity, seconds=seconds, seed=dose.seed))
    return {"fault": fault[0]}


def _still_right(peer: Peer, place: Place, asked: Questions, kinds: Sequence[str]) -> str:
    for kind in kinds:
        with _told() as fault:
            _answer(peer, place, asked, kind)
        if fault:
            return f"after the load: {fault[0]}"
    return ""


@contextlib.contextmanager
def _told() -> Iterator[list[str]]:
    """Turn what one load may raise into a line; the list is empty where nothing was raised."""
    told: list[str] = []
    try:
        yield told
    except (RuntimeError, _NotYet, OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
        told.append(str(error))

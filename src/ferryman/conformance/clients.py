"""Open tritonclient's four clients, and bare gRPC, to a server: with its TLS, and with what proves who asks."""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ferryman.conformance.case import Case
from ferryman.conformance.target import Target
from ferryman.core.errors import MissingExtra

Client = Any  # tritonclient has no types
Module = Any


def load_clients() -> None:
    """Import all that is asked with; raises MissingExtra."""
    for kind in ("http", "http.aio", "grpc", "grpc.aio"):
        _load(kind)


def _load(kind: str) -> Module:
    try:
        return importlib.import_module(f"tritonclient.{kind}")
    except ImportError as error:
        raise MissingExtra(
            f"the suite asks with tritonclient, which can't be imported: {error}",
            hint="pip install 'ferryman[conformance]'",
        ) from None


@contextmanager
def open_http(case: Case, **more: Any) -> Iterator[tuple[Client, Module]]:  # arguments of the client
    """Give tritonclient.http's client, and its module."""
    module, target = _load("http"), case.target
    client = module.InferenceServerClient(
        target.address, ssl=target.is_tls, ssl_options=_http_options(target), connection_timeout=target.timeout_s,
        network_timeout=target.timeout_s, **more,
    )  # fmt: skip
    try:
        yield client, module
    finally:
        client.close()


@contextmanager
def open_grpc(case: Case) -> Iterator[tuple[Client, Module]]:
    """Give tritonclient.grpc's client, and its module."""
    module = _load("grpc")
    client = module.InferenceServerClient(case.target.grpc, ssl=case.target.is_tls, **_grpc_options(case.target))
    try:
        yield client, module
    finally:
        client.close()


def with_aio(kind: str, ask: Callable[[Case, Client, Module], Awaitable[None]]) -> Callable[[Case], None]:
    """Make a check that asks with the asyncio client of "http" or "grpc"."""

    def run(case: Case) -> None:
        async def all_of_it() -> None:
            module, target = _load(f"{kind}.aio"), case.target
            where, options = target.grpc, _grpc_options(target)
            if kind == "http":
                where, options = target.address, {"ssl_context": target.access.context() if target.is_tls else None}
            async with module.InferenceServerClient(where, ssl=target.is_tls, **options) as client:
                await ask(case, client, module)

        asyncio.run(asyncio.wait_for(all_of_it(), case.target.timeout_s))

    return run


def call_options(case: Case) -> dict[str, Any]:  # keywords of every call of a gRPC client
    """Give headers and the deadline of one call."""
    headers = {name.lower(): value for name, value in case.target.headers.items()}
    return {"headers": headers, "client_timeout": case.target.timeout_s}


@contextmanager
def open_stub(case: Case) -> Iterator[tuple[Any, dict[str, Any]]]:  # a stub without types, keywords of its calls
    """Give a bare stub of the protocol's gRPC service, and what goes with each of its calls."""
    target = case.target
    grpc = importlib.import_module("grpc")  # it has no types
    service = importlib.import_module("tritonclient.grpc.service_pb2_grpc")
    if target.is_tls:
        files = {name: file.read_bytes() for name, file in tls_files(target).items()}
        channel = grpc.secure_channel(target.grpc, grpc.ssl_channel_credentials(**files))
    else:
        channel = grpc.insecure_channel(target.grpc)
    options = call_options(case)
    with channel:
        yield (
            service.GRPCInferenceServiceStub(channel),
            {"timeout": options["client_timeout"], "metadata": list(options["headers"].items())},
        )


def tls_files(target: Target) -> dict[str, Path]:
    """Give the files that TLS needs, by the names that gRPC clients have for them."""
    access = target.access
    named = {
        "root_certificates": access.ca_file,
        "private_key": access.cert_key_file or access.cert_file,
        "certificate_chain": access.cert_file,
    }
    return {name: file for name, file in named.items() if file is not None}


def _http_options(target: Target) -> dict[str, str] | None:
    names = {"root_certificates": "ca_certs", "private_key": "keyfile", "certificate_chain": "certfile"}
    return {names[name]: str(file) for name, file in tls_files(target).items()} or None


def _grpc_options(target: Target) -> dict[str, Any]:  # keywords of the client
    return {name: str(file) for name, file in tls_files(target).items()}

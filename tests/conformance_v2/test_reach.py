"""What keeps every check from meaning anything is told in one line, and not as a broken protocol."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ferryman.client.access import Access
from ferryman.conformance.suite import run_suite
from ferryman.conformance.target import Target
from ferryman.core.errors import ConfigError, FerrymanError, NotFound, NotReady, UserError
from tests.bundle.making import bundle_affine, bundle_table
from tests.cli.running import ferryman
from tests.conformance_v2.honest_http import honest_http
from tests.server.running import Running, running
from tests.server.test_tls_and_keys import Authority, authority, written_keys


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("keyed")
    tokens = written_keys(folder / "keys.json")
    bundles = [bundle_affine(folder / "affine").path, bundle_table(folder / "table").path]
    with running(bundles, keys=folder / "keys.json") as server:
        yield server, tokens


@pytest.fixture(scope="module")
def mutual(tmp_path_factory: pytest.TempPathFactory, signer: Authority) -> Iterator[Running]:
    certificate, key = signer.issue("localhost", to="server")
    bundle = bundle_affine(tmp_path_factory.mktemp("mutual") / "affine").path
    with running([bundle], tls_cert=certificate, tls_key=key, client_ca=signer.file) as server:
        yield server


def asked(target: Target, *models: str) -> None:
    next(iter(run_suite(target, models)))


def test_a_model_that_is_not_there_is_the_users_mistake() -> None:
    with honest_http() as url:
        with pytest.raises(NotFound, match="has no model 'nosuch'"):
            asked(Target(url), "nosuch")
        told = ferryman("conformance", url, "--model", "nosuch", "--json")
    assert (told.returncode, "error" in json.loads(told.stdout)) == (2, True)


@pytest.mark.parametrize(
    ("bearer", "models", "words", "hint"),
    [
        ("", (), "says 401", "it wants a key: --key-file FILE"),
        ("", ("affine",), "says 401", "it wants a key: --key-file FILE"),
        ("tables", ("affine",), "affine says 403: key:tables may not use this model", "another caller"),
    ],
)
def test_a_server_that_lets_nobody_in_breaks_no_protocol(
    keyed: tuple[Running, dict[str, str]], bearer: str, models: tuple[str, ...], words: str, hint: str
) -> None:
    server, tokens = keyed
    with pytest.raises(UserError, match=words) as refused:
        asked(Target(server.url, access=Access(tokens.get(bearer, ""))), *models)
    assert hint in refused.value.hint


def test_a_key_in_a_file_lets_the_suite_in(keyed: tuple[Running, dict[str, str]], tmp_path: Path) -> None:
    server, tokens = keyed
    (tmp_path / "web.key").write_text(tokens["web"] + "\n")
    asked(Target(server.url, access=Access(tokens["web"])))
    told = ferryman("conformance", server.url, "--key-file", str(tmp_path / "web.key"), "--model", "affine", "--json")
    assert json.loads(told.stdout)["conforms"] is True


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "localhost"])
def test_what_is_no_address_of_grpc_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="no address of gRPC"):
        Target("http://127.0.0.1:1", grpc=address)


def test_nobody_who_answers_grpc_is_said_once() -> None:
    with honest_http() as url, pytest.raises(NotReady, match=re.escape("nobody answers gRPC at 127.0.0.1:1")):
        asked(Target(url, grpc="127.0.0.1:1"))


def test_over_mutual_tls_every_client_of_the_suite_shows_its_certificate(mutual: Running, signer: Authority) -> None:
    certificate, key = signer.issue("camera-3")
    grpc = urlsplit(mutual.url).netloc
    results = list(run_suite(Target(mutual.url, grpc=grpc, access=Access("", signer.file, certificate, key))))
    assert {one.check.id: one.message for one in results if one.verdict == "failed"} == {}
    assert sum(one.verdict == "passed" for one in results) > 60


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_without_its_certificates_a_server_is_not_blamed(mutual: Running, signer: Authority, scheme: str) -> None:
    url = mutual.url.replace("https", scheme)
    for access in (Access(), Access("", signer.file if scheme == "https" else None)):
        with pytest.raises(FerrymanError) as refused:
            asked(Target(url, access=access))
        assert "cert" in refused.value.hint or "https://" in refused.value.hint

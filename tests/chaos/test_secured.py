"""Keys, tokens and certificates that change while callers ask over HTTP, gRPC and WebSockets."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ferryman.server.data.http.tls import TlsFiles
from tests.bundle.making import bundle_affine
from tests.chaos.counts import Counts, Report, together
from tests.chaos.grpc_load import GrpcLoad
from tests.chaos.load import HttpLoad, Target
from tests.chaos.questions import affine
from tests.chaos.serving import Serving, serving
from tests.chaos.stream_load import StreamLoad
from tests.chaos.test_callers import bearer, key, serial_at
from tests.server.gate import issuing
from tests.server.gate.issuing import AUDIENCE, ISSUER, OTHER_RSA_KEY, RSA_KEY, key_set, token
from tests.server.http.test_tls import Authority, make_authority
from tests.server.running import wait_until

OLD = token(RSA_KEY, kid="one").decode()
NEW = token(OTHER_RSA_KEY, kid="two").decode()
BOTH = key_set(one=RSA_KEY, two=OTHER_RSA_KEY)
REFRESH_S = 0.5


@dataclass(frozen=True)
class Both:
    """Be callers over HTTP and over gRPC who show the same token."""

    http: HttpLoad
    grpc: GrpcLoad

    @property
    def counts(self) -> Counts:
        return together([self.http.counts, self.grpc.counts])

    def show(self, secret: str) -> None:
        self.http.headers, self.grpc.token = bearer(secret), secret

    def wait_for_answers(self, more: int) -> None:
        self.http.wait_for_answers(more)
        self.grpc.wait_for_answers(more)

    def hurt(self) -> None:
        self.http.counts.hurt()
        self.grpc.hurt()


@contextmanager
def asking(port: int, secret: str) -> Iterator[Both]:
    target = Target(port, headers=bearer(secret))
    with HttpLoad(target, affine(), callers=3) as http, GrpcLoad(target, affine(), callers=2, token=secret) as grpc:
        yield Both(http, grpc)


def is_let_in(server: Serving, secret: str) -> bool:
    return server.ask("GET", "/v2/models/affine", headers={"Authorization": f"Bearer {secret}"})[0] == 200


def settings(folder: Path, *lines: str) -> str:
    """Write what the server is told of tokens; gives the file."""
    file = folder / "tokens.toml"
    told = (f'issuer = "{ISSUER}"', f'audience = "{AUDIENCE}"', f"refresh_s = {REFRESH_S}", *lines)
    file.write_text("\n".join(told) + "\n")
    return str(file)


def put(path: Path, content: bytes) -> None:
    """Replace a file's content all at once."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    os.replace(beside, path)


def test_the_keys_of_tokens_are_exchanged_on_disk(tmp_path: Path, report: Report) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    keys = tmp_path / "jwks.json"
    put(keys, key_set(one=RSA_KEY))
    with serving([bundle.path], "--jwt", settings(tmp_path, 'jwks = "jwks.json"')) as server:
        with asking(server.port, OLD) as stays, asking(server.port, OLD) as moves:
            stays.wait_for_answers(30)
            put(keys, BOTH)
            moves.hurt()
            wait_until(lambda: is_let_in(server, NEW))
            moves.show(NEW)
            moves.wait_for_answers(30)
            put(keys, b'{"keys": [')  # half of a file
            wait_until(lambda: "is no JSON Web Key Set" in server.log())
            stays.wait_for_answers(30)
            stays.show(NEW)
            stays.wait_for_answers(30)
            put(keys, key_set(two=OTHER_RSA_KEY))
            wait_until(lambda: not is_let_in(server, OLD))
            stays.wait_for_answers(30)
            moves.wait_for_answers(30)
        assert OLD not in server.log() and NEW not in server.log()
    counts = together([stays.counts, moves.counts])
    report.add("a token's key is exchanged on disk", counts, "HTTP and gRPC; in between the file is half written")
    assert counts.answered == counts.sent, counts.examples


def test_the_keys_of_tokens_are_exchanged_at_their_issuer_who_is_away_for_a_while(
    tmp_path: Path, report: Report
) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    pem = issuing.certificate(tmp_path)
    with issuing.serving(key_set(one=RSA_KEY), pem) as issuer:
        lines = (f'jwks = "{issuer.url}"', f'ca_file = "{pem.name}"')
        with serving([bundle.path], "--jwt", settings(tmp_path, *lines)) as server:
            wait_until(lambda: is_let_in(server, OLD))
            with asking(server.port, OLD) as callers:
                callers.wait_for_answers(30)
                issuer.body = b"<html>502 Bad Gateway</html>"
                wait_until(lambda: "is no JSON Web Key Set" in server.log())
                callers.wait_for_answers(30)
                issuer.body = BOTH
                callers.hurt()
                wait_until(lambda: is_let_in(server, NEW))
                callers.show(NEW)
                callers.wait_for_answers(30)
                issuer.body = key_set(two=OTHER_RSA_KEY)
                wait_until(lambda: not is_let_in(server, OLD))
                callers.wait_for_answers(30)
    report.add("a token's key is exchanged at its issuer", callers.counts, "who answers nonsense for a while")
    assert callers.counts.answered == callers.counts.sent, callers.counts.examples


def test_a_rotated_key_and_its_follower_are_both_let_in_over_grpc(tmp_path: Path, report: Report) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    keys = tmp_path / "keys.json"
    old = key(keys, "add", "web")
    with serving([bundle.path], "--keys", str(keys)) as server:
        target = Target(server.port)
        with GrpcLoad(target, affine(), token=old) as stays, GrpcLoad(target, affine(), token=old) as moves:
            for _ in range(3):
                moves.wait_for_answers(30)
                moves.token = key(keys, "rotate", "web", "--grace", "1h")
                stays.wait_for_answers(30)
                moves.wait_for_answers(30)
    counts = together([stays.counts, moves.counts])
    report.add("a key is rotated, three times, gRPC", counts, "callers with the old and with the new key")
    assert counts.answered == counts.sent, counts.examples


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path, "ours")


def target_of(server: Serving, authority: Authority, client: TlsFiles | None = None) -> Target:
    """Give callers who check the server's certificate and, where there is one, show their own."""
    pair = (client.key.read_bytes(), client.certificate.read_bytes()) if client is not None else None
    return Target(server.port, tls=authority.trusting(client), roots=authority.file.read_bytes(), client=pair)


@contextmanager
def all_ways(target: Target) -> Iterator[list[HttpLoad | GrpcLoad | StreamLoad]]:
    """Ask in every way, over connections that last and, over HTTP and gRPC, over one for each request."""
    fleeting = Target(target.port, "Connection: close\r\n", target.tls, roots=target.roots, client=target.client)
    with ExitStack() as stack:
        yield [
            stack.enter_context(HttpLoad(target, affine(), callers=2, pause_s=0.02)),
            stack.enter_context(HttpLoad(fleeting, affine(), callers=1, pause_s=0.02)),
            stack.enter_context(GrpcLoad(target, affine(), callers=2, pause_s=0.02)),
            stack.enter_context(GrpcLoad(target, affine(), callers=1, pause_s=0.05, is_fleeting=True)),
            stack.enter_context(StreamLoad(target, affine(), callers=2)),
        ]


def wait_for_all(loads: list[HttpLoad | GrpcLoad | StreamLoad], more: int = 15) -> None:
    for load in loads:
        load.wait_for_answers(more)


def hurt_all(loads: list[HttpLoad | GrpcLoad | StreamLoad]) -> None:
    for load in loads:
        (load.counts if isinstance(load, HttpLoad) else load).hurt()


def serial_seen(server: Serving) -> int:
    return serial_at(server.port)


def test_certificates_are_renewed_and_an_expired_one_is_not_taken(
    tmp_path: Path, authority: Authority, report: Report
) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    files = authority.issue("server")
    options = ("--tls-cert", str(files.certificate), "--tls-key", str(files.key))
    with serving([bundle.path], *options) as server:
        first = serial_seen(server)
        with all_ways(target_of(server, authority)) as loads:
            wait_for_all(loads)
            authority.issue("server", days=-1)
            wait_until(lambda: "the old certificate stays" in server.log())
            assert serial_seen(server) == first
            wait_for_all(loads)
            hurt_all(loads)
            authority.issue("server", days=60)
            wait_until(lambda: serial_seen(server) != first)
            wait_for_all(loads)
    counts = together([load.counts for load in loads])
    report.add("an expired certificate, then a new one: all ways", counts, "HTTP, gRPC, WebSockets, all verifying")
    assert counts.answered == counts.sent, counts.examples
    assert counts.unheard == 0, "nobody who verifies was turned away"


def test_clients_with_certificates_go_on_while_the_server_s_and_their_authority_change(
    tmp_path: Path, authority: Authority, report: Report
) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    files, ours = authority.issue("server"), authority.issue("client")
    other = make_authority(tmp_path, "another")
    theirs = other.issue("their-client")
    trusted = tmp_path / "clients.pem"
    put(trusted, authority.file.read_bytes())
    options = ("--tls-cert", str(files.certificate), "--tls-key", str(files.key), "--client-ca", str(trusted))
    with serving([bundle.path], *options, "--access-log", str(tmp_path / "access.log")) as server:
        stranger = target_of(server, authority, theirs)
        with all_ways(target_of(server, authority, ours)) as loads:
            wait_for_all(loads)
            with HttpLoad(stranger, affine(), callers=1, pause_s=0.05) as refused:
                wait_until(lambda: refused.counts.unheard + refused.counts.sent >= 3)
            assert refused.counts.answered == 0, "its authority is not trusted yet"
            hurt_all(loads)
            authority.issue("server", days=60)
            put(trusted, authority.file.read_bytes() + other.file.read_bytes())
            wait_until(lambda: "new TLS certificate" in server.log())
            with all_ways(stranger) as more:
                wait_for_all(more)
            wait_for_all(loads)
    counts = together([load.counts for load in [*loads, *more]])
    report.add("mutual TLS: a new certificate, one more authority", counts, "HTTP, gRPC, WebSockets")
    assert counts.answered == counts.sent, counts.examples
    assert counts.unheard == 0
    log = (tmp_path / "access.log").read_text()
    assert "the client's certificate is not good" in log
    assert '"caller":"certificate:' in log

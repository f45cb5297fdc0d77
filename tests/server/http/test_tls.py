import asyncio
import datetime
import json
import logging
import os
import ssl
import threading
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ferryman.core.errors import ConfigError
from ferryman.server.data.http.limits import Limits
from ferryman.server.data.http.tls import Certificate, TlsFiles
from tests.server.http.serving import get, read_all, read_answers, serving
from tests.server.http.test_listener import Shout


@dataclass(frozen=True)
class Authority:
    """Sign certificates in a test."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    file: Path

    def issue(self, name: str, *, days: float = 30, key: ec.EllipticCurvePrivateKey | None = None) -> TlsFiles:
        key = key or ec.generate_private_key(ec.SECP256R1())
        files = TlsFiles(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        certificate = _signed(name, key, self.certificate.subject, self.key, days=days)
        _replace(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        _replace(files.key, _pem(key))
        return files

    def trusting(self, client: TlsFiles | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.file)
        if client is not None:
            context.load_cert_chain(client.certificate, client.key)
        return context


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    os.replace(beside, path)


def _signed(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    *,
    days: float,
    is_authority: bool = False,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, end) - datetime.timedelta(days=1))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )


def make_authority(folder: Path, name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = _signed(name, key, subject, key, days=365, is_authority=True)
    file = folder / f"{name}.ca.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(folder, key, certificate, file)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path, "ours")


def test_requests_and_large_bodies_go_over_tls(authority: Authority) -> None:
    certificate = Certificate(authority.issue("server"), http2=True)
    assert 29 * 86400 < certificate.expires_s < 30 * 86400
    with serving(tls=certificate.context, http2=Shout) as server:
        client = HTTPSConnection("localhost", server.address[1], context=authority.trusting(), timeout=20)
        for size in (10, 100_000, 5_000_000, 10):
            client.request("POST", "/echo", b"a" * size)
            assert json.loads(client.getresponse().read())["length"] == size
        client.request("GET", "/large?5000000")
        assert len(client.getresponse().read()) == 5_000_000
        client.close()
        with server.connect(tls=authority.trusting()) as link:
            link.sendall(get("/echo", "Connection: close"))
            assert b"connection: close" in read_all(link)


def test_alpn_chooses_the_protocol(authority: Authority) -> None:
    files = authority.issue("server")
    for http2, offered, agreed in ((True, ["h2"], "h2"), (True, ["http/1.1"], "http/1.1"), (False, ["h2"], None)):
        context = authority.trusting()
        context.set_alpn_protocols(offered)
        tls = Certificate(files, http2=http2).context
        with serving(tls=tls, http2=Shout if http2 else None) as server, server.connect(tls=context) as link:
            assert isinstance(link, ssl.SSLSocket) and link.selected_alpn_protocol() == agreed
            if agreed == "h2":
                link.sendall(b"frames")
                assert link.recv(100) == b"FRAMES"
            else:
                link.sendall(get())
                assert read_answers(link, 1)[0][0] == 200


def test_old_versions_of_tls_are_not_spoken(authority: Authority) -> None:
    context = authority.trusting()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        serving(tls=Certificate(authority.issue("server"), http2=False).context) as server,
        pytest.raises((ssl.SSLError, ConnectionResetError)),
    ):
        server.connect(tls=context)


def test_only_clients_of_the_named_authority_are_let_in(authority: Authority, tmp_path: Path) -> None:
    strangers = make_authority(tmp_path, "theirs")
    mine = authority.issue("server")
    tls = Certificate(TlsFiles(mine.certificate, mine.key, client_ca=authority.file), http2=False).context
    with serving(tls=tls) as server:
        with server.connect(tls=authority.trusting(authority.issue("client"))) as link:
            link.sendall(get())
            assert json.loads(read_answers(link, 1)[0][1])["certificate"] is True
        stranger = authority.trusting(strangers.issue("stranger"))
        for context in (authority.trusting(), stranger):
            with pytest.raises((ssl.SSLError, ConnectionResetError)), server.connect(tls=context) as link:
                link.sendall(get())
                assert not link.recv(100)
                raise ConnectionResetError  # an end without an answer is a refusal, too
        assert server.application.admitted == 0 + 1


def test_a_client_that_never_shakes_hands_is_cut(authority: Authority) -> None:
    tls = Certificate(authority.issue("server"), http2=False).context
    with serving(Limits(header_s=0.3), tls=tls) as server, server.connect() as link:
        link.sendall(b"\x16\x03\x01")
        assert link.recv(100) == b""


@pytest.mark.parametrize("days", [-1.0, -0.0001])
def test_an_expired_certificate_is_refused_at_the_start(authority: Authority, days: float) -> None:
    with pytest.raises(ConfigError, match="expired"):
        Certificate(authority.issue("server", days=days), http2=False)


def test_a_key_that_does_not_fit_is_refused_at_the_start(authority: Authority) -> None:
    files = authority.issue("server")
    files.key.write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(
        ConfigError, match=r"server\.pem can't serve .*: the certificate and the key don't belong together"
    ):
        Certificate(files, http2=False)
    with pytest.raises(ConfigError, match="can't read"):
        Certificate(TlsFiles(files.certificate, files.key.with_name("none.key")), http2=False)


def test_a_key_under_a_passphrase_is_refused_and_nobody_is_asked(authority: Authority) -> None:
    files = authority.issue("server")
    key = ec.generate_private_key(ec.SECP256R1())
    locked = serialization.BestAvailableEncryption(b"secret")
    files.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    with pytest.raises(ConfigError, match="can't serve"):
        Certificate(files, http2=False)


@pytest.mark.parametrize("damage", ["half", "expired", "other key", "gone"])
def test_a_change_that_does_not_work_keeps_the_old_certificate(
    authority: Authority, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    files = authority.issue("server")
    certificate = Certificate(files, http2=False)
    before = certificate.context
    whole = files.certificate.read_bytes()
    if damage == "half":
        files.certificate.write_bytes(whole[: len(whole) // 2])
    elif damage == "expired":
        authority.issue("server", days=-1)
    elif damage == "other key":
        files.key.write_bytes(_pem(ec.generate_private_key(ec.SECP256R1())))
    else:
        files.certificate.unlink()
    assert not certificate.reload()
    assert certificate.context is before and certificate.expires_s > 0
    assert "the old certificate stays" in caplog.text
    authority.issue("server", days=10)
    assert certificate.reload()
    assert certificate.context is not before and certificate.expires_s < 11 * 86400


def test_a_certificate_about_to_expire_is_warned_of(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Certificate(authority.issue("server", days=3), http2=False)
    assert "expires in 3.0 days" in caplog.text


def test_new_certificates_under_load_lose_no_request(authority: Authority) -> None:
    files = authority.issue("server")
    certificate = Certificate(files, http2=False)
    seen: set[str] = set()
    lost: list[BaseException] = []
    counts = {"asked": 0, "answered": 0}
    stop = threading.Event()
    lock = threading.Lock()
    with serving(tls=certificate.context) as server:
        address = ("localhost", server.address[1])
        watching = asyncio.run_coroutine_threadsafe(
            certificate.watch(server.listener.use_tls, every_s=0.02), server.loop
        )

        def keep_asking(is_new_each_time: bool) -> None:
            with closing(HTTPSConnection(*address, context=authority.trusting(), timeout=20)) as client:
                while not stop.is_set():
                    try:
                        client.request("POST", "/echo", b"a" * 1000)
                        assert client.sock is not None
                        serial = str((client.sock.getpeercert() or {})["serialNumber"])
                        answer = client.getresponse()
                        answer.read()
                    except OSError as error:
                        lost.append(error)
                        return
                    with lock:
                        seen.add(serial)
                        counts["asked"] += 1
                        counts["answered"] += answer.status == 200
                    if is_new_each_time:
                        client.close()

        threads = [threading.Thread(target=keep_asking, args=(bool(place % 2),)) for place in range(6)]
        for thread in threads:
            thread.start()
        server.until(lambda: bool(seen))
        for _ in range(10):
            known = len(seen)
            authority.issue("server")
            server.until(lambda known=known: len(seen) > known)  # type: ignore[misc]  # a default binds the count
        stop.set()
        for thread in threads:
            thread.join(20)
        watching.cancel()
        assert not lost
        assert counts["asked"] == counts["answered"] == server.application.answered
        assert len(seen) >= 11


def test_a_drain_lets_handshakes_that_are_under_way_end_and_answers_them(authority: Authority) -> None:
    tls = Certificate(authority.issue("server"), http2=False).context
    with serving(tls=tls) as server, server.connect() as early:
        draining = asyncio.run_coroutine_threadsafe(server.listener.drain(20, idle_s=5), server.loop)
        server.until(lambda: server.connections.is_draining)
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        with authority.trusting().wrap_socket(early, server_hostname="localhost") as link:
            link.sendall(get())
            assert b"connection: close" in read_all(link)
        assert draining.result(20) is True

"""Certificates that expire and keys that are rotated, while callers ask."""

import datetime
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.bundle.making import bundle_affine
from tests.chaos.counts import Report, together
from tests.chaos.grpc_load import GrpcLoad
from tests.chaos.load import HttpLoad, Target
from tests.chaos.questions import affine
from tests.chaos.serving import serving
from tests.server.running import wait_until


@dataclass(frozen=True)
class Pair:
    """Hold the files of a certificate that vouches for itself, and its key, which stays the same."""

    folder: Path
    key: ec.EllipticCurvePrivateKey

    @property
    def files(self) -> tuple[Path, Path]:
        return self.folder / "server.pem", self.folder / "server.key"

    def write(self, *, lasts_s: float) -> int:
        """Put a new certificate in the old one's place; gives its serial number."""
        now = datetime.datetime.now(datetime.UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        end = now + datetime.timedelta(seconds=lasts_s)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, end) - datetime.timedelta(days=1))
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        certificate_file, key_file = self.files
        key_file.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        beside = certificate_file.with_suffix(".new")
        beside.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        os.replace(beside, certificate_file)
        return certificate.serial_number


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path, ec.generate_private_key(ec.SECP256R1()))


def serial_at(port: int) -> int:
    """Give the serial number of the certificate that a new connection is met with."""
    certificate = ssl.get_server_certificate(("127.0.0.1", port), timeout=20)
    return x509.load_pem_x509_certificate(certificate.encode()).serial_number


def anyone() -> ssl.SSLContext:
    """Give a client that goes on whatever certificate it sees: what is counted is requests."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_an_expired_certificate_never_takes_a_good_one_s_place(tmp_path: Path, pair: Pair, report: Report) -> None:
    good = pair.write(lasts_s=3600)
    bundle = bundle_affine(tmp_path / "affine")
    options = ("--tls-cert", str(pair.files[0]), "--tls-key", str(pair.files[1]))
    with serving([bundle.path], *options) as server:
        target = Target(server.port, tls=anyone(), headers="Connection: close\r\n")
        with HttpLoad(target, affine(), callers=2, pause_s=0.02) as http:  # each on a new connection
            http.wait_for_answers(30)
            pair.write(lasts_s=-60)
            wait_until(lambda: "the old certificate stays" in server.log())
            assert serial_at(server.port) == good
            http.wait_for_answers(30)
            http.counts.hurt()
            better = pair.write(lasts_s=7200)
            wait_until(lambda: serial_at(server.port) == better)
            http.wait_for_answers(30)
    report.add("an expired certificate, then a new one", http.counts, "each request on a connection of its own")
    assert http.counts.answered == http.counts.sent, http.counts.examples


def test_a_server_doesn_t_start_with_an_expired_certificate(tmp_path: Path, pair: Pair) -> None:
    pair.write(lasts_s=-60)
    bundle = bundle_affine(tmp_path / "affine")
    command = [sys.executable, "-m", "ferryman", "serve", str(bundle.path), "--port", "0", "--admin-port", "off"]
    started = subprocess.run(
        [*command, "--tls-cert", str(pair.files[0]), "--tls-key", str(pair.files[1])],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert started.returncode == 2
    assert "certificate has expired" in started.stderr
    assert "Traceback" not in started.stderr


def test_a_certificate_that_expires_while_it_serves_is_renewed_without_a_restart(
    tmp_path: Path, pair: Pair, report: Report
) -> None:
    pair.write(lasts_s=8)
    bundle = bundle_affine(tmp_path / "affine")
    options = ("--tls-cert", str(pair.files[0]), "--tls-key", str(pair.files[1]))
    with serving([bundle.path], *options) as server:
        assert "expires in 0.0 days" in server.log()
        over_grpc = Target(server.port, roots=pair.files[0].read_bytes())
        with (
            HttpLoad(Target(server.port, tls=anyone()), affine(), callers=2, pause_s=0.02) as http,
            GrpcLoad(over_grpc, affine(), callers=2, pause_s=0.02) as grpc,
        ):
            grpc.wait_for_answers(5)  # over connections that last
            wait_until(lambda: not is_trusted(server.port, pair))
            http.wait_for_answers(30)
            grpc.wait_for_answers(30)
            http.counts.hurt()
            pair.write(lasts_s=3600)
            wait_until(lambda: is_trusted(server.port, pair))
            renewed_after_s = time.monotonic() - http.counts.hurt_s
            http.wait_for_answers(30)
            grpc.wait_for_answers(30)
    counts = together([http.counts, grpc.counts])
    note = f"HTTP and gRPC; renewed {renewed_after_s:.1f} s after the file was"
    report.add("a certificate expires in service", counts, note)
    assert counts.answered == counts.sent, counts.examples


def is_trusted(port: int, pair: Pair) -> bool:
    """Tell whether a client that checks would connect."""
    context = ssl.create_default_context(cafile=str(pair.files[0]))
    with (
        suppress(ssl.SSLCertVerificationError),
        socket.create_connection(("127.0.0.1", port), 20) as plain,
        context.wrap_socket(plain, server_hostname="localhost"),
    ):
        return True
    return False


def key(file: Path, *words: str) -> str:
    """Run `ferryman keys`; gives the token that it made."""
    made = subprocess.run(
        [sys.executable, "-m", "ferryman", "keys", *words, "--file", str(file), "--json"],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    token: str = json.loads(made.stdout)["token"]
    return token


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n"


def test_a_rotated_key_and_its_follower_are_both_let_in(tmp_path: Path, report: Report) -> None:
    bundle = bundle_affine(tmp_path / "affine")
    keys = tmp_path / "keys.json"
    old = key(keys, "add", "web")
    with serving([bundle.path], "--keys", str(keys)) as server:
        with (
            HttpLoad(Target(server.port, headers=bearer(old)), affine(), callers=4) as stays,
            HttpLoad(Target(server.port, headers=bearer(old)), affine(), callers=4) as moves,
        ):
            for _ in range(3):
                moves.wait_for_answers(50)
                new = key(keys, "rotate", "web", "--grace", "1h")
                moves.headers = bearer(new)
                stays.wait_for_answers(50)
                moves.wait_for_answers(50)
        for token in (old, new):
            assert token not in server.log()
        text = keys.read_text()
    counts = together([stays.counts, moves.counts])
    report.add("a key is rotated, three times", counts, "callers with the old and with the new key")
    assert old not in text and new not in text
    assert counts.failed == {}, counts.examples
    assert counts.answered == counts.sent

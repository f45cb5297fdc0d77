"""The same over TLS, where ALPN says that it is HTTP/2."""

import datetime
import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ferryman.server.data.grpc.messages import INFERENCE, InferResponse
from tests.server.grpc.raw import message
from tests.server.grpc.serving import serving


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def test_calls_go_over_tls(pem: tuple[Path, Path]) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*pem)
    tls.set_alpn_protocols(["h2", "http/1.1"])
    seen: list[object] = []

    def admit(*asked: object) -> None:
        seen.append(asked[-1])

    credentials = grpc.ssl_channel_credentials(pem[0].read_bytes(), pem[1].read_bytes(), pem[0].read_bytes())
    tls.load_verify_locations(pem[0])
    tls.verify_mode = ssl.CERT_REQUIRED
    with (
        serving(tls=tls, admit=admit) as server,
        grpc.secure_channel(f"localhost:{server.port}", credentials) as channel,
    ):
        infer: Any = channel.unary_unary(
            f"/{INFERENCE}/ModelInfer", response_deserializer=InferResponse.FromString
        )  # its stubs know no calls of plain bytes
        futures = [infer.future(message(rows=rows)[5:]) for rows in (1, 2, 50, 5000) * 10]
        for future in futures:
            assert future.result(10).model_name == "double"
    certificate = seen[0]
    assert isinstance(certificate, dict)
    assert certificate["subject"] == ((("commonName", "localhost"),),)

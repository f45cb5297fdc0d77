"""Who may call a real server: TLS, keys, tokens and certificates, over HTTP and gRPC alike, and none of it logged."""

import json
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ferryman.server.data.gate.key_file import KeyFile, read_keys, write_keys
from ferryman.server.data.gate.keys import Wish, add, revoke, rotate
from ferryman.server.data.grpc.messages import INFERENCE, InferRequest, InferResponse, message
from tests.bundle.making import bundle_affine, bundle_table
from tests.server.gate.issuing import AUDIENCE, ISSUER, OTHER_RSA_KEY, RSA_KEY, key_set, token
from tests.server.grpc.raw import RawClient, data, headers
from tests.server.running import Running, read_answer, running, wait_until

PEM = serialization.Encoding.PEM
ROWS = np.array([[1, 2, 3]], np.float32)
AFFINE = {"inputs": [{"name": "values", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
TABLE = {"rows": [{"width": 1, "height": 2, "weight": 3}]}
LoadRequest, LoadResponse = (
    message("inference.RepositoryModelLoadRequest"),
    message("inference.RepositoryModelLoadResponse"),
)


@dataclass(frozen=True)
class Authority:
    """Sign certificates."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def issue(self, name: str, *, to: str = "", begins_in: timedelta = timedelta(hours=-1)) -> tuple[Path, Path]:
        """Write a certificate of `name`, good for 30 days, and its key into files named `to`."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
        builder = _builder(name, self.certificate.subject, key, begins_in)
        made = builder.add_extension(x509.SubjectAlternativeName(names), False)
        files = self.folder / f"{to or name}.pem", self.folder / f"{to or name}.key"
        files[1].write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        files[0].write_bytes(made.sign(self.key, hashes.SHA256()).public_bytes(PEM))
        return files


def _builder(
    name: str, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey, begins_in: timedelta = timedelta(hours=-1)
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begins = datetime.now(UTC) + begins_in
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer or subject).public_key(key.public_key())
    )
    builder = (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=30))
    )
    return builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True)


def authority(folder: Path) -> Authority:
    folder.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    made = Authority(folder, key, _builder("authority", None, key).sign(key, hashes.SHA256()))
    made.file.write_bytes(made.certificate.public_bytes(PEM))
    return made


@dataclass(frozen=True)
class Guarded:
    """Hold a server that lets nobody in, and what opens it."""

    server: Running
    authority: Authority
    keys: Path
    tokens: Mapping[str, str]
    client: tuple[Path, Path] | None = None

    @property
    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.file)
        if self.client is not None:
            context.load_cert_chain(*self.client)
        return context

    def ask(
        self, method: str, path: str, body: object = None, *, bearer: str = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Ask over HTTPS, as `bearer` where one is named."""
        if bearer:
            headers["Authorization"] = f"Bearer {self.tokens.get(bearer, bearer)}"
        connection = HTTPSConnection(self.server.address, context=self.context, timeout=20)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json", **headers})
            return read_answer(connection.getresponse())
        finally:
            connection.close()

    def status(self, model: str, body: object, *, bearer: str = "") -> int:
        return self.ask("POST", f"/v2/models/{model}/infer", body, bearer=bearer)[0]

    def call(self, bearer: str = "", *, model: str = "affine", load: bool = False) -> grpc.StatusCode:
        """Ask over gRPC; gives the status."""
        files = (None, None) if self.client is None else (self.client[1].read_bytes(), self.client[0].read_bytes())
        credentials = grpc.ssl_channel_credentials(self.authority.file.read_bytes(), *files)
        request = LoadRequest(model_name=model) if load else InferRequest(model_name=model)
        if not load:
            request.raw_input_contents.append(ROWS.tobytes())
            request.inputs.add(name="values", datatype="FP32", shape=ROWS.shape)
        metadata = (("authorization", f"Bearer {self.tokens.get(bearer, bearer)}"),) if bearer else ()
        response = LoadResponse if load else InferResponse
        path = f"/{INFERENCE}/{'RepositoryModelLoad' if load else 'ModelInfer'}"
        with grpc.secure_channel(self.server.address, credentials) as channel:
            method: Any = channel.unary_unary(path, type(request).SerializeToString, response.FromString)
            try:  # Any: grpcio's stubs know no calls of plain messages
                method(request, timeout=20, metadata=metadata)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                return code
        return grpc.StatusCode.OK

    def served_serial(self) -> int:
        """Give the number of the certificate that a new connection is met with."""
        host, port = self.server.host_and_port
        pem = ssl.get_server_certificate((host, port))
        return x509.load_pem_x509_certificate(pem.encode()).serial_number


def written_keys(file: Path) -> dict[str, str]:
    """Write keys of several rights; gives their tokens."""
    wishes = (
        Wish("web"),
        Wish("operator", scopes=("infer", "read", "admin")),
        Wish("tables", models=("tab*",)),
        Wish("reader", scopes=("read",)),
        Wish("often", rate_per_s=0.2, burst=2),
        Wish("often-too", rate_per_s=0.2, burst=2),
        Wish("over", expires_in=timedelta(seconds=-1)),
    )
    held, tokens = KeyFile(), {}
    for wish in wishes:
        made = add(held, wish)
        held, tokens[wish.name] = made.file, made.token
    write_keys(file, held)
    return tokens


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    signer = authority(folder / "tls")
    certificate, key = signer.issue("localhost", to="server")
    (folder / "jwks.json").write_bytes(key_set(one=RSA_KEY))
    (folder / "jwt.toml").write_text(f'issuer = "{ISSUER}"\naudience = "{AUDIENCE}"\njwks = "jwks.json"\n')
    tokens = written_keys(folder / "keys.json") | {
        "alice": token().decode(),
        "root": token(sub="root", scope="infer read admin").decode(),
        "late": token(exp=1_000_000).decode(),
        "forged": token(OTHER_RSA_KEY).decode(),
    }
    bundles = [bundle_affine(folder / "affine").path, bundle_table(folder / "table").path]
    with running(
        bundles, tls_cert=certificate, tls_key=key, keys=folder / "keys.json", jwt=folder / "jwt.toml", access_log="-"
    ) as server:
        yield Guarded(server, signer, folder / "keys.json", tokens)
        wait_until(lambda: '"caller":"key:operator"' in server.log())
        log = server.log()
        assert [name for name, held in tokens.items() if held in log or held[-20:] in log] == []


@pytest.mark.parametrize("bearer", ["web", "operator", "alice", "root"])
def test_who_is_known_is_answered_over_both_protocols(guarded: Guarded, bearer: str) -> None:
    assert guarded.status("affine", AFFINE, bearer=bearer) == 200
    assert guarded.call(bearer) is grpc.StatusCode.OK


def test_a_key_may_come_in_the_header_of_keys(guarded: Guarded) -> None:
    path = "/v2/models/affine/infer"
    assert guarded.ask("POST", path, AFFINE, **{"X-API-Key": guarded.tokens["web"]})[0] == 200


@pytest.mark.parametrize("bearer", ["", "nonsense", "fm_000000000000_guess", "over", "late", "forged"])
def test_who_is_not_known_is_told_how_to_say_it(guarded: Guarded, bearer: str) -> None:
    status, answer, headers = guarded.ask("POST", "/v2/models/affine/infer", AFFINE, bearer=bearer)
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="ferryman"')
    assert answer["error"]
    assert guarded.call(bearer) is grpc.StatusCode.UNAUTHENTICATED


def test_a_caller_without_a_key_can_not_hold_memory_that_others_need(tmp_path: Path) -> None:
    tokens = written_keys(tmp_path / "keys.json")
    with (
        running([bundle_affine(tmp_path / "bundle").path], keys=tmp_path / "keys.json") as server,
        RawClient(server.host_and_port[1]) as client,
    ):
        for stream in range(1, 65, 2):
            client.send(headers(stream), data(stream, b"\0\1\xff\xff\xff", 0))  # 32 MiB are to come
            assert client.answer(stream)[0]["grpc-status"] == "16"
        bearer = {"Authorization": f"Bearer {tokens['web']}", "Content-Type": "application/json"}
        assert server.ask("POST", "/v2/models/affine/infer", json.dumps(AFFINE).encode(), bearer)[0] == 200


def test_health_is_open_and_everything_else_is_not(guarded: Guarded) -> None:
    assert [guarded.ask("GET", f"/v2/health/{kind}")[0] for kind in ("live", "ready")] == [200, 200]
    closed = ("/metrics", "/openapi.json", "/v2/models/affine", "/v2/models/affine/config")
    assert {path: guarded.ask("GET", path)[0] for path in closed} == dict.fromkeys(closed, 401)
    assert {path: guarded.ask("GET", path, bearer="reader")[0] for path in closed} == dict.fromkeys(closed, 200)


def test_a_scope_is_no_more_than_it_says(guarded: Guarded) -> None:
    load = "/v2/repository/models/affine/load"
    for bearer in ("web", "alice", "tables"):
        assert guarded.ask("POST", load, {}, bearer=bearer)[0] == 403
        assert guarded.call(bearer, load=True) is grpc.StatusCode.PERMISSION_DENIED
    assert guarded.status("affine", AFFINE, bearer="reader") == 403
    assert guarded.call("reader") is grpc.StatusCode.PERMISSION_DENIED
    for bearer in ("operator", "root"):
        assert guarded.ask("POST", load, {}, bearer=bearer)[0] == 200
        assert guarded.call(bearer, load=True) is grpc.StatusCode.OK


def test_a_pattern_of_models_reaches_those_and_no_others(guarded: Guarded) -> None:
    assert guarded.status("table", TABLE, bearer="tables") == 200
    assert guarded.status("affine", AFFINE, bearer="tables") == 403
    assert guarded.status("nobody", AFFINE, bearer="tables") == 403, "what there is is not told either"
    assert guarded.call("tables") is grpc.StatusCode.PERMISSION_DENIED


def test_who_asks_too_often_waits_and_is_told_how_long(guarded: Guarded) -> None:
    path = "/v2/models/affine/infer"
    assert [guarded.status("affine", AFFINE, bearer="often") for _ in range(2)] == [200, 200]
    status, answer, headers = guarded.ask("POST", path, AFFINE, bearer="often")
    assert (status, 1 <= int(headers["retry-after"]) <= 5) == (429, True)
    assert answer["error"]
    codes = [guarded.call("often-too") for _ in range(3)]
    assert codes == [grpc.StatusCode.OK, grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert guarded.status("affine", AFFINE, bearer="web") == 200, "others don't wait"


def test_keys_are_rotated_and_revoked_while_the_server_runs(guarded: Guarded) -> None:
    held = add(read_keys(guarded.keys), Wish("brief"))
    write_keys(guarded.keys, held.file)
    wait_until(lambda: guarded.status("affine", AFFINE, bearer=held.token) == 200)
    newer = rotate(held.file, "brief", grace=timedelta(hours=1))
    write_keys(guarded.keys, newer.file)
    wait_until(lambda: guarded.call(newer.token) is grpc.StatusCode.OK)
    assert guarded.status("affine", AFFINE, bearer=held.token) == 200, "the old one is good for its grace"
    write_keys(guarded.keys, revoke(newer.file, "brief")[0])
    wait_until(lambda: guarded.status("affine", AFFINE, bearer=newer.token) == 401)
    assert guarded.call(held.token) is grpc.StatusCode.UNAUTHENTICATED
    assert guarded.call("web") is grpc.StatusCode.OK
    log = guarded.server.log()
    assert held.token not in log and newer.token not in log


def test_a_new_certificate_meets_new_connections_and_old_ones_stay(guarded: Guarded) -> None:
    before = guarded.served_serial()
    stays = HTTPSConnection(guarded.server.address, context=guarded.context, timeout=20)
    stays.request("GET", "/v2/health/live")
    assert stays.getresponse().read() == b'{"live":true}'
    guarded.authority.issue("localhost", to="server")
    wait_until(lambda: guarded.served_serial() != before)
    stays.request("GET", "/v2/health/live")
    assert stays.getresponse().read() == b'{"live":true}'
    stays.close()
    assert guarded.status("affine", AFFINE, bearer="web") == 200
    assert guarded.call("web") is grpc.StatusCode.OK


def test_a_certificate_that_does_not_work_leaves_the_old_one(guarded: Guarded) -> None:
    before = guarded.served_serial()
    file = guarded.authority.folder / "server.pem"
    good = file.read_bytes()
    file.write_bytes(b"-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    wait_until(lambda: "the old certificate stays" in guarded.server.log())
    assert guarded.served_serial() == before
    assert guarded.call("web") is grpc.StatusCode.OK
    file.write_bytes(good)


def test_with_mutual_tls_only_certificates_of_the_authority_come_in(tmp_path: Path) -> None:
    signer, stranger = authority(tmp_path / "tls"), authority(tmp_path / "stranger")
    certificate, key = signer.issue("localhost", to="server")
    tokens = written_keys(tmp_path / "keys.json")
    bundle = bundle_affine(tmp_path / "affine").path
    with running(
        [bundle], tls_cert=certificate, tls_key=key, client_ca=signer.file, keys=tmp_path / "keys.json", access_log="-"
    ) as server:
        camera = Guarded(server, signer, tmp_path / "keys.json", tokens, signer.issue("camera-3"))
        assert camera.status("affine", AFFINE) == 200, "its certificate says who it is"
        assert camera.call() is grpc.StatusCode.OK
        assert camera.ask("POST", "/v2/repository/models/affine/load", {})[0] == 403
        assert camera.call(load=True) is grpc.StatusCode.PERMISSION_DENIED
        assert camera.ask("POST", "/v2/repository/models/affine/load", {}, bearer="operator")[0] == 200
        assert camera.status("affine", AFFINE, bearer="nonsense") == 401, "what is said beside it counts"
        wait_until(lambda: '"caller":"certificate:camera-3"' in server.log())
        for files in (None, stranger.issue("camera-4")):
            other = Guarded(server, signer, tmp_path / "keys.json", tokens, files)
            with pytest.raises(OSError, match=r"(?i)certificate|alert|reset|EOF|closed"):
                other.status("affine", AFFINE, bearer="web")
            assert other.call("web") is grpc.StatusCode.UNAVAILABLE
        assert tokens["operator"] not in server.log()


def test_who_must_show_a_certificate_to_ask_can_not_ask_at_the_admins_port_without_one(tmp_path: Path) -> None:
    signer = authority(tmp_path / "tls")
    certificate, key = signer.issue("localhost", to="server")
    bundle = bundle_affine(tmp_path / "affine").path
    with running([bundle], tls_cert=certificate, tls_key=key, client_ca=signer.file, admin_port=0) as server:
        camera = Guarded(server, signer, tmp_path / "none", {}, signer.issue("camera-3"))
        assert camera.status("affine", AFFINE) == 200
        assert camera.ask("POST", "/v2/repository/models/affine/load", {})[0] == 403
        admin = replace(server, url=server.admin_url)
        assert admin.infer("affine", AFFINE)[0] == 403
        with grpc.insecure_channel(admin.address) as channel:
            call: Any = channel.unary_unary(f"/{INFERENCE}/ModelInfer", InferRequest.SerializeToString, None)
            with pytest.raises(grpc.RpcError) as refused:  # Any: as above
                call(InferRequest(model_name="affine"), timeout=20)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        for method, path in (("GET", "/admin/status"), ("GET", "/metrics"), ("POST", "/admin/refresh")):
            assert admin.ask(method, path)[0] == 200, path

import json
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman.core.errors import RegistryError
from ferryman.oci.auth import Credentials
from ferryman.oci.blobs import Blobs
from ferryman.oci.reference import Reference
from ferryman.oci.registry import Registry, Retry
from tests.oci.making import make_image, run
from tests.oci.registries import PASSWORD, USER, TokenServer, docker_registry, htpasswd_auth

ADA = Credentials(USER, PASSWORD)
pytestmark = pytest.mark.tool("docker-registry")


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("locked")
    with docker_registry(folder, htpasswd_auth(folder)) as host:
        yield host


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, TokenServer]]:
    folder = tmp_path_factory.mktemp("tokens")
    with TokenServer(folder).running() as server, docker_registry(folder, server.auth()) as host:
        yield host, server


def test_a_password_is_taken_from_podmans_file(locked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "auth.json"
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    file.write_text(json.dumps({"auths": {locked: {"auth": b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}}))
    reference, blobs = Reference.parse(f"{locked}/a/b:1"), Blobs(tmp_path)
    with Registry.of(reference) as registry:
        registry.push(blobs, make_image(blobs), reference)
        assert registry.tags("a/b") == ["1"]


@pytest.mark.tool("skopeo")
def test_who_logged_in_with_skopeo_is_known(locked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "skopeo.json"))
    run("skopeo", "login", "--tls-verify=false", "-u", USER, "-p", PASSWORD, locked)
    with Registry(locked) as registry, pytest.raises(RegistryError, match="doesn't have it"):
        registry.tags("known/but-empty")


def test_strangers_and_wrong_passwords_are_told_how_to_log_in(locked: str) -> None:
    reference = Reference.parse(f"{locked}/a/b:1")
    with Registry(locked) as registry, pytest.raises(RegistryError, match="refuses strangers") as refused:
        registry.resolve(reference)
    assert f"docker login {locked}" in refused.value.hint
    wrong = Credentials(USER, "wrong-password")
    with Registry(locked, auth=wrong) as registry, pytest.raises(RegistryError, match="these credentials") as refused:
        registry.resolve(reference)
    assert "wrong-password" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("auth", [ADA, Credentials(identity_token="refresh")])
def test_a_token_is_fetched_for_what_is_done(
    tokens: tuple[str, TokenServer], tmp_path: Path, auth: Credentials
) -> None:
    host, server = tokens
    server.asked.clear()
    name = "t/refresh" if auth.identity_token else "t/basic"
    reference, blobs = Reference.parse(f"{host}/{name}:1"), Blobs(tmp_path / "mine")
    with Registry(host, auth=auth) as registry:
        image = make_image(blobs)
        registry.push(blobs, image, reference)
        registry.pull(reference, Blobs(tmp_path / "back"))
    scopes = [scope for form in server.asked for scope in form.get("scope", [])]
    assert any(scope.startswith(f"repository:{name}:") and "push" in scope for scope in scopes)
    assert len(server.asked) <= 4  # a token is used again, not fetched for each request


def test_a_token_server_that_refuses_is_named(tokens: tuple[str, TokenServer]) -> None:
    host, _ = tokens
    reference = Reference.parse(f"{host}/t/basic:1")
    for auth in (None, Credentials(USER, "wrong")):
        with Registry(host, auth=auth) as registry, pytest.raises(RegistryError, match="gives no token for") as refused:
            registry.resolve(reference)
        assert "docker login" in refused.value.hint


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return folder / "cert.pem"


def test_tls_is_checked_against_the_authority_that_is_named(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = {"certificate": str(certificate), "key": str(certificate.with_name("key.pem"))}
    with docker_registry(tmp_path, tls=tls) as address:
        host = address.replace("127.0.0.1", "localhost")
        reference, retry = Reference.parse(f"{host}/a/b:1"), Retry(attempts=1)

        def there(*, ca: Path | None = None, insecure: bool = False) -> str:
            made = Registry(host, ca=ca, insecure=insecure, retry=retry)
            with made as registry, pytest.raises(RegistryError) as refused:
                registry.resolve(reference)
            return f"{refused.value} {refused.value.hint}"

        assert "is not trusted" in there() and "--ca FILE" in there()
        assert "doesn't have it" in there(ca=certificate)
        assert "doesn't have it" in there(insecure=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert "doesn't have it" in there()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
        with pytest.raises(RegistryError, match=r"missing\.pem holds no certificates"):
            there()


def test_many_threads_that_ask_at_once_fetch_few_tokens(tokens: tuple[str, TokenServer], tmp_path: Path) -> None:
    host, server = tokens
    reference, blobs = Reference.parse(f"{host}/t/many:1"), Blobs(tmp_path)
    with Registry(host, auth=ADA) as registry:
        registry.push(blobs, make_image(blobs), reference)
        server.asked.clear()
        threads = [threading.Thread(target=registry.resolve, args=(reference,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    assert server.asked == []

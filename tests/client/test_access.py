"""A server behind TLS, a client certificate or a key: each way not to come in is said in one line, with the way out."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from ferryman.client.access import NOBODY, Access
from ferryman.client.admin import Admin
from ferryman.client.http import Client
from ferryman.core.errors import ConfigError, FerrymanError, Forbidden, Unauthorized, UserError
from tests.bundle.making import bundle_affine
from tests.cli.running import ferryman
from tests.server.gate.issuing import serving
from tests.server.running import Running, running
from tests.server.test_tls_and_keys import Authority, authority, written_keys


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_affine(tmp_path_factory.mktemp("bundle") / "affine").path


@pytest.fixture(scope="module")
def secure(bundle: Path, signer: Authority) -> Iterator[Running]:
    certificate, key = signer.issue("localhost", to="server")
    with running([bundle], tls_cert=certificate, tls_key=key) as server:
        yield server


@pytest.fixture(scope="module")
def mutual(bundle: Path, signer: Authority) -> Iterator[Running]:
    certificate, key = signer.issue("localhost", to="mutual")
    with running([bundle], tls_cert=certificate, tls_key=key, client_ca=signer.file) as server:
        yield server


@pytest.fixture(scope="module")
def plain(bundle: Path) -> Iterator[Running]:
    with running([bundle], admin_port=0) as server:
        yield server


def refused(url: str, access: Access = NOBODY) -> FerrymanError:
    with pytest.raises(FerrymanError) as caught, Client(url, timeout_s=10, access=access) as client:
        client.metadata("affine")
    return caught.value


@pytest.mark.parametrize("days", [-31, 1])
def test_a_server_s_certificate_out_of_date_is_told_apart_from_an_unknown_one(signer: Authority, days: int) -> None:
    certificate, key = signer.issue("localhost", to=f"late{days}", begins_in=timedelta(days=days))
    pem = signer.folder / f"late{days}-both.pem"
    pem.write_bytes(certificate.read_bytes() + key.read_bytes())
    with serving(b"{}", pem) as server:
        error = refused(server.url.removesuffix("/keys"), Access("", signer.file))
    assert isinstance(error, ConfigError)
    assert "expired" in str(error) or "not yet valid" in str(error)
    assert "the server needs a new one" in error.hint


def test_a_server_that_tls_hides_is_asked_only_with_the_authority_that_it_comes_from(
    secure: Running, signer: Authority
) -> None:
    error = refused(secure.url)
    assert "is not believed" in str(error) and error.hint.startswith("--cacert FILE")
    for file in (signer.file, signer.folder / "server.pem"):
        with Client(secure.url, access=Access("", file)) as client:
            assert client.metadata("affine")["name"] == "affine"


def test_a_name_that_is_not_in_the_certificate_is_said_so(signer: Authority) -> None:
    certificate, key = signer.issue("somewhere-else")
    pem = signer.folder / "elsewhere.pem"
    pem.write_bytes(certificate.read_bytes() + key.read_bytes())
    with serving(b"{}", pem) as server:
        error = refused(server.url.removesuffix("/keys").replace("127.0.0.1", "localhost"), Access("", signer.file))
    assert "localhost" in str(error) and error.hint == "ask it by a name that stands in its certificate"


def test_http_where_tls_is_spoken_and_the_other_way_round_name_the_right_address(
    secure: Running, plain: Running, signer: Authority
) -> None:
    for url, scheme in ((secure.url, "http"), (plain.url, "https")):
        wrong = f"{scheme}://{url.partition('://')[2]}"
        error = refused(wrong)
        assert isinstance(error, ConfigError)
        assert error.hint == f"ask {url}"
    error = refused(plain.url, Access("", signer.file))
    assert error.hint == f"ask {plain.url.replace('http', 'https')}", "an authority that nobody is checked against"


def test_a_client_certificate_opens_what_is_closed_without(mutual: Running, signer: Authority) -> None:
    error = refused(mutual.url, Access("", signer.file))
    assert "--cert FILE --key FILE" in error.hint
    certificate, key = signer.issue("camera-3")
    both = signer.folder / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    for files in ((certificate, key), (both, None)):
        with Client(mutual.url, access=Access("", signer.file, *files)) as client:
            assert client.is_ready("affine")


def test_a_client_certificate_of_another_authority_is_named(mutual: Running, signer: Authority, tmp_path: Path) -> None:
    stranger = authority(tmp_path / "stranger")
    error = refused(mutual.url, Access("", signer.file, *stranger.issue("camera-4")))
    assert "camera-4.pem" in f"{error} {error.hint}"


@pytest.mark.parametrize(("days", "words"), [(-31, "has expired"), (1, "is not good yet")])
def test_a_client_certificate_out_of_date_is_not_even_sent(signer: Authority, days: int, words: str) -> None:
    files = signer.issue("camera-5", begins_in=timedelta(days=days))
    with pytest.raises(ConfigError, match=f"camera-5.pem {words}"):
        Access("", signer.file, *files).context()


def test_files_that_are_no_certificates_are_named(signer: Authority, tmp_path: Path) -> None:
    certificate, key = signer.issue("camera-6")
    other = signer.issue("camera-7")[1]
    (tmp_path / "text").write_text("no certificate")
    for access, name in (
        (Access("", tmp_path / "nothing"), "nothing"),
        (Access("", tmp_path / "text"), "text"),
        (Access("", None, tmp_path / "text", key), "text"),
        (Access("", None, certificate, other), "camera-6.pem"),
        (Access("", None, None, key), "camera-6.key"),
    ):
        with pytest.raises(ConfigError, match=name) as caught:
            access.context()
        assert "--c" in caught.value.hint
    with pytest.raises(ConfigError, match="the certificate and the key don't belong together"):
        Access("", None, certificate, other).context()


def test_a_host_that_has_no_address_is_named() -> None:
    error = refused("http://no.such.host.invalid:1")
    assert (str(error).partition(":")[0], error.hint) == (
        "no host is called 'no.such.host.invalid'", "check the name in the address",
    )  # fmt: skip


def test_a_key_that_is_missing_or_may_less_is_told_with_the_option(bundle: Path, tmp_path: Path) -> None:
    tokens = written_keys(tmp_path / "keys.json")
    with running([bundle], keys=tmp_path / "keys.json", admin_port=0) as server:
        error = refused(server.url)
        assert (type(error), error.hint) == (Unauthorized, "it wants a key: --key-file FILE")
        error = refused(server.url, Access(tokens["tables"]))
        assert (type(error), "another caller" in error.hint) == (Forbidden, True)
        error = refused(server.url, Access("fm_000000000000_guess"))
        assert (type(error), "another key" in error.hint) == (Unauthorized, True)
        with pytest.raises(Unauthorized) as caught:
            Admin(server.admin_url).rollouts()
        assert caught.value.hint == "it wants a key: --key-file FILE"
        with pytest.raises(Forbidden, match="'admin'"):
            Admin(server.admin_url, access=Access(tokens["web"])).rollouts()
        assert Admin(server.admin_url, access=Access(tokens["operator"])).rollouts() == []


def test_the_port_where_everybody_may_ask_is_no_admin_address(plain: Running) -> None:
    port = int(plain.url.rpartition(":")[2])
    with pytest.raises(UserError, match="is no admin address") as caught:
        Admin(plain.url).rollouts()
    assert str(port + 1) in caught.value.hint
    with pytest.raises(UserError, match="is no admin address"):
        Admin(plain.url).rollout("affine")
    with pytest.raises(FerrymanError, match="no rollout of 'affine'"):
        Admin(plain.admin_url).rollout("affine")


def test_the_command_line_takes_the_files(mutual: Running, signer: Authority, tmp_path: Path) -> None:
    certificate, key = signer.issue("camera-8")
    np.savez(tmp_path / "values.npz", values=np.ones((1, 3), np.float32))
    words = ("infer", mutual.url, str(tmp_path / "values.npz"), "--cacert", str(signer.file))
    told = ferryman(*words, "--cert", str(certificate), "--key", str(key), "--json")
    assert (told.returncode, told.stderr) == (0, "")
    told = ferryman(*words)
    assert told.returncode == 1 and "hint: it may want a client certificate: --cert FILE --key FILE" in told.stderr


@pytest.mark.parametrize("text", ["", "two words", "fm_\u00fc", "one\ntwo"])
def test_a_file_that_holds_no_key_is_refused_before_anybody_is_asked(text: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text, encoding="utf-8")
    told = ferryman("rollout", "status", "--key-file", str(tmp_path / "key"))
    assert told.returncode == 2 and "holds no key" in told.stderr

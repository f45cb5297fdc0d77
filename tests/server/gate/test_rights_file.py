"""What the owners of client certificates may stands in a file, which a running server follows."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from ferryman.core.errors import ConfigError, Forbidden
from ferryman.server.data.gate.certificates import Certificates
from ferryman.server.data.gate.gate import Callers, Gate
from ferryman.server.data.gate.rights_file import follow_rights, read_rights
from tests.bundle.making import bundle_affine, bundle_table
from tests.server.gate.test_certificates import NO_HEADER, made
from tests.server.running import refusal, running, wait_until
from tests.server.test_tls_and_keys import AFFINE, TABLE, Guarded, authority

CAMERA = '["camera-3"]\nscopes = ["infer"]\nmodels = ["aff*"]\n'
OPERATOR = '["operator"]\nscopes = ["infer", "read", "admin"]\nrate_per_s = 1000\n'
OTHERS = '["*"]\nscopes = ["read"]\n'
LOAD = "/v2/repository/models/affine/load"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[tuple[Guarded, Path]]:
    folder = tmp_path
    signer = authority(folder / "tls")
    certificate, key = signer.issue("localhost", to="server")
    rights = folder / "rights.toml"
    rights.write_text(CAMERA + OPERATOR)
    bundles = [bundle_affine(folder / "affine").path, bundle_table(folder / "table").path]
    with running(
        bundles, tls_cert=certificate, tls_key=key, client_ca=signer.file, client_rights=rights, access_log="-"
    ) as server:
        yield Guarded(server, signer, folder / "none.json", {}), rights


def owner(house: tuple[Guarded, Path], name: str) -> Guarded:
    guarded, _ = house
    return Guarded(guarded.server, guarded.authority, guarded.keys, {}, guarded.authority.issue(name))


def test_a_name_has_the_rights_of_its_table_over_both_protocols(house: tuple[Guarded, Path]) -> None:
    camera = owner(house, "camera-3")
    assert (camera.status("affine", AFFINE), camera.call()) == (200, grpc.StatusCode.OK)
    assert camera.status("table", TABLE) == 403
    assert camera.call(model="table") is grpc.StatusCode.PERMISSION_DENIED
    assert camera.ask("POST", LOAD, {})[0] == 403
    assert camera.call(load=True) is grpc.StatusCode.PERMISSION_DENIED
    operator = owner(house, "operator")
    assert operator.ask("POST", LOAD, {})[0] == 200
    assert operator.call(load=True) is grpc.StatusCode.OK


def test_who_is_not_in_the_file_is_refused_until_it_says_what_all_others_may(house: tuple[Guarded, Path]) -> None:
    stranger, (guarded, rights) = owner(house, "camera-4"), house
    status, answer, _ = stranger.ask("GET", "/v2/models/affine")
    assert (status, answer["error"].startswith("the certificate of 'camera-4' is not known here")) == (403, True)
    assert stranger.call() is grpc.StatusCode.PERMISSION_DENIED
    rights.write_text(CAMERA + OPERATOR + OTHERS)
    wait_until(lambda: stranger.ask("GET", "/v2/models/affine")[0] == 200)
    assert stranger.status("affine", AFFINE) == 403, "it may read, and nothing else"
    rights.write_text('["camera-4"\n')
    wait_until(lambda: "what was good before stays good" in guarded.server.log())
    assert stranger.ask("GET", "/v2/models/affine")[0] == 200
    rights.write_text(CAMERA + '["camera-4"]\n')
    wait_until(lambda: stranger.call() is grpc.StatusCode.OK)
    assert owner(house, "operator").status("affine", AFFINE) == 403, "its rights were taken away"


def test_a_connection_that_is_open_goes_by_the_new_rights(tmp_path: Path) -> None:
    file = tmp_path / "rights.toml"
    file.write_text('["cam-3"]\n')
    certificates = Certificates()
    followed = follow_rights(file, certificates)
    gate, shown = Gate(Callers(certificates=certificates)), made()
    gate.admit(NO_HEADER, "street", "infer", "", shown)
    file.write_text('["cam-3"]\nscopes = ["read"]\n')
    followed.look()
    with pytest.raises(Forbidden):
        gate.admit(NO_HEADER, "street", "infer", "", shown)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["a"]\nscope = ["infer"]\n', "'a.scope' is not known; did you mean 'scopes'\\? \\(known: scopes, models,"),
        ('["a"]\nwho = 1\n', "'a.who' is not known \\(known"),
        ('["a"]\nscopes = ["all"]\n', "a.scopes.0"),
        ('["a"]\nburst = 3\n', "a: a burst needs a rate"),
        ("[a.example]\nscopes = []\n", "a.example"),
        ("[a", "can't be read"),
        ("a = 3\n", "a: Input should be"),
        ('["cam.lan"]\n["CAM.lan"]\n', "two tables for one name"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place_and_the_form(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "rights.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_rights(file)
    assert '["NAME"]' in caught.value.hint


def test_rights_that_nobody_could_have_stop_the_start(tmp_path: Path) -> None:
    bundle = bundle_affine(tmp_path / "affine").path
    code, words = refusal([bundle], client_rights=tmp_path / "rights.toml")
    assert (code, "add --client-ca" in words) == (2, True)

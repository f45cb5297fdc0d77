import pytest

from ferryman.core.errors import Forbidden, RateLimited, Unauthorized
from ferryman.server.data.gate.certificates import CertificateRights, Certificates, CertificateSettings
from ferryman.server.data.gate.gate import Callers, Certificate, Gate
from ferryman.server.data.gate.rates import Limit

NO_HEADER = dict[bytes, bytes]().get


def made(*, serial: str = "01", cn: str = "cam-3", names: tuple[tuple[str, str], ...] = ()) -> Certificate:
    """Give a certificate as the ssl module tells it."""
    return {
        "subject": ((("organizationName", "Example"),), (("commonName", cn),)) if cn else (),
        "issuer": ((("commonName", "Our CA"),),),
        "serialNumber": serial,
        "notAfter": "Jan  5 09:34:43 2040 GMT",
        "subjectAltName": names,
    }


@pytest.mark.parametrize(
    ("certificate", "caller"),
    [
        (made(), "certificate:cam-3"),
        (made(names=(("DNS", "cam-3.example"),)), "certificate:cam-3.example"),
        (
            made(names=(("DNS", "cam-3.example"), ("URI", "spiffe://example/cam-3"))),
            "certificate:spiffe://example/cam-3",
        ),
    ],
)
def test_a_certificate_tells_its_most_telling_name(certificate: Certificate, caller: str) -> None:
    gate = Gate(Callers(certificates=Certificates(CertificateSettings())))
    assert gate.admit(NO_HEADER, "street", "infer", "", certificate).id == caller


def test_without_a_certificate_nobody_comes_in_and_one_without_a_name_is_no_better() -> None:
    gate = Gate(Callers(certificates=Certificates(CertificateSettings())))
    for certificate in (None, made(cn="")):
        with pytest.raises(Unauthorized):
            gate.admit(NO_HEADER, "street", "infer", "", certificate)


def test_a_mapping_says_who_may_what_and_how_often_and_nobody_else_may() -> None:
    rights = {"cam-3": CertificateRights(frozenset({"infer"}), ("street",), Limit(1, 1))}
    gate = Gate(Callers(certificates=Certificates(CertificateSettings(rights, None))), clock=lambda: 5.0)
    gate.admit(NO_HEADER, "street", "infer", "", made(names=(("URI", "spiffe://x"), ("DNS", "cam-3"))))
    with pytest.raises(RateLimited):
        gate.admit(NO_HEADER, "street", "infer", "", made(serial="02"))
    with pytest.raises(Forbidden):
        gate.admit(NO_HEADER, "table", "infer", "", made())
    with pytest.raises(Forbidden):
        gate.admit(NO_HEADER, "street", "read", "", made())
    with pytest.raises(Forbidden, match="not known"):
        gate.admit(NO_HEADER, "street", "infer", "", made(serial="03", cn="cam-4"))


def test_a_certificate_that_ends_while_its_connection_lives_is_refused() -> None:
    now_s = [2_000_000_000.0]
    gate = Gate(Callers(certificates=Certificates(CertificateSettings())), unix_s=lambda: now_s[0])
    gate.admit(NO_HEADER, "street", "infer", "", made())
    now_s[0] = 2_300_000_000.0
    with pytest.raises(Unauthorized, match="expired"):
        gate.admit(NO_HEADER, "street", "infer", "", made())


def test_two_certificates_of_one_serial_number_have_rights_of_their_own() -> None:
    rights = {"ops": CertificateRights(frozenset({"infer", "admin"})), "cam-3": CertificateRights(frozenset({"infer"}))}
    gate = Gate(Callers(certificates=Certificates(CertificateSettings(rights, None))))
    assert gate.admit(NO_HEADER, None, "control", "", made(cn="ops")).id == "certificate:ops"
    for camera in (made(cn="cam-3"), made(cn="ops", names=(("DNS", "cam-3"),))):
        assert gate.admit(NO_HEADER, "street", "infer", "", camera).id == "certificate:cam-3"
        with pytest.raises(Forbidden):
            gate.admit(NO_HEADER, None, "control", "", camera)


def test_a_common_name_counts_only_where_there_is_no_other() -> None:
    rights = {"ops": CertificateRights(frozenset({"infer", "admin"}))}
    gate = Gate(Callers(certificates=Certificates(CertificateSettings(rights))))
    camera = made(cn="ops", names=(("DNS", "cam-3"),))
    assert gate.admit(NO_HEADER, "street", "infer", "", camera).id == "certificate:cam-3"
    with pytest.raises(Forbidden):
        gate.admit(NO_HEADER, None, "control", "", camera)
    only_an_address = made(cn="ops", names=(("IP Address", "192.0.2.1"),))
    assert gate.admit(NO_HEADER, None, "control", "", only_an_address).id == "certificate:ops"


@pytest.mark.parametrize("table", ["cam-3.lan", "Cam-3.LAN"])
def test_a_dns_name_has_no_case_and_other_names_do(table: str) -> None:
    gate = Gate(
        Callers(certificates=Certificates(CertificateSettings({table: CertificateRights(frozenset({"read"}))})))
    )
    for name in ("cam-3.lan", "CAM-3.lan"):
        camera = made(names=(("DNS", name),))
        assert gate.admit(NO_HEADER, None, "read", "", camera).id == "certificate:cam-3.lan"
        with pytest.raises(Forbidden):
            gate.admit(NO_HEADER, "street", "infer", "", camera)
    assert gate.admit(NO_HEADER, "street", "infer", "", made(names=(("URI", "CAM-3.lan"),))).id.endswith("CAM-3.lan")

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ferryman.core.errors import ConfigError, Forbidden, NotReady, RateLimited, Unauthorized
from ferryman.server.data.gate.gate import Callers, Gate
from ferryman.server.data.gate.jwks import JwksSettings
from ferryman.server.data.gate.jwt_file import read_jwt_settings
from ferryman.server.data.gate.rates import Limit
from ferryman.server.data.gate.tokens import JwtSettings, JwtVerifier
from tests.server.gate.issuing import (
    AUDIENCE,
    EC_KEY,
    ED_KEY,
    ISSUER,
    OTHER_RSA_KEY,
    RSA_KEY,
    certificate,
    key_set,
    serving,
    token,
)  # fmt: skip

DEADLINE_S = 10.0


def settings(location: Path | str) -> JwtSettings:
    return JwtSettings(ISSUER, AUDIENCE, JwksSettings(str(location), refresh_s=0.05, least_s=0.02))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(one=RSA_KEY, two=EC_KEY, three=ED_KEY))
    return path


def is_good(verifier: JwtVerifier, text: bytes) -> bool:
    try:
        verifier.find(text)
    except (Unauthorized, NotReady):
        return False
    return True


def until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(RSA_KEY, "RS256", "one"), (RSA_KEY, "PS256", "one"), (EC_KEY, "ES256", "two"), (ED_KEY, "EdDSA", "three")],
)
def test_a_good_token_tells_its_subject_and_scopes(file: Path, key: object, algorithm: str, kid: str) -> None:
    text = token(key, algorithm, kid=kid, scope="infer email")
    gate = Gate(Callers(tokens=JwtVerifier(settings(file))))
    header = {b"authorization": b"Bearer " + text}.get
    assert (gate.admit(header, "street", "infer").id, gate.admit(header, "street", "infer").kind) == (
        "jwt:alice",
        "jwt",
    )
    with pytest.raises(Forbidden):
        gate.admit(header, "street", "read")


@pytest.mark.parametrize(
    "text",
    [
        token(OTHER_RSA_KEY),
        token(algorithm="RS512"),
        token(EC_KEY, "ES256", kid="one"),
        token(iss="https://other.example"),
        token(aud="another"),
        token(exp=None),
        token(exp=time.time() - 60),
        token(nbf=time.time() + 86400),
        token(sub=None),
        token(sub=7),
        token()[:-4] + b"AAAA",
        token("", "none"),
        b"a.b.c",
        b"\xff.\xff.\xff",
        b"",
        token(sub="a" * 9000),
    ],
)
def test_a_token_that_is_not_wholly_good_is_refused_and_not_quoted(file: Path, text: bytes) -> None:
    with pytest.raises(Unauthorized) as refused:
        JwtVerifier(settings(file)).find(text)
    assert not text or text.decode("latin-1") not in str(refused.value)
    assert "alice" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        (token(aud="another"), "for another audience", f"here it is '{AUDIENCE}'"),
        (token(iss="https://other.example"), "from another issuer", f"here it is '{ISSUER}'"),
        (token(exp=None), "lacks the claim 'exp'", "ask its issuer"),
    ],
)
def test_a_well_signed_token_that_is_not_for_here_is_told_what_is(
    file: Path, text: bytes, words: str, hint: str
) -> None:
    with pytest.raises(Unauthorized, match=words) as refused:
        JwtVerifier(settings(file)).find(text)
    assert hint in refused.value.hint


def test_a_public_key_is_no_secret_to_sign_with(file: Path) -> None:
    public = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def encoded(text: bytes) -> bytes:
        return base64.urlsafe_b64encode(text).rstrip(b"=")

    body = token().split(b".")[1]
    head = encoded(json.dumps({"alg": "HS256", "kid": "one"}).encode())
    forged = b".".join((head, body, encoded(hmac.new(public, head + b"." + body, hashlib.sha256).digest())))
    with pytest.raises(Unauthorized):
        JwtVerifier(settings(file)).find(forged)


@pytest.mark.parametrize("algorithms", [("none",), ("RS256", "HS256"), ()])
def test_settings_with_an_algorithm_that_proves_nothing_are_refused(file: Path, algorithms: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        replace(settings(file), algorithms=algorithms)


def test_a_remembered_token_ends_when_it_says(file: Path) -> None:
    text = token(exp=time.time() + 100)
    clock = [time.time()]
    gate = Gate(Callers(tokens=JwtVerifier(settings(file))), unix_s=lambda: clock[0])
    header = {b"authorization": b"Bearer " + text}.get
    gate.admit(header, "street", "infer")
    clock[0] += 131  # the leeway is over, too
    with pytest.raises(Unauthorized, match="expired"):
        gate.admit(header, "street", "infer")


def test_claims_say_which_models_and_settings_how_often(file: Path) -> None:
    held = replace(settings(file), models_claim="models", scopes_claim="scp", scope_prefix="fm:", limit=Limit(1, 2))
    gate = Gate(Callers(tokens=JwtVerifier(held)), clock=lambda: 5.0)
    header = {b"authorization": b"Bearer " + token(models=["street-*"], scp=["fm:infer", "read"])}.get
    gate.admit(header, "street-1", "infer")
    with pytest.raises(Forbidden):
        gate.admit(header, "table", "infer")
    with pytest.raises(Forbidden):
        gate.admit(header, "street-1", "read")
    same_subject = {b"authorization": b"Bearer " + token(models=["*"], scp="fm:infer")}.get
    gate.admit(same_subject, "table", "infer")
    with pytest.raises(RateLimited):
        gate.admit(header, "street-1", "infer")
    nowhere = {b"authorization": b"Bearer " + token(scp="fm:infer", sub="bob")}.get
    with pytest.raises(Forbidden):
        gate.admit(nowhere, "street-1", "infer")


def test_keys_are_fetched_over_tls_and_a_new_one_is_found_when_a_token_names_it(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    with serving(key_set(one=RSA_KEY), pem) as issuer:
        held = replace(settings(""), jwks=JwksSettings(issuer.url, refresh_s=3600, least_s=0.02, ca_file=pem))
        verifier = JwtVerifier(held)
        with pytest.raises(NotReady):
            verifier.find(token())
        verifier.start()
        until(lambda: is_good(verifier, token()))
        new = token(OTHER_RSA_KEY, kid="new")
        assert not is_good(verifier, new)
        issuer.body = key_set(new=OTHER_RSA_KEY)
        until(lambda: is_good(verifier, new))
        assert not is_good(verifier, token())  # its key was taken away: what was remembered is forgotten
        verifier.close()


def test_unknown_keys_do_not_make_the_issuer_suffer(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    with serving(key_set(one=RSA_KEY), pem) as issuer:
        held = replace(settings(""), jwks=JwksSettings(issuer.url, refresh_s=3600, least_s=3600, ca_file=pem))
        verifier = JwtVerifier(held)
        verifier.start()
        until(lambda: is_good(verifier, token()))
        for number in range(50):
            with pytest.raises((Unauthorized, NotReady)):
                verifier.find(token(kid=str(number)))
        assert issuer.asked == 1
        verifier.close()


def test_keys_stay_while_the_issuer_fails(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    with serving(key_set(one=RSA_KEY), pem) as issuer:
        verifier = JwtVerifier(replace(settings(""), jwks=JwksSettings(issuer.url, 0.02, 0.02, ca_file=pem)))
        verifier.start()
        until(lambda: is_good(verifier, token()))
        for body in (b"", b"{}", b'{"keys": []}', b'{"keys": [{"kty": "oct", "k": "AAAA"}]}', b"x" * 2_000_000):
            issuer.body = body
            asked = issuer.asked
            until(lambda asked=asked: issuer.asked > asked + 1)  # type: ignore[misc] # a lambda's default
            assert is_good(verifier, token())
        issuer.body, issuer.elsewhere = b"", "http://127.0.0.1:9/"
        asked = issuer.asked
        until(lambda: issuer.asked > asked + 1)
        assert is_good(verifier, token())
        verifier.close()


def test_an_issuer_whose_certificate_is_not_trusted_gives_no_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(key_set(one=RSA_KEY), certificate(tmp_path)) as issuer:
        verifier = JwtVerifier(settings(issuer.url))
        verifier.start()
        until(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
        assert not is_good(verifier, token())
        verifier.close()


@pytest.mark.parametrize("location", ["http://issuer.example/keys", "ftp://127.0.0.1/keys", "file:///etc/passwd"])
def test_an_address_that_others_could_answer_is_refused(location: str) -> None:
    with pytest.raises(ConfigError, match="could be changed"):
        JwtVerifier(settings(location))


def test_a_file_without_keys_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    for text in ("", "[]", '{"keys": [{"kty": "oct", "k": "AAAA", "kid": "one"}]}'):
        path.write_text(text)
        with pytest.raises(ConfigError):
            JwtVerifier(settings(path))


def test_a_token_without_a_key_id_is_checked_with_the_only_key(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(one=RSA_KEY))
    assert is_good(JwtVerifier(settings(path)), token(kid=None))
    path.write_bytes(key_set(one=RSA_KEY, two=EC_KEY))
    assert not is_good(JwtVerifier(settings(path)), token(kid=None))


def test_settings_are_read_from_a_file_beside_its_keys(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "jwt.toml"
    path.write_text(f'issuer = "{ISSUER}"\naudience = "{AUDIENCE}"\njwks = "{file.name}"\nrate_per_s = 2\nburst = 3')
    held = read_jwt_settings(path)
    assert held.limit == Limit(2, 3)
    assert is_good(JwtVerifier(held), token())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "issuer",
        'issuer = ""',
        'issuer = "a"\naudience = "b"\njwks = "c"\nauth = 1',
        'algorithms = ["none"]',
        "\xff",
    ],
)
def test_a_file_of_settings_that_is_not_as_it_should_be_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "jwt.toml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"jwt\.toml"):
        read_jwt_settings(path)
    with pytest.raises(ConfigError, match="there is no"):
        read_jwt_settings(tmp_path / "nowhere.toml")


def test_a_setting_that_is_not_known_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "jwt.toml"
    path.write_text('issuer = "a"\naudiense = "b"\njwks = "c"\n')
    with pytest.raises(
        ConfigError, match=r"'audiense' is not known; did you mean 'audience'\? \(known: issuer, audience"
    ):
        read_jwt_settings(path)

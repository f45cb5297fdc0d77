from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ferryman.core.errors import Forbidden, RateLimited, Unauthorized
from ferryman.server.data.gate.caller import Action, Caller
from ferryman.server.data.gate.certificates import Certificates
from ferryman.server.data.gate.gate import Callers, Gate, Headers
from ferryman.server.data.gate.key_file import KeyFile, write_keys
from ferryman.server.data.gate.key_store import KeyStore
from ferryman.server.data.gate.keys import Wish, add
from ferryman.server.data.gate.rates import Limit

NOTHING: dict[bytes, bytes] = {}


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def bearer(token: str) -> Headers:
    return {b"authorization": b"Bearer " + token.encode()}.get


def keyed(folder: Path, *wishes: Wish) -> tuple[Callers, list[str]]:
    file, tokens = KeyFile(), []
    for wish in wishes:
        made = add(file, wish)
        file = made.file
        tokens.append(made.token)
    write_keys(folder / "keys.json", file)
    return Callers(keys=KeyStore(folder / "keys.json")), tokens


def test_with_nothing_configured_everyone_may_infer_and_read_but_not_control() -> None:
    gate = Gate()
    assert gate.admit(NOTHING.get, "street", "infer") == Caller("anonymous", "anonymous")
    assert gate.admit(bearer("of another server"), None, "read").kind == "anonymous"
    with pytest.raises(Forbidden):
        gate.admit(NOTHING.get, "street", "control")


def test_the_admins_gate_lets_control_where_nothing_is_configured() -> None:
    assert Gate(open_control=True).admit(NOTHING.get, None, "control").kind == "anonymous"


def test_the_admins_gate_asks_for_a_key_where_keys_are_configured(tmp_path: Path) -> None:
    callers, (token,) = keyed(tmp_path, Wish("ops", scopes=("admin",)))
    gate = Gate(callers, open_control=True)
    with pytest.raises(Unauthorized):
        gate.admit(NOTHING.get, None, "control")
    assert gate.admit(bearer(token), None, "control").id == "key:ops"


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key"])
def test_a_key_opens_the_gate_in_either_header(tmp_path: Path, name: bytes) -> None:
    callers, (token,) = keyed(tmp_path, Wish("web"))
    value = {b"authorization": b"bEARER  " + token.encode(), b"x-api-key": token.encode()}[name]
    assert Gate(callers).admit({name: value}.get, "street", "infer") == Caller("key:web", "key")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic d2ViOndlYg==",
        b"Bearer fm_",
        b"Bearer fm_000000000000_",
        b"Bearer " + b"x" * 9999,
    ],
)
def test_what_is_no_key_is_refused(tmp_path: Path, value: bytes) -> None:
    callers, _ = keyed(tmp_path, Wish("web"))
    with pytest.raises(Unauthorized):
        Gate(callers).admit({b"authorization": value}.get, "street", "infer")


def test_every_single_changed_character_of_a_token_is_refused(tmp_path: Path) -> None:
    callers, (token,) = keyed(tmp_path, Wish("web"))
    gate = Gate(callers)
    for place in range(len(token)):
        other = "0" if token[place] != "0" else "1"
        with pytest.raises(Unauthorized):
            gate.admit(bearer(token[:place] + other + token[place + 1 :]), "street", "infer")
    for wrong in (token[:-1], token + "0"):
        with pytest.raises(Unauthorized):
            gate.admit(bearer(wrong), "street", "infer")


def test_who_says_nothing_is_refused_where_keys_are_configured(tmp_path: Path) -> None:
    callers, _ = keyed(tmp_path, Wish("web"))
    actions: tuple[Action, ...] = ("infer", "read", "control")
    for action in actions:
        with pytest.raises(Unauthorized):
            Gate(callers).admit(NOTHING.get, "street", action)


def test_who_says_nothing_may_what_the_settings_allow_and_no_more(tmp_path: Path) -> None:
    callers, _ = keyed(tmp_path, Wish("web"))
    gate = Gate(replace(callers, anonymous_scopes=frozenset({"read"})))
    assert gate.admit(NOTHING.get, "street", "read").kind == "anonymous"
    with pytest.raises(Unauthorized):
        gate.admit(NOTHING.get, "street", "infer")


def test_a_key_reaches_its_models_only(tmp_path: Path) -> None:
    callers, (token,) = keyed(tmp_path, Wish("web", scopes=("infer", "admin"), models=("street-*", "table")))
    gate = Gate(callers)
    for model in ("street-1", "street-", "table"):
        gate.admit(bearer(token), model, "infer")
    for model in ("street", "Table", "tables", "table\n", "x-street-1", ""):
        with pytest.raises(Forbidden):
            gate.admit(bearer(token), model, "infer")
    gate.admit(bearer(token), "table", "control")
    with pytest.raises(Forbidden, match="only the models street-\\*, table"):
        gate.admit(bearer(token), None, "control")


@pytest.mark.parametrize(("action", "scope"), [("infer", "infer"), ("read", "read"), ("control", "admin")])
def test_each_action_takes_its_own_scope(tmp_path: Path, action: Action, scope: str) -> None:
    wishes = [Wish("infer", scopes=("infer",)), Wish("read", scopes=("read",)), Wish("admin", scopes=("admin",))]
    callers, tokens = keyed(tmp_path, *wishes)
    gate = Gate(callers)
    for wish, token in zip(wishes, tokens, strict=True):
        if wish.name == scope:
            gate.admit(bearer(token), "street", action)
        else:
            with pytest.raises(Forbidden, match=f"scope|may not {action}"):
                gate.admit(bearer(token), "street", action)


def test_a_key_ends_when_it_was_to(tmp_path: Path) -> None:
    callers, (token,) = keyed(tmp_path, Wish("web", expires_in=timedelta(hours=1)))
    clock = Clock()
    assert callers.keys is not None
    end_s = callers.keys.find(token.encode()).expires_s
    gate = Gate(callers, unix_s=clock)
    clock.now_s = end_s - 1
    gate.admit(bearer(token), "street", "infer")
    clock.now_s = end_s
    with pytest.raises(Unauthorized, match="expired"):
        gate.admit(bearer(token), "street", "infer")


def test_a_key_has_its_rate_and_others_do_not_feel_it(tmp_path: Path) -> None:
    callers, (slow, other) = keyed(tmp_path, Wish("slow", rate_per_s=2, burst=1), Wish("other"))
    clock = Clock()
    gate = Gate(callers, clock=clock)
    gate.admit(bearer(slow), "street", "infer")
    with pytest.raises(RateLimited) as refused:
        gate.admit(bearer(slow), "street", "infer")
    assert refused.value.retry_after_s == pytest.approx(0.5)
    for _ in range(100):
        gate.admit(bearer(other), "street", "infer")
    clock.now_s += 0.5
    gate.admit(bearer(slow), "street", "infer")


def test_a_refused_caller_does_not_use_up_its_rate(tmp_path: Path) -> None:
    callers, (token,) = keyed(tmp_path, Wish("web", models=("street",), rate_per_s=1, burst=1))
    gate = Gate(callers, clock=Clock())
    with pytest.raises(Forbidden):
        gate.admit(bearer(token), "table", "infer")
    gate.admit(bearer(token), "street", "infer")


def test_each_anonymous_peer_has_a_rate_of_its_own() -> None:
    gate = Gate(Callers(anonymous_limit=Limit(1, 1)), clock=Clock())
    gate.admit(NOTHING.get, "street", "infer", "10.0.0.1")
    gate.admit(NOTHING.get, "street", "infer", "10.0.0.2")
    with pytest.raises(RateLimited):
        gate.admit(NOTHING.get, "street", "infer", "10.0.0.1")


def test_a_credential_is_known_before_its_model_is_and_takes_nothing_of_its_rate(tmp_path: Path) -> None:
    callers, (token, reader) = keyed(
        tmp_path, Wish("web", models=("street-*",), rate_per_s=1), Wish("dash", scopes=("read",))
    )
    gate = Gate(callers)
    for _ in range(5):
        assert gate.known(bearer(token), "infer").caller.id == "key:web"
    assert gate.admit(bearer(token), "street-1", "infer").id == "key:web"
    with pytest.raises(Forbidden):
        gate.known(bearer(reader), "infer")
    for header in (NOTHING.get, bearer("fm_000000000000_x")):
        with pytest.raises(Unauthorized):
            gate.known(header, "infer")


def test_where_only_certificates_tell_who_calls_the_admins_gate_lets_steer_and_read_but_not_infer() -> None:
    callers = Callers(certificates=Certificates())
    gate = Gate(callers, open_control=True)
    actions: tuple[Action, ...] = ("read", "control")
    for action in actions:
        assert gate.admit(NOTHING.get, "street", action).kind == "anonymous"
    with pytest.raises(Forbidden, match="may not infer here") as refused:
        gate.admit(NOTHING.get, "street", "infer")
    assert "certificate" in refused.value.hint
    with pytest.raises(Unauthorized):
        Gate(callers).admit(NOTHING.get, "street", "read")

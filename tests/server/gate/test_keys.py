import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ferryman.core.errors import ConfigError, Forbidden, RateLimited, Unauthorized
from ferryman.server.data.gate.gate import Callers, Gate
from ferryman.server.data.gate.key_file import KeyFile, locked, parse_keys, read_keys, write_keys
from ferryman.server.data.gate.key_store import KeyStore
from ferryman.server.data.gate.keys import Wish, add, revoke, rotate

DEADLINE_S = 10.0
HOUR = timedelta(hours=1)


def until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.005)


def opens(store: KeyStore, token: str) -> bool:
    try:
        store.find(token.encode())
    except Unauthorized:
        return False
    return True


def test_the_file_never_holds_a_token(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made = add(KeyFile(), Wish("web"))
    write_keys(path, made.file)
    text = path.read_text()
    assert made.token not in text and made.token.rpartition("_")[2] not in text
    assert read_keys(path) == made.file


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    os.umask(os.umask(0))
    write_keys(path, add(KeyFile(), Wish("web")).file)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["keys.json"]


def test_a_file_that_everyone_may_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, KeyFile())
    path.chmod(0o644)
    read_keys(path)
    assert "chmod 600" in caplog.text


def test_two_tokens_are_never_alike_and_two_salts_neither() -> None:
    first = add(KeyFile(), Wish("a"))
    second = add(first.file, Wish("b"))
    assert first.token != second.token and first.entry.salt != second.entry.salt
    assert len(first.token) == len(second.token) == 59


def test_a_name_is_taken_until_its_key_has_expired() -> None:
    now = datetime.now(UTC)
    file = add(KeyFile(), Wish("web", expires_in=HOUR), now=now).file
    with pytest.raises(ConfigError, match="already"):
        add(file, Wish("web"), now=now)
    assert len(add(file, Wish("web"), now=now + HOUR).file.keys) == 2


def test_a_rotated_key_keeps_its_rights_and_its_old_token_for_the_grace() -> None:
    now = datetime.now(UTC)
    old = add(KeyFile(), Wish("web", models=("street",), rate_per_s=5), now=now - HOUR)
    new = rotate(old.file, "web", grace=HOUR, now=now)
    assert [(key.id, key.expires) for key in new.file.keys] == [(old.entry.id, now + HOUR), (new.entry.id, None)]
    assert (new.entry.models, new.entry.rate_per_s, new.entry.scopes) == (("street",), 5, old.entry.scopes)
    again = rotate(new.file, "web", grace=2 * HOUR, now=now + HOUR / 2)
    assert again.file.keys[0].expires == now + HOUR  # a second rotation doesn't lengthen the first one's grace
    last = rotate(again.file, "web", grace=HOUR, now=now + 5 * HOUR)
    assert [key.id for key in last.file.keys] == [again.entry.id, last.entry.id]


def test_a_revoked_name_leaves_with_all_its_keys() -> None:
    file = rotate(add(KeyFile(), Wish("web")).file, "web", grace=HOUR).file
    kept, gone = revoke(add(file, Wish("other")).file, "web")
    assert [key.name for key in kept.keys] == ["other"] and len(gone) == 2
    with pytest.raises(ConfigError, match="no key 'web'"):
        revoke(kept, "web")


def test_commands_at_the_same_time_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    write_keys(path, KeyFile())

    def add_one(number: int) -> None:
        with locked(path):
            write_keys(path, add(read_keys(path), Wish(f"key-{number}")).file)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add_one, range(24)))
    assert len(read_keys(path).keys) == 24


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.update(version=2),
        lambda raw: raw.update(keyz=[]),
        lambda raw: raw["keys"][0].update(scopes=["everything"]),
        lambda raw: raw["keys"][0].update(scopes=[]),
        lambda raw: raw["keys"][0].update(sha256="00"),
        lambda raw: raw["keys"][0].update(rate_per_s=0),
        lambda raw: raw["keys"][0].update(burst=3),
        lambda raw: raw["keys"][0].update(created="2026-01-01T00:00:00"),
        lambda raw: raw["keys"].append(raw["keys"][0]),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_and_its_digests_are_not_told(
    change: Callable[[object], None],
) -> None:
    entry = add(KeyFile(), Wish("web")).entry
    raw = json.loads(KeyFile(keys=(entry,)).model_dump_json())
    change(raw)
    with pytest.raises(ConfigError, match="is no file of keys") as refused:
        parse_keys(json.dumps(raw).encode(), origin="keys.json")
    assert entry.sha256 not in str(refused.value) and entry.salt not in str(refused.value)


def test_a_token_that_was_put_into_the_file_is_not_told() -> None:
    token = add(KeyFile(), Wish("web")).token
    for text in (f'{{"{token}": 1}}', token, f'{{"version": "{token}"}}', f'{{"keys": ["{token}"]}}'):
        with pytest.raises(ConfigError) as refused:
            parse_keys(text.encode(), origin="keys.json")
        assert token not in str(refused.value)


def test_a_new_key_is_known_and_a_revoked_one_is_not_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old = add(KeyFile(), Wish("old"))
    write_keys(path, old.file)
    store = KeyStore(path, poll_s=0.01)
    callers = Callers(keys=store)
    callers.start()
    try:
        new = add(old.file, Wish("new"))
        assert opens(store, old.token) and not opens(store, new.token)
        write_keys(path, new.file)
        until(lambda: opens(store, new.token))
        assert opens(store, old.token)
        write_keys(path, revoke(new.file, "old")[0])
        until(lambda: not opens(store, old.token))
        assert opens(store, new.token)
    finally:
        callers.close()


@pytest.mark.parametrize("text", ["", "{", '{"version": 1, "keys": [{}]}', "\xff"])
def test_a_half_written_file_keeps_the_old_keys_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    path = tmp_path / "keys.json"
    made = add(KeyFile(), Wish("web"))
    write_keys(path, made.file)
    store = KeyStore(path)
    path.write_text(text, encoding="latin-1")
    store.look()
    store.look()
    assert opens(store, made.token)
    assert caplog.text.count("what was good before stays good") == 1
    write_keys(path, KeyFile())
    store.look()
    assert not opens(store, made.token)


def test_a_file_that_is_gone_keeps_the_old_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    made = add(KeyFile(), Wish("web"))
    write_keys(path, made.file)
    store = KeyStore(path)
    path.unlink()
    store.look()
    assert opens(store, made.token)


def test_no_secret_is_in_any_log_error_or_repr(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = tmp_path / "keys.json"
    made = add(KeyFile(), Wish("web", models=("street",), rate_per_s=0.001, burst=1))
    write_keys(path, made.file)
    store = KeyStore(path)
    gate = Gate(Callers(keys=store))
    header = {b"authorization": b"Bearer " + made.token.encode()}.get
    wrong = {b"authorization": b"Bearer " + made.token[:-1].encode() + b"!"}.get
    told = [repr(made), repr(made.file), repr(made.entry), str(made.entry), repr(store), repr(gate)]
    told.append(repr(store.find(made.token.encode())))
    told.append(repr(gate.admit(header, "street", "infer")))
    for headers, model in ((header, "street"), (header, "table"), (wrong, "street")):
        with pytest.raises((RateLimited, Forbidden, Unauthorized)) as refused:
            gate.admit(headers, model, "infer")
        told.append(repr(refused.value) + getattr(refused.value, "hint", ""))
    path.write_text(made.token)
    store.look()
    everything = "\n".join([*told, caplog.text])
    assert "what was good before stays good" in everything
    for secret in (made.token, made.token.rpartition("_")[2], made.token[16:58], made.entry.sha256, made.entry.salt):
        assert secret not in everything

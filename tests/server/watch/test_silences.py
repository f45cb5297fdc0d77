"""Alerts are muted from outside, by whom and why is told, and no kill or restart forgets it."""

import json
import os
import signal
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from ferryman.cli.main import main
from tests.server.running import Running, read_answer, running, wait_until
from tests.server.watch.making import bundle_watched, make_rows
from tests.server.watch.test_watch import ask, find_watch, send

WINDOW = {"from": "00:00", "to": "24:00", "models": ["nobody"], "why": "cleaning"}
SETTINGS: dict[str, Any] = {"monitor": {"cost": 1.0, "alerts": {"maintenance": [WINDOW]}}}
GOOD = {"matchers": {"rule": "disk"}, "for_s": 60, "comment": "known"}


def call(server: Running, method: str, path: str, told: object = None) -> tuple[int, Any]:
    connection = HTTPConnection(server.admin_url.removeprefix("http://"), timeout=30)
    try:
        body = None if told is None else told if isinstance(told, bytes) else json.dumps(told).encode()
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return read_answer(connection.getresponse())[:2]
    finally:
        connection.close()


def silences(server: Running) -> list[dict[str, Any]]:
    """Give the silences, as soon as the watch answers."""
    found: list[dict[str, Any]] = []

    def answered() -> bool:
        status, told = ask(server, "/v1/monitor/silences")
        found[:] = told["silences"] if status == 200 else []
        return status == 200

    wait_until(answered)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("silences")
    with running([bundle_watched(folder / "bundle", **SETTINGS).path], admin_port=0) as running_server:
        wait_until(lambda: ask(running_server, "/v1/monitor")[0] == 200)
        yield running_server


def test_a_silence_mutes_an_alert_and_outlives_a_kill_and_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, kept = bundle_watched(tmp_path / "bundle", **SETTINGS), tmp_path / "kept"
    with running([bundle.path], admin_port=0, monitor=kept) as server:
        wait_until(lambda: ask(server, "/v1/monitor")[0] == 200)
        words = ["--rule", "drift", "--model", "tab*", "--for", "2h", "--why", "a new lens"]
        assert main(["monitor", "silence", server.admin_url, *words, "--json"]) == 0
        made = json.loads(capsys.readouterr().out)
        assert made["matchers"] == {"rule": "drift", "model": "tab*"}
        assert made["until_s"] - made["made_s"] == pytest.approx(7200)
        send(server, make_rows(900, seed=3, shift=2.5))
        wait_until(lambda: any(
            (alert["rule"], alert["state"], alert["muted"]) == ("drift", "firing", f"silence {made['id']}")
            for alert in ask(server, "/v1/monitor/alerts")[1]
        ))  # fmt: skip
        os.kill(find_watch(server), signal.SIGKILL)
        assert silences(server) == [made]
        server.stop()
    with running([bundle.path], admin_port=0, monitor=kept) as server:
        wait_until(lambda: ask(server, "/v1/monitor")[0] == 200)
        assert silences(server) == [made]
        assert main(["monitor", "silences", server.admin_url]) == 0
        listed, window = capsys.readouterr().out.splitlines()
        assert listed.startswith(f"{made['id']}  rule=drift model=tab* until 20") and "a new lens" in listed
        assert window == "maintenance  model=nobody 00:00 to 24:00 UTC (now), cleaning"
        assert main(["monitor", "unsilence", server.admin_url, made["id"]]) == 0
        assert capsys.readouterr().out.startswith(f"ended {made['id']}: rule=drift model=tab*")
        assert silences(server) == []
        assert main(["monitor", "unsilence", server.admin_url, made["id"]]) != 0
        assert f"there is no silence '{made['id']}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({**GOOD, "matchers": {}}, "would mute every alert"),
        ({**GOOD, "matchers": {"host": "a"}}, "an alert has no 'host'"),
        ({**GOOD, "matchers": {"rule": 1}}, "key 'matchers' must be an object of texts"),
        ({**GOOD, "for_s": -1}, "ends in the future, within a year"),
        (b'{"matchers": {"rule": "disk"}, "for_s": 1e999, "comment": "x"}', "key 'for_s' must be a number"),
        ({**GOOD, "for_s": True}, "key 'for_s' must be a number"),
        ({**GOOD, "comment": "  "}, "needs an author and a comment"),
        ({**GOOD, "until": 1}, "unknown key 'until'"),
    ],
)
def test_what_is_no_silence_is_refused_by_name(server: Running, told: object, said: str) -> None:
    status, answer = call(server, "POST", "/v1/monitor/silences", told)
    assert (status, said in answer["error"]) == (400, True), answer


def test_what_is_answered_is_what_the_description_says(server: Running) -> None:
    described = ask(server, "/v1/monitor/openapi.json")[1]
    path = described["paths"]["/v1/monitor/silences"]
    components = {"components": described["components"]}
    taken = path["post"]["requestBody"]["content"]["application/json"]["schema"]
    jsonschema_rs.validator_for(taken).validate(GOOD)
    status, made = call(server, "POST", "/v1/monitor/silences", GOOD)
    assert (status, made["author"]) == (201, "anonymous")
    schema = path["post"]["responses"]["201"]["content"]["application/json"]["schema"]
    jsonschema_rs.validator_for({**schema, **components}).validate(made)
    schema = path["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema_rs.validator_for({**schema, **components}).validate(ask(server, "/v1/monitor/silences")[1])
    assert call(server, "DELETE", f"/v1/monitor/silences/{made['id']}") == (200, made)
    assert call(server, "DELETE", f"/v1/monitor/silences/{made['id']}")[0] == 404
    assert call(server, "PUT", "/v1/monitor/silences", {})[0] == 405


def test_the_public_port_has_no_silences(server: Running) -> None:
    assert server.ask("GET", "/v1/monitor/silences")[0] == 404


def test_the_verb_says_what_a_silence_needs(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "silence", server.admin_url, "--rule", "drift"]) == 2
    assert "--for 2h" in capsys.readouterr().err
    assert main(["monitor", "unsilence", server.admin_url]) == 2
    assert "ferryman monitor unsilence URL ID" in capsys.readouterr().err

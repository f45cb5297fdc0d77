"""Each kind of receiver against a real one: what arrives, what is retried, and what never shows."""

import hashlib
import hmac
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult

from ferryman.core.alerting import AlertsSection
from ferryman.monitor.alerts.alert import Notice
from ferryman.monitor.notify.receiver import Receiver, Undelivered
from ferryman.monitor.notify.receivers import make_receivers
from tests.monitor.notify.alertmanagers import Mailbox, mail_server
from tests.monitor.notify.telling import alert, notice, receiving

SECRET = "s3cret"


def receiver(said: dict[str, Any], **environment: str) -> Receiver:  # raw TOML
    section = AlertsSection.model_validate({"notify": {"ops": {"timeout_s": 5, **said}}})
    return make_receivers(section, {**os.environ, **environment}, "box-7")["ops"]


def test_a_webhook_gets_json_its_token_and_a_signature() -> None:
    with receiving() as place:
        said = {"kind": "webhook", "url": "env:HOOK", "token": "env:TOKEN", "sign": "env:KEY"}
        hook = receiver(said, HOOK=place.url, TOKEN="tok", KEY="whsec_c2lnbg==")
        hook.send(notice(1, alert(), alert("drift", "resolved")))
    path, headers, body = place.asked[0]
    assert path == "/hook?key=s3cret"
    assert headers["authorization"] == "Bearer tok"
    assert headers["idempotency-key"] == headers["webhook-id"] == body["id"]
    assert (body["version"], body["status"], body["receiver"]) == ("4", "firing", "ops")
    assert [one["status"] for one in body["alerts"]] == ["firing", "resolved"]
    assert body["commonLabels"] == {"instance": "box-7", "model": "street", "severity": "critical", "version": "1"}
    signed = f"{body['id']}.{headers['webhook-timestamp']}.".encode() + json.dumps(body).encode()
    assert b64decode(headers["webhook-signature"].removeprefix("v1,")) == hmac.digest(b"sign", signed, hashlib.sha256)


def test_a_slack_message_shows_signs_as_they_are() -> None:
    with receiving() as place:
        receiver({"kind": "slack", "url": "env:HOOK", "channel": "#ml"}, HOOK=place.url).send(notice())
    body = place.asked[0][2]
    assert body["text"] == "[FIRING 1] street 1: golden samples are answered wrong"
    assert body["attachments"][0]["text"] == "More of it &lt;here&gt; &amp; there."
    assert body["channel"] == "#ml"


def test_an_alertmanager_gets_alerts_that_end_unless_they_come_again() -> None:
    with receiving() as place:
        base = place.url.rpartition("/")[0]
        said = {"kind": "alertmanager", "url": base, "refresh_s": 60}
        receiver(said).send(notice(1, alert(), alert("drift", "resolved")))
    path, _, (firing, over) = place.asked[0]
    assert path == "/api/v2/alerts"
    assert firing["labels"]["alertname"] == "FerrymanGolden"
    assert firing["startsAt"] < over["endsAt"] < firing["endsAt"]


@pytest.mark.parametrize(("status", "is_final"), [(400, True), (401, False), (404, False), (422, True), (500, False)])
def test_a_refusal_is_told_without_the_address(status: int, is_final: bool) -> None:
    with receiving() as place:
        place.status, place.headers = status, {"Retry-After": "7"}
        with pytest.raises(Undelivered) as caught:
            receiver({"kind": "webhook", "url": "env:HOOK"}, HOOK=place.url).send(notice())
    assert (caught.value.is_final, caught.value.retry_after_s) == (is_final, 7)
    assert str(caught.value) == f"127.0.0.1 answers {status}"


def test_a_redirect_is_not_followed_with_a_token() -> None:
    with receiving() as place, receiving() as elsewhere:
        place.status, place.headers = 307, {"Location": elsewhere.url}
        said = {"kind": "webhook", "url": "env:HOOK", "token": "env:TOKEN"}
        with pytest.raises(Undelivered, match="none is followed"):
            receiver(said, HOOK=place.url, TOKEN="tok").send(notice())
    assert elsewhere.asked == []


def test_a_receiver_that_drips_is_given_up_in_time() -> None:
    with receiving() as place:
        place.drips_s = 10
        began_s = time.monotonic()
        with pytest.raises(Undelivered):
            receiver({"kind": "webhook", "url": "env:HOOK", "timeout_s": 0.5}, HOOK=place.url).send(notice())
        assert time.monotonic() - began_s < 3
        place.drips_s = 0.01


@pytest.mark.parametrize(
    ("said", "environment"),
    [
        ({"kind": "webhook", "url": "env:HOOK"}, {"HOOK": "http://127.0.0.1:1/s3cret"}),
        ({"kind": "webhook", "url": "env:HOOK"}, {"HOOK": "http://nowhere.invalid/s3cret"}),
        ({"kind": "webhook", "url": "env:HOOK"}, {"HOOK": "s3cret"}),
        ({"kind": "webhook", "url": "env:HOOK"}, {"HOOK": "http://a:s3cret/"}),
        ({"kind": "webhook", "url": "http://127.0.0.1:1", "token": "env:T"}, {"T": "s3cret\n"}),
        ({"kind": "slack", "url": "env:NOT_SET"}, {}),
        ({"kind": "slack", "url": "file:/nowhere"}, {}),
    ],
)
def test_no_error_tells_a_secret(said: dict[str, str], environment: dict[str, str]) -> None:
    with pytest.raises(Undelivered) as caught:
        receiver(said, **environment).send(notice())
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.__cause__)


def test_a_secret_in_a_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with receiving() as place:
        hook = receiver({"kind": "webhook", "url": "env:HOOK", "token": f"file:{file}"}, HOOK=place.url)
        for token in ("old", "new"):
            file.write_text(f"{token}\n")
            hook.send(notice())
    assert [headers["authorization"] for _, headers, _ in place.asked] == ["Bearer old", "Bearer new"]


def test_a_command_gets_json_and_no_more_than_it_should(tmp_path: Path) -> None:
    said = "[json.load(sys.stdin), sys.argv[1:], dict(os.environ)]"
    script = f"import json, os, sys; json.dump({said}, open(sys.argv[1], 'w'))"
    out = tmp_path / "out"
    command = [sys.executable, "-c", script, str(out), "$(touch x); `id`"]
    receiver({"kind": "command", "command": command, "environment": ["WANTED"]}, WANTED="1", OTHER="2").send(notice())
    body, arguments, environment = json.loads(out.read_text())
    assert body["alerts"][0]["labels"]["alertname"] == "FerrymanGolden"
    assert arguments == [str(out), "$(touch x); `id`"]
    assert environment.get("WANTED") == "1"
    assert "OTHER" not in environment


def test_a_command_that_fails_or_hangs_is_told_and_ended(tmp_path: Path) -> None:
    with pytest.raises(Undelivered, match="exit code 3"):
        receiver({"kind": "command", "command": ["sh", "-c", "cat > /dev/null; exit 3"]}).send(notice())
    with pytest.raises(Undelivered, match="can't be started"):
        receiver({"kind": "command", "command": [str(tmp_path / "none")]}).send(notice())
    began_s, pid = time.monotonic(), tmp_path / "pid"
    hanging = ["sh", "-c", f"sleep 60 & echo $! > {pid}; wait"]
    with pytest.raises(Undelivered, match="longer than"):
        receiver({"kind": "command", "command": hanging, "timeout_s": 0.5}).send(notice())
    assert time.monotonic() - began_s < 5
    deadline_s = time.monotonic() + 5
    while Path(f"/proc/{pid.read_text().strip()}/cwd").exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid.read_text().strip()}/cwd").exists()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*command, *names, *files], check=True, capture_output=True, timeout=60)
    return folder


@contextmanager
def guarded(certificate: Path, security: str) -> Iterator[tuple[Mailbox, int]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")

    def check(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        return AuthResult(success=(given.login, given.password) == (b"jo", b"s3cret"), handled=False)

    options: dict[str, Any] = {"authenticator": check}  # several kinds
    if security == "tls":
        options["ssl_context"] = context
    elif security == "starttls":
        options |= {"tls_context": context, "require_starttls": True, "auth_required": True}
    with mail_server(**options) as found:
        yield found


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_mail_arrives_encrypted_and_in_one_thread(certificate: Path, security: str) -> None:
    login = {"user": "jo", "password": "env:MAIL"} if security == "starttls" else {}
    with guarded(certificate, security) as (box, port):
        said = {
            "kind": "email", "host": "localhost", "port": port, "security": security, "sender": "ferry@example.com",
            "to": ["ops@example.com", "boss@example.com"], "ca": str(certificate / "cert.pem"), **login,
        }  # fmt: skip
        mail = receiver(said, MAIL="s3cret")
        mail.send(notice(1))
        mail.send(notice(2, alert(state="resolved")))
    first, second = box.mails
    assert first["Subject"] == "[FIRING 1] street 1: golden samples are answered wrong"
    assert second["Subject"] == "[RESOLVED] street 1: golden samples are answered wrong"
    assert first["To"] == "ops@example.com, boss@example.com"
    assert first["Message-ID"] == f"<{notice(1).id}.ops@example.com>" != second["Message-ID"]
    assert first["References"] == second["References"]
    assert "FIRING critical: street 1" in str(first.get_payload())
    assert box.encrypted == [security == "starttls"] * 2  # the server doesn't know that it is inside of TLS


def test_mail_goes_to_no_server_that_is_not_believed(certificate: Path) -> None:
    with guarded(certificate, "starttls") as (box, port):
        said = {
            "kind": "email", "host": "localhost", "port": port, "sender": "a@b.c", "to": ["d@e.f"], "user": "jo",
            "password": "env:MAIL",
        }  # fmt: skip
        with pytest.raises(Undelivered, match="is not believed"):
            receiver(said, MAIL="s3cret").send(notice())
        with pytest.raises(Undelivered, match="refuses the login of jo") as caught:
            receiver({**said, "ca": str(certificate / "cert.pem")}, MAIL="wr0ng").send(notice())
    assert "wr0ng" not in str(caught.value)
    assert box.mails == []


def test_a_mail_that_some_addresses_refuse_is_not_told_and_others_get_it_once() -> None:
    with mail_server() as (box, port):
        mail = receiver({
            "kind": "email", "host": "127.0.0.1", "port": port, "security": "none", "sender": "a@b.cd",
            "to": ["gone@b.cd", "here@b.cd"],
        })  # fmt: skip
        for _ in range(3):
            with pytest.raises(Undelivered, match=r"takes no mail for gone@b\.cd$") as caught:
                mail.send(notice(1))
            assert caught.value.is_final
    assert len(box.mails) == 1


def test_a_mail_server_that_drips_its_greeting_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def drip() -> None:
            link, _ = listener.accept()
            with link:
                while not stop.wait(0.05):
                    try:
                        link.sendall(b"2")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        began_s = time.monotonic()
        port = listener.getsockname()[1]
        said = {
            "kind": "email",
            "host": "127.0.0.1",
            "port": port,
            "sender": "a@b.c",
            "to": ["d@e.f"],
            "timeout_s": 0.5,
        }
        with pytest.raises(Undelivered):
            receiver(said).send(notice())
        assert time.monotonic() - began_s < 3
        stop.set()
        thread.join()


def test_a_models_name_makes_no_header() -> None:
    evil = alert(model="x\r\nBcc: all@example.com")
    said = {"kind": "email", "host": "127.0.0.1", "sender": "a@b.c", "to": ["d@e.f"]}
    made = receiver(said)
    message = made.message(Notice("id", "ops", "g\r\nX: y", 0.0, (evil,)))  # type: ignore[attr-defined]  # a mail's own
    assert "Bcc" not in message
    assert "\n" not in message["Subject"]

"""A real Alertmanager, and real mailboxes."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from aiosmtpd.controller import Controller

from tests.ports import free_port
from tests.server.running import wait_until


class Mailbox:
    """Take mail as an SMTP server does."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.encrypted: list[bool] = []

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        """Refuse who is gone."""
        if address.startswith("gone@"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 taken"

    async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:  # aiosmtpd tells no types
        """Keep one mail."""
        self.mails.append(message_from_bytes(envelope.content))
        self.encrypted.append(session.ssl is not None)
        return "250 taken"


class AnyPort(Controller):  # type: ignore[misc]  # of a package without types
    """Listen on a free port: the base class asks the one that it was given for its greeting."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def mail_server(**options: Any) -> Iterator[tuple[Mailbox, int]]:  # as aiosmtpd's Controller takes them
    """Run one on a free port."""
    box = Mailbox()
    server = AnyPort(box, hostname="127.0.0.1", port=0, **options)
    server.start()
    try:
        yield box, server.port
    finally:
        server.stop()


@contextmanager
def alertmanager(folder: Path, hook: str, mail_port: int = 0) -> Iterator[str]:
    """Run one that tells a webhook, and a mailbox; gives its address, host:port."""
    if (program := shutil.which("prometheus-alertmanager")) is None:
        pytest.skip("NOT TESTED: prometheus-alertmanager is not installed")
    receiver: dict[str, Any] = {"name": "all", "webhook_configs": [{"url": hook, "send_resolved": True}]}
    if mail_port:
        mail = {"to": "ops@example.com", "from": "am@example.com", "smarthost": f"127.0.0.1:{mail_port}"}
        receiver["email_configs"] = [{**mail, "require_tls": False, "send_resolved": True}]
    times = {"group_wait": "100ms", "group_interval": "1s", "repeat_interval": "1h", "group_by": ["alertname"]}
    (folder / "alertmanager.yml").write_text(
        json.dumps({"route": {"receiver": "all", **times}, "receivers": [receiver]})
    )
    address = f"127.0.0.1:{free_port()}"
    with (folder / "alertmanager.log").open("w") as log:
        process = subprocess.Popen(
            [
                program, f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'am'}",
                f"--web.listen-address={address}", "--cluster.listen-address=",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until(lambda: _is_ready(address) or process.poll() is not None)
        yield address
    finally:
        process.kill()
        process.wait(20)


def _is_ready(address: str) -> bool:
    try:
        with urlopen(f"http://{address}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, ConnectionError):
        return False

"""Webhooks: any program that takes JSON by POST."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ferryman.core.receivers import WebhookSection
from ferryman.monitor.alerts.alert import Notice
from ferryman.monitor.notify.payload import webhook_body
from ferryman.monitor.notify.post import send
from ferryman.monitor.notify.secret import authorization, read_address, read_secret


@dataclass(frozen=True)
class Webhook:
    """Post notices in the form of Alertmanager's webhooks, signed as Standard Webhooks does (standardwebhooks.com)."""

    name: str
    section: WebhookSection
    environment: Mapping[str, str]
    instance: str
    clock: Callable[[], float] = time.time

    def send(self, notice: Notice) -> None:
        """Post it; `Idempotency-Key` and `webhook-id` are the notice's id, each time that it is sent."""
        body = json.dumps(webhook_body(notice, self.name, self.instance)).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": notice.id, "webhook-id": notice.id}
        headers |= authorization(self.section.token, self.environment)
        if self.section.sign is not None:
            moment = str(int(self.clock()))
            key = read_secret(self.section.sign, self.environment)
            headers |= {"webhook-timestamp": moment, "webhook-signature": signature(key, notice.id, moment, body)}
        send(read_address(self.section.url, self.environment), body, headers, self.section.timeout_s)


def signature(key: str, notice_id: str, moment: str, body: bytes) -> str:
    """Give the header that proves who sent a body; a key that begins with `whsec_` is base64 after that."""
    secret = base64.b64decode(key.removeprefix("whsec_")) if key.startswith("whsec_") else key.encode()
    digest = hmac.new(secret, f"{notice_id}.{moment}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"

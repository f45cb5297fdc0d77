"""Who can be told of an alert: `[monitor.alerts.notify.NAME]` of ferryman.toml. Secrets are named here, never held."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ferryman.core.secret import SECRET_SOURCES

Severity = Literal["critical", "warning", "info"]
Pattern = Annotated[str, Field(min_length=1, max_length=200)]
Timeout = Annotated[float, Field(gt=0, le=120)]


def _named(text: str) -> str:
    if not text.startswith(SECRET_SOURCES) or not text.partition(":")[2]:  # never shown: it may be the secret itself
        raise ValueError('a secret is named, not written here: "env:VARIABLE" or "file:/path"')
    return text


def _address(text: str) -> str:
    if text.startswith(SECRET_SOURCES):
        return _named(text)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it is no http(s) address, and no env:VARIABLE or file:/path that holds one")
    if parts.username or parts.password:
        raise ValueError("it holds a user or a password, which would lie in every bundle: name it, env:VARIABLE")
    return text


Secret = Annotated[str, AfterValidator(_named)]
Address = Annotated[str, AfterValidator(_address)]


class NotifySection(BaseModel):
    """Hold what all receivers have: which alerts they want."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    severities: tuple[Severity, ...] = Field(("critical", "warning"), description="Alerts of these are sent.")
    models: tuple[Pattern, ...] = Field(("*",), description="Alerts of models with these names (* and ?) are sent.")
    resolved: bool = Field(True, description="Tell when an alert is over, too.")
    heartbeat: bool = Field(
        False, description="Send a sign of life each `heartbeat_s`, for what raises an alarm when none comes."
    )
    timeout_s: Timeout = Field(10.0, description="An attempt to send takes at most so long.")


class WebhookSection(NotifySection):
    """Post JSON, in the form of Alertmanager's webhooks."""

    kind: Literal["webhook"] = "webhook"
    url: Address = Field(description="Where to: an http(s) address, or env:VARIABLE or file:/path that holds it.")
    token: Secret | None = Field(None, description="Sent as `Authorization: Bearer`: env:VARIABLE or file:/path.")
    sign: Secret | None = Field(
        None, description="Key of a signature (Standard Webhooks, HMAC-SHA256): env:VARIABLE or file:/path."
    )


class SlackSection(NotifySection):
    """Post a message to a Slack-compatible incoming webhook: Slack, Mattermost, Rocket.Chat."""

    kind: Literal["slack"] = "slack"
    url: Secret = Field(description="The webhook's address, which is a secret: env:VARIABLE or file:/path.")
    channel: str | None = Field(None, max_length=80, description="Another channel than the webhook's own.")


class EmailSection(NotifySection):
    """Send mail through an SMTP server."""

    kind: Literal["email"] = "email"
    host: str = Field(min_length=1, description="The SMTP server.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Its port; 465 with tls, 587 with starttls, 25 with none by default."
    )
    security: Literal["starttls", "tls", "none"] = Field("starttls", description="How the connection is encrypted.")
    user: str | None = Field(None, description="Who logs in.")
    password: Secret | None = Field(None, description="With which password: env:VARIABLE or file:/path.")
    sender: str = Field(pattern=r"^[^\s<>@,]+@[^\s<>@,]+$", description="The address that mails come from.")
    to: tuple[Annotated[str, Field(pattern=r"^[^\s<>@,]+@[^\s<>@,]+$")], ...] = Field(
        min_length=1, description="The addresses that they go to."
    )
    ca: str | None = Field(None, description="File of certificates that vouch for the server; the system's by default.")

    @model_validator(mode="after")
    def _keeps_its_password(self) -> "EmailSection":
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together")
        if self.password is not None and self.security == "none":
            raise ValueError("a password over a connection that isn't encrypted is read by others: security = starttls")
        return self


class AlertmanagerSection(NotifySection):
    """Hand alerts to Prometheus' Alertmanager (API v2), which groups, silences and routes them itself."""

    kind: Literal["alertmanager"] = "alertmanager"
    url: Address = Field(description="Its address: http://alertmanager:9093, or env:VARIABLE or file:/path.")
    token: Secret | None = Field(None, description="Sent as `Authorization: Bearer`: env:VARIABLE or file:/path.")
    refresh_s: Annotated[float, Field(ge=1, le=3600)] = Field(
        60.0, description="Say so often that an alert still fires; it ends by itself four times this after the last."
    )


class CommandSection(NotifySection):
    """Run a program, with the alerts as JSON on its standard input; no shell reads its arguments."""

    kind: Literal["command"] = "command"
    command: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        min_length=1, description="The program and its arguments; exit code 0 means that it is done."
    )
    environment: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], ...] = Field(
        (), description="Variables that it gets beside PATH, HOME and LANG."
    )

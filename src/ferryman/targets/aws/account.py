"""An account of AWS in one region, through boto3, and its errors with the way out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ferryman.core.errors import ConfigError, DeployError

_CONNECT_S = 10
_READ_S = 60
_TRIES = 8  # boto3 waits longer each time, up to 20 s: a busy account's throttling is over by then
_LOG_IN = "log in again (aws sso login, aws configure), or name another with AWS_PROFILE or profile = in the section"
_NOT_THERE = ("could not find", "does not exist", "not found")
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "UnauthorizedException")
_UNKNOWN = (
    "ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException",
    "InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure", "IncompleteSignature", "RequestExpired",
)  # fmt: skip
_SLOW_DOWN = (
    "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException", "RequestLimitExceeded",
)  # fmt: skip
_NO_ROOM = ("ResourceLimitExceeded", "LimitExceededException", "LimitExceeded")
_BUSY = ("ResourceInUse", "ConcurrentUpdateException")
_HINTS = {
    **dict.fromkeys(_DENIED, "ask for the right to do this; docs/targets/sagemaker.md lists all that is needed"),
    **dict.fromkeys(_UNKNOWN, _LOG_IN),
    **dict.fromkeys(_SLOW_DOWN, "AWS asks for fewer calls; apply again in a minute: it goes on where it stopped"),
    **dict.fromkeys(_NO_ROOM, "ask for more in Service Quotas, or take fewer or other instances"),
    **dict.fromkeys(_BUSY, "something else changes it now; try again when that is done"),
}
_ROLE = "the role must be there, trust sagemaker.amazonaws.com, and may pull the image (see docs/targets/sagemaker.md)"


class Account:
    """Hold the clients of one account and region; raises ConfigError for a profile that isn't there."""

    def __init__(self, profile: str, region: str) -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        retries = {"mode": "standard", "total_max_attempts": _TRIES}
        self._settings = Config(retries=retries, connect_timeout=_CONNECT_S, read_timeout=_READ_S)
        self._clients: dict[str, Any] = {}
        try:
            self._session = boto3.Session(profile_name=profile or None, region_name=region)
        except BotoCoreError as error:
            raise ConfigError(f"AWS: {error}", hint="aws configure list-profiles shows those that are there") from None

    def ask(self, service: str, what: str, /, **request: Any) -> dict[str, Any]:  # JSON
        """Call an operation by boto3's name; raises DeployError, or ConfigError where AWS doesn't know who asks."""
        with _telling(f"{service}: {what}"):
            answer: dict[str, Any] = self._operation(service, what)(**request)
        return answer

    def find(self, service: str, what: str, /, **request: Any) -> dict[str, Any] | None:  # JSON
        """Call an operation that describes one thing; None where there is no such thing."""
        from botocore.exceptions import ClientError

        with _telling(f"{service}: {what}"):
            try:
                answer: dict[str, Any] = self._operation(service, what)(**request)
            except ClientError as error:
                if _is_missing(error.response["Error"]):
                    return None
                raise
        return answer

    def every(self, service: str, what: str, key: str, /, **request: Any) -> Iterator[dict[str, Any]]:  # JSON
        """Yield all that an operation lists under `key`, page by page."""
        with _telling(f"{service}: {what}"):
            client = self._client(service)
            if not client.can_paginate(what):
                yield from getattr(client, what)(**request)[key]
                return
            for page in client.get_paginator(what).paginate(**request):
                yield from page[key]

    def _operation(self, service: str, what: str) -> Callable[..., dict[str, Any]]:
        operation: Callable[..., dict[str, Any]] = getattr(self._client(service), what)
        return operation

    def _client(self, service: str) -> Any:  # boto3's, made at run time
        if service not in self._clients:
            self._clients[service] = self._session.client(service, config=self._settings)
        return self._clients[service]


@contextmanager
def _telling(what: str) -> Iterator[None]:
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        told = error.response["Error"]
        code, message = str(told.get("Code", "")), str(told.get("Message", ""))
        kind = ConfigError if code in _UNKNOWN else DeployError
        raise kind(f"AWS refuses {what}: {code}: {message}", hint=_hint(code, message)) from None
    except (
        exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError, exceptions.SSOError,
    ) as error:  # fmt: skip
        raise ConfigError(f"AWS doesn't know who asks: {error}", hint=_LOG_IN) from None
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
        raise DeployError(
            f"AWS doesn't answer ({what}): {error}", hint="is the region's name right, and the network there?"
        ) from None
    except exceptions.BotoCoreError as error:
        raise DeployError(f"AWS, {what}: {error}", hint="check the target's section; apply again") from None


def _hint(code: str, message: str) -> str:
    if "role" in message.lower() and code == "ValidationException":
        return _ROLE
    return _HINTS.get(code, "mend what it says, then apply again")


def _is_missing(told: dict[str, str]) -> bool:
    """Tell that a thing isn't there; SageMaker says so in words alone."""
    code, message = told.get("Code", ""), told.get("Message", "").lower()
    return "NotFound" in code or (code == "ValidationException" and any(words in message for words in _NOT_THERE))

"""Azure's Resource Manager through its official core: resources by their ids, long operations, errors with a way out.

azure-mgmt-core is what every client of Azure's own is made of. The one for machine learning, azure-ai-ml, pins an
OpenTelemetry that does not go with ours; its bodies and addresses are the Resource Manager's, which are used here.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import Progress
from ferryman.targets.azure.settings import AzureSection
from ferryman.targets.wanted import Json

_LOOK_S = 2.0
_CALL_S = 60.0
_LOGIN = "log in with `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
_HINTS = {
    401: _LOGIN,
    403: "ask for the role Contributor on the resource group; `az role assignment list` shows who has which",
    404: "are subscription, resource_group and what is named in the target's section there? see `az resource list`",
    409: "another change is under way: try again",
    429: "too many requests, or a quota is used up: wait, or raise it",
}


class Arm:
    """Speak with the Resource Manager about one resource group, in one version of one provider's API."""

    def __init__(self, section: AzureSection, version: str, progress: Progress) -> None:
        from azure.core.pipeline import policies
        from azure.identity import DefaultAzureCredential
        from azure.mgmt.core import ARMPipelineClient
        from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

        for key in ("subscription", "resource_group"):
            if not getattr(section, key):
                raise ConfigError(f"which {key} of Azure?", hint=f'set {key} = "..." in the target\'s section')
        self._version, self._limit_s, self.progress = version, section.wait_s, progress
        self.group = group_of(section)
        self._credential = DefaultAzureCredential()
        self._client: Any = ARMPipelineClient(  # its generics need a type of request
            section.api,
            policies=[
                policies.RequestIdPolicy(),
                policies.UserAgentPolicy("ferryman"),
                policies.RetryPolicy(retry_total=2),
                ARMChallengeAuthenticationPolicy(self._credential, f"{section.api}/.default"),
            ],
        )

    def __enter__(self) -> Self:
        """Be used within `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the connections go."""
        self._client.close()
        self._credential.close()

    def find(self, resource: str, what: str) -> Json | None:
        """Give a resource by its id, None where there is none."""
        answer = self._send("GET", resource, None, what)
        if answer.http_response.status_code == 404 and _code(answer.http_response) in _NOT_THERE:
            return None
        found = self._json(answer, what)
        found["tags"] = found.get("tags") or {}  # null, or left out, where there are none
        if "location" in found:  # some providers answer "West Europe" to "westeurope"
            found["location"] = str(found["location"]).replace(" ", "").lower()
        return found

    def items(self, resource: str, what: str) -> list[Json]:
        """Give all of a list, page by page."""
        found, address = [], resource
        while address:
            page = self._json(self._send("GET", address, None, what), what)
            found += page.get("value", [])
            address = page.get("nextLink", "")
        return found

    def ask(self, resource: str, body: Json | None, what: str) -> Json:
        """Let a resource do what its last word says, at once."""
        return self._json(self._send("POST", resource, body, what), what)

    def change(self, method: str, resource: str, body: Json | None, what: str) -> Json:
        """Put, patch or delete a resource and wait until that is done; raises DeployError in Azure's words."""
        from azure.core.polling import LROPoller
        from azure.mgmt.core.polling.arm_polling import ARMPolling

        first = self._send(method, resource, body, what)
        if method == "DELETE" and first.http_response.status_code in (204, 404):
            return {}
        self._json(first, what)
        with self._telling(what):
            poller: Any = LROPoller(self._client, first, lambda done: _body(done.http_response), ARMPolling(_LOOK_S))
            poller.wait(self._limit_s)
            if not poller.done():
                raise DeployError(
                    f"{what}: not done after {self._limit_s:g} s",
                    hint="it goes on there; see `ferryman deploy status`, or raise wait_s",
                )
            done: Json = poller.result() or {}
        return done

    def text(self, address: str, token: str, what: str) -> str:
        """Give what a full address says to a bearer of this token: a stream of log lines, until it ends."""
        from azure.core.rest import HttpRequest

        with self._telling(what):
            request = HttpRequest("GET", address, headers={"Authorization": f"Bearer {token}"})
            answer = self._client._pipeline._transport.send(request)
            if answer.status_code >= 400:
                raise DeployError(f"{what}: {answer.status_code}", hint="see the portal's log stream")
            return str(answer.text())

    def _send(self, method: str, resource: str, body: Json | None, what: str) -> Any:
        from azure.core.rest import HttpRequest

        address = resource if resource.startswith("https:") else self._client.format_url(resource)
        params = {} if "api-version=" in address else {"api-version": self._version}
        request = HttpRequest(method, address, params=params, headers={"Accept": "application/json"}, json=body)
        with self._telling(what):
            answer = self._client._pipeline.run(request, timeout=_CALL_S)
            answer.http_response.read()
        return answer

    def _json(self, answer: Any, what: str) -> Json:  # a PipelineResponse
        with self._telling(what):
            answer.http_response.raise_for_status()
            return _body(answer.http_response)

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Turn the client's errors into ours."""
        from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

        try:
            yield
        except ClientAuthenticationError as error:
            if error.response is not None and error.response.status_code == 401:
                raise DeployError(f"{what}: {_message(error)}", hint=_LOGIN) from None
            raise ConfigError(f"no credentials for Azure: {_message(error)}", hint=_LOGIN) from None
        except HttpResponseError as error:
            raise DeployError(f"{what}: {_message(error)}", hint=_hint(error)) from None
        except AzureError as error:
            raise DeployError(f"{what}: Azure doesn't answer: {_message(error)}", hint="try again") from None


logging.getLogger("azure").addHandler(logging.NullHandler())  # its ten lines on missing credentials are told in one
_NOT_THERE = ("ResourceNotFound", "NotFound", "UserError", "RevisionNotFound", "EntityNotFound")


def group_of(section: AzureSection) -> str:
    """Give the id of the resource group."""
    return f"/subscriptions/{section.subscription}/resourceGroups/{section.resource_group}"


def _body(response: Any) -> Json:  # an HttpResponse
    from azure.core.exceptions import DecodeError

    text = response.text()
    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise DecodeError(f"{response.status_code} {response.reason}, which is no answer of Azure's: {text[:80]!r}")
    return found


def _code(response: Any) -> str:  # an HttpResponse that refuses; what is no JSON (a proxy's page) has no code
    try:
        said = json.loads(response.text())["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return str(said.get("code", "")) if isinstance(said, dict) else ""


def _message(error: Any) -> str:  # an AzureError
    said = getattr(error, "error", None)
    if said is not None and said.message:
        return f"{said.code}: {said.message}"
    return str(error.message if hasattr(error, "message") else error).strip().split("\n")[0]


def _hint(error: Any) -> str:  # an HttpResponseError
    words = str(error).lower()
    if "quota" in words:
        return "a quota is used up: `az vm list-usage` shows it; raise it in the portal, or take other machines"
    if "image" in words and ("pull" in words or "not found" in words or "manifest" in words):
        return "push the image (`ferryman package`), and give `identity` the role AcrPull on its registry"
    return _HINTS.get(error.status_code, "what answered before still does; see `ferryman deploy logs`")

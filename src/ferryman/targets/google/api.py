"""Google's APIs through their official client: calls, long operations, and errors that say the way out."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from ferryman.core.errors import ConfigError, DeployError
from ferryman.core.progress import Progress
from ferryman.targets.wanted import Json

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_READS = 3  # a question may be asked again; a command may have been heard
_LOGIN = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key's file"
_FIRST_LOOK_S, _SLOWER, _LONGEST_LOOK_S = 0.1, 1.6, 5.0

_HINTS = {
    401: _LOGIN,
    403: "ask for the role ({role}) in project {project}, as `gcloud projects get-iam-policy {project}` shows it",
    404: "is project = '{project}' the right one, and region = '{region}'?",
    409: "somebody else changes it just now: try again",
    429: "a quota is used up: wait, or raise it (`gcloud alpha services quota list`)",
}


class Api:
    """Speak with one of Google's APIs in a project; `region` and `role` are for what is said of errors."""

    def __init__(self, name: str, version: str, *, project: str, region: str, address: str, role: str) -> None:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
        from googleapiclient.discovery import build

        try:
            credentials, usual = google.auth.default(scopes=[_SCOPE])
        except DefaultCredentialsError as error:
            raise ConfigError(f"no credentials for Google Cloud: {_first_line(error)}", hint=_LOGIN) from None
        self.project, self.region, self._role, self._name = project or usual or "", region, role, name
        if not self.project:
            raise ConfigError("which project of Google Cloud?", hint='set project = "..." in the target\'s section')
        self._resources: dict[tuple[str, ...], Any] = {}
        self.client = build(
            name, version, credentials=credentials, static_discovery=True, cache_discovery=False,
            client_options={"api_endpoint": address.replace("{service}", name)} if address else {},
        )  # fmt: skip

    def __enter__(self) -> Self:
        """Be used within `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the connections go."""
        self.client.close()

    @property
    def parent(self) -> str:
        """Give what the names of all things here begin with."""
        return f"projects/{self.project}/locations/{self.region}"

    def resource(self, *collections: str) -> Any:  # a resource of the client
        """Give what knows the methods of a collection in a region; the client takes its time to make one."""
        if not collections:
            return self.client.projects().locations()
        if collections not in self._resources:
            self._resources[collections] = getattr(self.resource(*collections[:-1]), collections[-1])()
        return self._resources[collections]

    def call(self, request: Any, what: str) -> Json:  # a request of the client
        """Send a request and give its answer; raises DeployError in Google's words, named by `what`."""
        with self._telling(what):
            answer: Json = request.execute(num_retries=_READS if request.method == "GET" else 0)
        return answer

    def find(self, request: Any, what: str) -> Json | None:  # a request of the client
        """Send a question; None where there is no such thing."""
        from googleapiclient.errors import HttpError

        with self._telling(what):
            try:
                answer: Json = request.execute(num_retries=_READS)
            except HttpError as error:
                if error.status_code != 404:
                    raise
                return None
        return answer

    def finish(self, operation: Json, what: str, *, limit_s: float, progress: Progress) -> Json:
        """Wait for a long operation and give what it made; raises DeployError with what it says when it fails."""
        asked = self._operations(operation["name"])
        done = until_done(
            lambda: self.call(asked.get(name=operation["name"]), what),
            operation, what, limit_s=limit_s, progress=progress,
        )  # fmt: skip
        if "error" in done:
            message = str(done["error"].get("message") or f"code {done['error'].get('code')}")
            raise DeployError(f"{what}: {message}", hint=_hint_of(message))
        response: Json = done.get("response", {})
        return response

    def _operations(self, name: str) -> Any:  # a resource of the client
        """Give what knows an operation: those of endpoints and models hang below them."""
        return self.resource(*name.split("/")[4:-2:2], "operations")

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Turn the client's errors into ours."""
        from google.auth.exceptions import GoogleAuthError
        from googleapiclient.errors import HttpError
        from httplib2 import HttpLib2Error

        try:
            yield
        except HttpError as error:
            hint = _HINTS.get(error.status_code, "what Google says is above").format(
                project=self.project, region=self.region, role=self._role
            )
            if "SERVICE_DISABLED" in str(error.error_details):
                hint = f"gcloud services enable {self._name}.googleapis.com --project {self.project}"
            raise DeployError(f"{what}: {error.reason}", hint=hint) from None
        except GoogleAuthError as error:
            raise ConfigError(
                f"the credentials for Google Cloud don't work: {_first_line(error)}", hint=_LOGIN
            ) from None
        except (HttpLib2Error, OSError) as error:
            raise DeployError(
                f"{what}: {self._name}.googleapis.com doesn't answer: {error}", hint="try again"
            ) from None


def until_done(look: Callable[[], Json], operation: Json, what: str, *, limit_s: float, progress: Progress) -> Json:
    """Ask for an operation, ever more slowly, until it is done; raises DeployError when the time is over."""
    pause_s, end_s = _FIRST_LOOK_S, time.monotonic() + limit_s
    while not operation.get("done"):
        progress(f"waiting for {what}")
        if time.monotonic() > end_s:
            raise DeployError(
                f"{what}: not done after {limit_s:g} s",
                hint="it goes on there; see `ferryman deploy status`, or raise wait_s",
            )
        time.sleep(min(pause_s, max(0.0, end_s - time.monotonic())))
        pause_s = min(pause_s * _SLOWER, _LONGEST_LOOK_S)
        operation = look()
    return operation


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _hint_of(message: str) -> str:
    words = message.lower()
    if "not found" in words and "image" in words:
        return "push the image (`ferryman package`), and let the service agent read it (roles/artifactregistry.reader)"
    if "quota" in words:
        return _HINTS[429]
    return "what answered before still does; see `ferryman deploy logs`"

"""A cluster, through the official client: server-side apply of one object, and errors that say the way out."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ferryman.core.errors import ConfigError, DeployError, FerrymanError
from ferryman.targets.kube.workload import Manifest

MANAGER = "ferryman"
_SERVERS_OWN = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink")
REVISION = "deployment.kubernetes.io/revision"
_WAIT_S = 30.0
_NO_LOG = (400, 404)  # the container has not begun; the pod has gone meanwhile

_HINTS = {
    401: "log in again: kubectl auth whoami",
    403: "ask for the right; `kubectl auth can-i --list -n {namespace}` shows what you may",
    404: "make the namespace: kubectl create namespace {namespace}",
    409: "somebody else set this: take it out there, or set force_conflicts = true to take it over",
    422: "the cluster's own checks refuse it; what can't be changed goes with `ferryman deploy remove`",
}


class Cluster:
    """Speak with the cluster of a kubeconfig's context, or the one that this runs in."""

    def __init__(self, context: str, namespace: str) -> None:
        from kubernetes import config
        from kubernetes.dynamic import DynamicClient

        self.namespace = namespace
        self._folder = tempfile.TemporaryDirectory(prefix="ferryman-")  # the client's own would be guessable
        try:
            self._api = _connect(context)
            with self.telling("the cluster"):
                self._client = DynamicClient(self._api, cache_file=str(Path(self._folder.name) / "discovery"))
        except config.ConfigException as error:
            self._folder.cleanup()
            raise ConfigError(
                f"no cluster is known: {error}", hint="set KUBECONFIG, or context = in the target's section"
            ) from None
        except FerrymanError:
            self._folder.cleanup()
            raise

    def __enter__(self) -> Self:
        """Be used within `with`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the connections go."""
        self._api.close()
        self._folder.cleanup()

    def knows(self, api_version: str, kind: str) -> bool:
        """Tell whether the cluster has this kind."""
        return self._resource(api_version, kind) is not None

    def read(self, like: Manifest) -> Manifest | None:
        """Give the object of this kind and name as it is there, None where there is none."""
        from kubernetes.dynamic.exceptions import NotFoundError

        resource = self._known(like)
        with self.telling(title(like)):
            try:
                found = resource.get(name=like["metadata"]["name"], namespace=self.namespace, _request_timeout=_WAIT_S)
            except NotFoundError:
                return None
        return _plain(found)

    def find(self, api_version: str, kind: str, labels: dict[str, str]) -> list[Manifest]:
        """Give the objects of a kind that have these labels; none where the cluster doesn't know the kind."""
        resource = self._resource(api_version, kind)
        if resource is None:
            return []
        chosen = ",".join(f"{key}={value}" for key, value in labels.items())
        with self.telling(kind):
            found = resource.get(namespace=self.namespace, label_selector=chosen, _request_timeout=_WAIT_S)
        return [{"apiVersion": api_version, "kind": kind, **one} for one in _plain(found)["items"]]

    def apply(self, wanted: Manifest, *, dry_run: bool, force: bool) -> Manifest:
        """Apply an object on the server's side; gives it as it is there afterwards, or would be."""
        resource = self._known(wanted)
        with self.telling(title(wanted)):
            done = self._client.server_side_apply(
                resource, body=wanted, namespace=self.namespace, field_manager=MANAGER,
                force_conflicts="true" if force else None, dry_run="All" if dry_run else None,
                query_params=[], header_params={}, path_params={}, _request_timeout=_WAIT_S,
            )  # fmt: skip
        return _plain(done)

    def delete(self, one: Manifest) -> None:
        """Take an object away, and what it made; one that is gone already is fine."""
        from kubernetes.dynamic.exceptions import NotFoundError

        resource = self._known(one)
        with self.telling(title(one)):
            try:
                resource.delete(
                    name=one["metadata"]["name"], namespace=self.namespace,
                    body={"propagationPolicy": "Foreground"}, _request_timeout=_WAIT_S,
                )  # fmt: skip
            except NotFoundError:
                return

    def log(self, pod: str, container: str, *, lines: int, previous: bool = False) -> list[str]:
        """Give the last lines of a container; none where it has written nothing, or isn't there yet."""
        from kubernetes import client

        with self.telling(f"the log of Pod {pod}"):
            try:
                text = client.CoreV1Api(self._api).read_namespaced_pod_log(
                    pod, self.namespace, container=container, tail_lines=lines, previous=previous,
                    _request_timeout=_WAIT_S,
                )  # fmt: skip
            except client.ApiException as error:
                if error.status not in _NO_LOG:
                    raise
                return []
        return str(text or "").splitlines()

    def _known(self, one: Manifest) -> Any:  # a resource of the dynamic client
        resource = self._resource(one["apiVersion"], one["kind"])
        if resource is None:
            raise DeployError(
                f"the cluster knows no {one['kind']} ({one['apiVersion']})",
                hint="install what brings it, or leave it out in the target's section",
            )
        return resource

    def _resource(self, api_version: str, kind: str) -> Any:  # a resource of the dynamic client
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        with self.telling(f"{kind} ({api_version})"):
            try:
                return self._client.resources.get(api_version=api_version, kind=kind)
            except ResourceNotFoundError:
                return None

    @contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """Turn the client's errors into ours."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            hint = _HINTS.get(error.status, "kubectl describe shows what the cluster says").format(
                namespace=self.namespace
            )
            raise DeployError(f"{what}: {_message(error)}", hint=hint) from None
        except HTTPError as error:
            reason = getattr(error, "reason", error)
            raise DeployError(
                f"{self._api.configuration.host} doesn't answer: {reason}",
                hint="kubectl cluster-info shows which it is",
            ) from None


def _connect(context: str) -> Any:  # an ApiClient
    from kubernetes import client, config
    from yaml import YAMLError  # which the client brings

    wanted = client.Configuration()
    file = os.environ.get("KUBECONFIG") or None  # the client looks there once, when it is imported
    try:
        config.load_kube_config(file, context=context or None, client_configuration=wanted)
    except config.ConfigException:
        if context or "KUBERNETES_SERVICE_HOST" not in os.environ:  # which every pod has
            raise
        config.load_incluster_config(client_configuration=wanted)
    except (YAMLError, TypeError, AttributeError, ValueError) as error:  # the client takes for granted what it reads
        said = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"the kubeconfig {file or '~/.kube/config'} can't be read: {said}", hint="kubectl config view reads it, too"
        ) from None
    wanted.retries = False  # or what isn't there would be asked four times
    return client.ApiClient(wanted)


def _plain(found: Any) -> Manifest:  # what the dynamic client gives
    value: Manifest = found.to_dict() if hasattr(found, "to_dict") else json.loads(found.data)
    return value


def _message(error: Any) -> str:  # an ApiException
    try:
        said = json.loads(error.body)
        return str(said.get("message") or error.reason)
    except (ValueError, TypeError, AttributeError):
        return str(error.reason or error)


def title(one: Manifest) -> str:
    """Name an object as people do."""
    return f"{one['kind']} {one['metadata']['name']}"


def essence(one: Manifest) -> Manifest:
    """Give an object without what the server writes into it: what can be compared."""
    told = {key: value for key, value in one.items() if key != "status"}
    meta = {key: value for key, value in told["metadata"].items() if key not in _SERVERS_OWN}
    notes = {key: value for key, value in meta.pop("annotations", {}).items() if key != REVISION}
    return {**told, "metadata": {**meta, **({"annotations": notes} if notes else {})}}

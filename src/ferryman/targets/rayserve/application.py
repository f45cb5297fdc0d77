"""The Ray Serve application: `import_path: ferryman.targets.rayserve.application:application`; runs on Ray's nodes."""

import asyncio
import json
import logging
import os
from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from starlette.requests import Request
from starlette.responses import Response

from ferryman import __version__
from ferryman.core.errors import ConfigError, DeployError, FerrymanError, NotFound, NotReady
from ferryman.targets.rayserve.fetch import bundle_at
from ferryman.targets.rayserve.serving import Serving

NAME = "ferryman"
MODEL_ID = "serve_multiplexed_model_id"
_MODELS = "/v2/models/"
_INDEX = "/v2/repository/index"
_PAGES: dict[str, object] = {  # what is asked of all models together
    _INDEX: [],
    "/v2": {"name": "ferryman", "version": __version__, "extensions": ["binary_tensor_data"]},
    "/v2/health/live": {"live": True},
    "/v2/health/ready": {"ready": True},
}
_log = logging.getLogger("ray.serve")


class Model(BaseModel):
    """Say where a node finds a bundle ("": where FERRYMAN_BUNDLE says), and which digest it must have ("": any)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: str = ""
    digest: str = ""


class Arguments(BaseModel):
    """Be the application's `args`: the models by name.

    Several models are loaded as they are asked for, and at most `loaded` of them stay in a replica. `python` runs
    the servers (Ray's own by default), with more `options` of `ferryman serve`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Annotated[dict[str, Model], Field(min_length=1)]
    loaded: Annotated[int, Field(ge=1)] = 3
    python: str = ""
    options: tuple[str, ...] = ()
    start_s: Annotated[float, Field(gt=0)] = 120.0


class Replica:
    """Answer with one model, loaded and checked before the first request, or with several as they are asked for."""

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self._models = arguments.models
        self._servings: dict[str, Serving] = {}
        self._only = self._start(next(iter(self._models))) if len(self._models) == 1 else None

        async def load(name: str) -> Serving:
            return await asyncio.to_thread(self._start, name)

        if self._only is None:  # Ray keeps the last used ones, and sends a model's requests to where it is loaded
            self._load = serve.multiplexed(load, max_num_models_per_replica=arguments.loaded)

    async def __call__(self, request: Request) -> Response:
        """Pass a request on to the server of the model that it is for, and its answer back, byte for byte."""
        path = request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/"
        try:
            if self._only is not None:
                return await _pass_on(self._only, request, path)
            if path in _PAGES:
                return _tell(200, self._page(path))
            name = self._name_of(path, request.headers.get(MODEL_ID, ""))
            for is_last in (False, True):  # the first one may be on its way out
                try:
                    return await _pass_on(await self._load(name), request, path)
                except NotReady:
                    if is_last:
                        raise
            raise AssertionError("one of the two returns or raises")
        except NotFound as error:
            return _tell(404, {"error": str(error)})
        except FerrymanError as error:
            return _tell(503, {"error": str(error)})

    async def check_health(self) -> None:
        """Raise for a model that answers no more, or answers a golden sample wrong: Ray then replaces this replica."""
        for name, serving in list(self._servings.items()):
            reason = await asyncio.to_thread(serving.why_not_ready)
            if reason and name in self._servings:
                raise RuntimeError(reason)

    def __del__(self) -> None:
        """End every server, after the last request."""
        for serving in list(self._servings.values()):
            serving.stop()

    def _start(self, name: str) -> Serving:
        model, arguments = self._models[name], self._arguments
        bundle = bundle_at(model.bundle or _from_environment(), python=arguments.python)
        serving = Serving(
            bundle, python=arguments.python, options=arguments.options, tell=_log.info,
            on_stop=lambda: self._servings.pop(name, None),
        )  # fmt: skip
        try:
            serving.wait(arguments.start_s)
            _check_digest(serving.digests(), model)
        except BaseException:
            serving.stop()
            raise
        self._servings[name] = serving
        return serving

    def _name_of(self, path: str, told: str) -> str:
        name = path.removeprefix(_MODELS).partition("/")[0] if path.startswith(_MODELS) else told
        if name not in self._models:
            known = ", ".join(self._models)
            raise NotFound(f"no model is called '{name}' here" if name else f"say of which model: one of {known}")
        return name

    def _page(self, path: str) -> object:
        if path == _INDEX:
            return [
                {"name": name, "state": "READY" if name in self._servings else "UNAVAILABLE"} for name in self._models
            ]
        return _PAGES[path]


def application(arguments: Arguments) -> Application:
    """Give the application; what a deployment's section of the configuration says goes over what is said here."""
    deployment = serve.deployment(Replica, name=NAME)
    return deployment.bind(arguments)


async def _pass_on(serving: Serving, request: Request, path: str) -> Response:
    query = request.scope.get("query_string", b"").decode("latin-1")
    address = quote(path) + (f"?{query}" if query else "")
    status, headers, body = await serving.pass_on(request.method, address, request.headers, await request.body())
    return Response(body, status, headers)


def _check_digest(digests: dict[str, str], model: Model) -> None:
    if model.digest and model.digest not in digests.values():
        found = ", ".join(f"{name} {digest}" for name, digest in digests.items())
        raise DeployError(
            f"{model.bundle} on this node is another bundle: {found} instead of {model.digest}",
            hint="bring the new one to every node, then deploy again",
        )


def _from_environment() -> str:
    try:
        return os.environ["FERRYMAN_BUNDLE"]
    except KeyError:
        raise ConfigError(
            "there is no bundle: args name no path, and FERRYMAN_BUNDLE is not set on this node",
            hint='set bundle = "..." in the target\'s section, or run an image of `ferryman package`',
        ) from None


def _tell(status: int, page: object) -> Response:
    headers = {"retry-after": "1"} if status == 503 else {}
    return Response(json.dumps(page).encode(), status, headers, "application/json")

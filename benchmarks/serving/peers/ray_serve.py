"""Ray Serve: one deployment, one replica, every model in it."""

import os
import threading
from typing import Any

import nets
import numpy as np
import orjson
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

_FOLDER = os.path.dirname(os.path.abspath(__file__))


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 1})
class Bench:
    """Answer T, M and D."""

    def __init__(self) -> None:
        self._tabular, self._mobile, self._detector = nets.Plain("T"), nets.Plain("M"), nets.Detector()

    async def __call__(self, request: Request) -> Response:
        """Answer by the path."""
        body = await request.body()
        path = request.url.path
        if path == "/M":
            values = np.frombuffer(body, np.float32).reshape(1, 3, 224, 224)
            return Response(self._mobile(values).tobytes(), media_type="application/octet-stream")
        return Response(orjson.dumps(self._answer(path, body)), media_type="application/json")

    def _answer(self, path: str, body: bytes) -> Any:
        if path == "/D":
            return self._detector(body)
        asked = orjson.loads(body)
        if path == "/T":
            return {"scores": self._tabular(np.array(asked["rows"], np.float32)).tolist()}
        values = np.array(asked["values"], np.float32).reshape(1, 3, 224, 224)
        return {"scores": self._mobile(values).tolist()}


if __name__ == "__main__":
    found = {"env_vars": {"PYTHONPATH": _FOLDER, "BENCH_MODELS": os.environ["BENCH_MODELS"]}}
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200 << 20, runtime_env=found)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    serve.run(Bench.bind(), route_prefix="/")
    threading.Event().wait()

"""Run in an environment of its own that holds the kserve SDK: ask as it does, and say what came back, in JSON.

It must import nothing of ferryman: that environment has none of it.
"""

import asyncio
import importlib
import json
import ssl
import sys
import traceback
from typing import Any

import numpy as np

Order = dict[str, Any]  # JSON


async def _ask_http(order: Order, kserve: Any) -> dict[str, Any]:  # the SDK's module, JSON
    believed = True if order["tls"] is None else _context(order["tls"])
    config = kserve.RESTConfig(protocol="v2", timeout=order["timeout_s"], retries=0, verify=believed)
    client = kserve.InferenceRESTClient(config)
    facts = {
        "live": await client.is_server_live(order["url"], headers=order["headers"]),
        "ready": await client.is_server_ready(order["url"], headers=order["headers"]),
        "model_ready": await client.is_model_ready(order["url"], order["model"], headers=order["headers"]),
    }
    request = kserve.InferRequest(order["model"], _inputs(order, kserve), request_id="k-1")
    answer = await client.infer(order["url"], request, model_name=order["model"], headers=dict(order["headers"]))
    await client.close()
    return {**facts, **_told(answer)}


async def _ask_grpc(order: Order, kserve: Any) -> dict[str, Any]:  # the SDK's module, JSON
    tls = {"use_ssl": True, **order["tls"]} if order["tls"] is not None else {}
    client = kserve.InferenceGRPCClient(order["grpc"], timeout=order["timeout_s"], retries=0, **tls)
    headers = [(name.lower(), value) for name, value in order["headers"].items()]
    facts = {
        "live": await client.is_server_live(headers=headers),
        "ready": await client.is_server_ready(headers=headers),
        "model_ready": await client.is_model_ready(order["model"], headers=headers),
    }
    request = kserve.InferRequest(order["model"], _inputs(order, kserve), request_id="k-1")
    answer = await client.infer(request, headers=headers)
    await client.close()
    return {**facts, **_told(answer)}


def _context(files: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files.get("root_certificates"))
    if "certificate_chain" in files:
        context.load_cert_chain(files["certificate_chain"], files["private_key"])
    return context


def _inputs(order: Order, kserve: Any) -> list[Any]:  # the SDK's module, its InferInput
    inputs = []
    for entry in order["inputs"]:
        one = kserve.InferInput(entry["name"], entry["shape"], entry["datatype"])
        is_text = entry["datatype"] == "BYTES"
        kind = "object" if is_text else entry["datatype"].lower().replace("fp", "float")
        values = [text.encode() for text in entry["data"]] if is_text else entry["data"]
        one.set_data_from_numpy(np.array(values, kind).reshape(entry["shape"]), binary_data=order["is_binary"])
        inputs.append(one)
    return inputs


def _told(answer: Any) -> dict[str, Any]:  # the SDK's InferResponse, JSON
    outputs = []
    for output in answer.outputs:
        values = [v.decode() if isinstance(v, bytes) else v for v in output.as_numpy().ravel().tolist()]
        entry = {"name": output.name, "shape": list(output.shape), "datatype": output.datatype, "data": values}
        outputs.append(entry)
    return {"id": answer.id, "outputs": outputs}


def main() -> None:
    """Read an order from stdin, write what came of it to stdout."""
    order = json.load(sys.stdin)
    try:
        kserve = importlib.import_module("kserve")
    except ImportError as error:
        json.dump({"missing": str(error)}, sys.stdout)
        return
    try:
        told = asyncio.run((_ask_grpc if order["is_grpc"] else _ask_http)(order, kserve))
    except Exception as error:  # noqa: BLE001 - the process boundary: whatever it is, the suite reports it
        traceback.print_exc()
        told = {"error": f"{type(error).__name__}: {error}"}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()

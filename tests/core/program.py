"""What a test has done in a toolchain: it imports nothing of ours."""

import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import numpy as np


def double(request: dict[str, Any], tell: Any) -> Any:
    tell("doubling", done=1, total=2)
    return {"values": np.asarray(request["values"] * 2), "prefix": sys.prefix, "deep": [{"one": np.float32(1.5)}]}


def refuse(request: dict[str, Any], tell: Any) -> Any:
    raise Refused("layer 'conv_7' has operator Loop", hint="export it without loops")


def fail(request: dict[str, Any], tell: Any) -> Any:
    print("the converter's own words")
    return request["missing"]


def die(request: dict[str, Any], tell: Any) -> Any:
    print("about to crash", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(request: dict[str, Any], tell: Any) -> Any:
    print("no licence found")
    sys.stdout.flush()
    os._exit(3)


def hang(request: dict[str, Any], tell: Any) -> Any:
    spawn(request, tell)
    tell("hanging")
    time.sleep(600)


def spawn(request: dict[str, Any], tell: Any) -> Any:
    apart = request.get("apart", False)
    subprocess.Popen(
        [sys.executable, "-c", _SPAWNED, request["marker"], str(request.get("mb", 0))], start_new_session=apart
    )
    return {"network": os.environ["FERRYMAN_NETWORK"]}


_SPAWNED = "import sys, time; held = bytearray(int(sys.argv[2]) * 1_000_000); time.sleep(600)"


def wait(request: dict[str, Any], tell: Any) -> Any:
    time.sleep(600)


def big_endian(request: dict[str, Any], tell: Any) -> Any:
    return {"values": np.asarray(request["values"]).astype(">f4")}


def own_number(request: dict[str, Any], tell: Any) -> Any:
    with open(f"/proc/{os.getpid()}/cmdline", "rb") as file:
        return {"is_own": __file__.encode() in file.read()}


def grow(request: dict[str, Any], tell: Any) -> Any:
    held = []
    while True:
        held.append(np.ones(20_000_000 // 8))
        time.sleep(0.02)


def phone_home(request: dict[str, Any], tell: Any) -> Any:
    with socket.socket() as any_socket:
        any_socket.settimeout(5)
        try:
            any_socket.connect((request["host"], request["port"]))
        except OSError as error:
            return {"network": os.environ["FERRYMAN_NETWORK"], "error": str(error)}
    return {"network": os.environ["FERRYMAN_NETWORK"], "error": ""}


class Model:
    def __init__(self, request: dict[str, Any], tell: Any) -> None:
        self.factor = request["factor"]

    def infer(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if np.isnan(inputs["x"]).any():
            raise Refused("input 'x' has NaN", hint="fill it")
        return {"y": inputs["x"] * self.factor}

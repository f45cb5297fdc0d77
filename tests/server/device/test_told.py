"""Where a server tells which engine answers."""

import json
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from tests.bundle.making import bundle_affine
from tests.server.device import Misbuilding
from tests.server.running import Running, running, wait_until

ASKED = {"inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}


def parameters(server: Running) -> dict[str, str]:
    told: dict[str, str] = server.ask("GET", "/v2/models/affine")[1]["parameters"]
    return told


def settled(server: Running, state: str) -> None:
    wait_until(lambda: f": {state}" in parameters(server).get("device_engine", ""), timeout_s=60)


def figures(server: Running) -> list[str]:
    text = server.ask("GET", "/metrics")[1].decode()
    return [line for line in text.splitlines() if line.startswith("ferryman_device_engine{")]


def status(server: Running) -> dict[str, object]:
    link = HTTPConnection(urlsplit(server.admin_url).netloc, timeout=30)
    link.request("GET", "/admin/status")
    [version] = json.loads(link.getresponse().read())["models"]["affine"]["versions"].values()
    link.close()
    return dict(version)


def test_metadata_figures_status_and_log_say_which_engine_answers(tmp_path: Path, misbuilding: Misbuilding) -> None:
    path = bundle_affine(tmp_path / "affine").path
    with running([path], device_engine="misbuilding", engines=tmp_path / "engines", admin_port=0) as server:
        settled(server, "serving")
        assert parameters(server)["engine"] == "misbuilding"
        assert server.infer("affine", ASKED)[1]["outputs"][0]["data"] == [3, 5, 7]
        [line] = figures(server)
        assert 'engine="misbuilding",state="serving"' in line and line.endswith(" 1.0")
        assert (status(server)["engine"], status(server)["device_engine"]) == ("misbuilding", "misbuilding: serving")
        assert server.stop() == 0


def test_callers_are_told_why_there_is_no_engine_and_no_path_of_the_cache(
    tmp_path: Path, misbuilding: Misbuilding
) -> None:
    path = bundle_affine(tmp_path / "affine").path
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines").chmod(0o777)
    with running([path], device_engine="misbuilding", engines=tmp_path / "engines") as server:
        settled(server, "refused")
        assert "others may write into the engines' folder" in parameters(server)["device_engine"]
        assert str(tmp_path) not in parameters(server)["device_engine"]
        assert parameters(server)["engine"] == "onnx"
        [line] = figures(server)
        assert 'state="refused"' in line and line.endswith(" 0.0")
        assert f"stays with its onnx engine; misbuilding: others may write into {tmp_path / 'engines'}" in server.log()
    assert not misbuilding.builds

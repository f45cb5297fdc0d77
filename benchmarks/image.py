"""Measure images: megabytes and seconds of `ferryman package`, cold, warm and after a change of the model alone.

Beside it, where asked: start to first right answer and peak memory in podman, of ONNX and of OpenVINO, beside what was
predicted (--podman); the same image through a Dockerfile and podman (--dockerfile); and a golden sample answered by the
arm64 image under qemu (--arm64; get qemu-aarch64 with scripts/containers).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from ferryman import api
from ferryman.demo import run as demo
from ferryman.oci.descriptor import Platform
from ferryman.oci.image import read_image
from ferryman.oci.layout import Layout

_BUILD = '\n[build]\ncandidates = ["{candidate}"]\n'
_GOLDEN = """
from dataclasses import replace
from pathlib import Path
from ferryman.bundle.golden import check_golden
from ferryman.bundle.read import load_bundle
from ferryman.core.plugins import runtime_for
from ferryman.core.task import bind_task
bundle = load_bundle(Path("/bundle"))
bundle = replace(bundle, golden=bundle.golden[:1])
session = runtime_for(bundle.artifact.format, serves=True).require()().load(bundle.artifact, threads=1)
checks = check_golden(bundle, bind_task(bundle.deployment.task, bundle.artifact.signature), session)
print(len(checks), [check.beyond for check in checks if check.beyond])
"""
_FOREIGN = "python:3.11-slim"
_CHECKS = ("start", "golden", "overload", "memory")
_FIGURES = {
    "first answer s": ("start", "first_answer_s"),
    "container MB": ("memory", "container_mb"),
    "its largest process MB": ("memory", "process_mb"),
}
PREDICTED = {
    "onnx-fp32": {"first answer s": 1.0, "container MB": 210, "its largest process MB": 190, "MB unpacked": 157},
    "openvino-fp32": {"first answer s": 1.4, "container MB": 300, "its largest process MB": 270, "MB unpacked": 228},
}
"""Written before the first measurement, for two quiet cores."""


def build(folder: Path, candidate: str, *, golden: int) -> Path:
    """Build the demo's detector in one format and precision; another number of golden samples is another bundle."""
    demo.CALIBRATION_PICTURES, demo.EVALUATION_PICTURES = 16, 16
    project = demo.make_project(folder, lambda *_, **__: None)
    text = (project / "ferryman.toml").read_text(encoding="utf-8").replace("p99_ms = 200\nat_rps = 20\n", "")
    text = text.replace("[data]\n", f"[data]\ngolden = {golden}\n") + _BUILD.format(candidate=candidate)
    (project / "ferryman.toml").write_text(text, encoding="utf-8")
    return api.build(project, output=folder / f"{candidate}-{golden}").bundle.path


def package(bundle: Path, output: Path, cache: Path, *words: str) -> tuple[float, dict[str, Any]]:  # JSON
    """Run the command in a process of its own; gives its seconds, start of Python included, and what it says."""
    command = [sys.executable, "-m", "ferryman", "package", str(bundle), "--tag", "localhost/ferryman-bench:1"]
    command += ["--output", str(output), "--json", "--quiet", *words]
    started = time.monotonic()
    result = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "FERRYMAN_CACHE": str(cache)}
    )
    return time.monotonic() - started, json.loads(result.stdout)


def row(case: str, seconds: float, said: dict[str, Any]) -> str:  # JSON
    """Give a line of the table."""
    parts = [part for image in said["images"] for part in image["parts"]]
    packed, unpacked = (sum(part[key] for part in parts) / 1e6 for key in ("size", "size_unpacked"))
    new = [part["size"] for part in parts if part["is_new"]]
    return f"| {case} | {seconds:.1f} | {packed:.1f} | {unpacked:.1f} | {sum(new) / 1e6:.2f} | {said['digest'][7:19]} |"


def measure(folder: Path, candidate: str) -> list[str]:
    """Package one bundle cold and warm, and then another of the same kind."""
    bundle, other = build(folder, candidate, golden=4), build(folder, candidate, golden=2)
    cache = folder / f"cache-{candidate}"
    cases = [("cold", bundle), ("warm", bundle), ("another model", other)]
    lines = [row(f"{candidate}, {name}", *package(one, folder / "image", cache)) for name, one in cases]
    shutil.rmtree(cache / "images" / "layers")
    lines.append(row(f"{candidate}, layers lost", *package(bundle, folder / "image", cache)))
    return lines


def unpack(layout: Path, machine: str, root: Path) -> Path:
    """Lay an image's layers over each other."""
    held = Layout.open(layout)
    image = read_image(held.blobs, held.find(), Platform("linux", machine))
    for layer in image.layers:
        with tarfile.open(held.blobs.path(layer.digest)) as tar:
            tar.extractall(root, filter="tar")
    return root


def arm64(folder: Path) -> list[str]:
    """Answer the golden samples in the arm64 image, under qemu."""
    bundle = build(folder, "onnx-fp32", golden=4)
    seconds, said = package(bundle, folder / "arm64", folder / "cache-arm64", "--platform", "linux/arm64")
    root = unpack(folder / "arm64", "arm64", folder / "root")
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        return [row("arm64, cold", seconds, said), "NOT RUN: no qemu-aarch64 here: scripts/containers installs it"]
    shutil.copyfile(Path(emulator).resolve(), root / "qemu")
    (root / "qemu").chmod(0o755)
    (root / "golden.py").write_text(_GOLDEN, encoding="utf-8")
    words = ["/usr/sbin/chroot", str(root), "/qemu", "/usr/local/bin/python3", "/golden.py"]
    result = subprocess.run(
        words, capture_output=True, text=True, timeout=600, env={"PYTHONPATH": "/opt/ferryman/site-packages"}
    )
    last = (result.stdout.strip() or result.stderr.strip()).splitlines()[-1]
    return [row("arm64, cold", seconds, said), f"golden samples under qemu, and those beyond tolerance: {last}"]


def podman(folder: Path, candidate: str, rounds: int) -> list[dict[str, Any]]:  # JSON
    """Start an image again and again, shut and limited as `ferryman verify` does it; gives each figure's median."""
    layout, name = folder / f"podman-{candidate}", f"localhost/ferryman-bench:{candidate}"
    _, said = package(build(folder, candidate, golden=4), layout, folder / f"cache-{candidate}")
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout}", f"containers-storage:{name}"], check=True)
    seen = {"MB unpacked": [sum(part["size_unpacked"] for part in said["images"][0]["parts"]) / 1e6]}
    try:
        for _ in range(rounds):
            found = api.verify_image(name, engine="podman", only=_CHECKS, max_start_s=60.0)
            outcomes = {one.id: one for one in found.outcomes}
            if outcomes["golden"].verdict != "passed":
                raise SystemExit(f"{candidate}: {outcomes['golden'].message}")
            for figure, (check, key) in _FIGURES.items():
                seen.setdefault(figure, []).append(float(outcomes[check].figures[key]))
    finally:
        subprocess.run(["podman", "rmi", "-f", name], check=False, capture_output=True)
    return [
        {"case": candidate, "figure": figure, "median": statistics.median(values), "least": min(values),
         "most": max(values), "predicted": PREDICTED.get(candidate, {}).get(figure)}
        for figure, values in seen.items()
    ]  # fmt: skip


def podman_table(rows: list[dict[str, Any]]) -> list[str]:  # JSON
    """Give the lines of a table."""
    return [
        "| image | figure | median | least to most | predicted |",
        "|---|---|---|---|---|",
        *(
            f"| {one['case']} | {one['figure']} | {one['median']:.3g} | {one['least']:.3g} to {one['most']:.3g} | "
            f"{one['predicted']} |"
            for one in rows
        ),
    ]


def dockerfile(folder: Path, base: str) -> list[str]:
    """Build the same with podman from the Dockerfile that we write, with the network that podman has."""
    bundle, context = build(folder, "onnx-fp32", golden=4), folder / "context"
    words = [sys.executable, "-m", "ferryman", "package", str(bundle), "--tag", "localhost/ferryman-bench:podman"]
    subprocess.run([*words, "--dockerfile", str(context), "--base", base, "--quiet"], check=True, capture_output=True)
    certificates = os.environ.get("PIP_CERT") or "/etc/ssl/certs/ca-certificates.crt"
    command = ["podman", "build", "-q", "--no-cache", "--network=host", "-v", f"{certificates}:/run/ca.crt:ro"]
    command += ["--build-arg", "PIP_CERT=/run/ca.crt", "-t", "localhost/ferryman-bench:podman", str(context)]
    started = time.monotonic()
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        return [f"NOT RUN: podman build: {result.stderr.strip().splitlines()[-1]}"]
    seconds = time.monotonic() - started
    words = ["podman", "image", "inspect", "localhost/ferryman-bench:podman", "--format", "{{.Size}}"]
    size = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    subprocess.run(["podman", "rmi", "-f", "localhost/ferryman-bench:podman"], check=True, capture_output=True)
    return [f"| podman build of the Dockerfile on {base} | {seconds:.1f} | | {size / 1e6:.1f} | | |"]


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidate", action="append", default=[], help="onnx-fp32, openvino-fp32 ... (onnx-fp32)")
    parser.add_argument("--podman", action="store_true", help="start ONNX's and OpenVINO's image, ask it and load it")
    parser.add_argument("--rounds", type=int, default=5, help="so many starts of each (5)")
    parser.add_argument(
        "--dockerfile", metavar="BASE", nargs="?", const=_FOREIGN, help="build with podman, too, on BASE"
    )
    parser.add_argument("--arm64", action="store_true", help="make the arm64 image, and ask it under qemu")
    parser.add_argument("--json", action="store_true", help="what --podman measures, as JSON, and no table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        if arguments.podman:
            cases = arguments.candidate or list(PREDICTED)
            rows = [one for case in cases for one in podman(folder, case, arguments.rounds)]
            print(json.dumps(rows, indent=1) if arguments.json else "\n".join(podman_table(rows)), flush=True)
        if arguments.json:
            return 0
        print("| case | seconds | MB | MB unpacked | MB new | digest |\n|---|---|---|---|---|---|")
        for candidate in arguments.candidate or ["onnx-fp32"]:
            print("\n".join(measure(folder, candidate)), flush=True)
        if arguments.dockerfile:
            print("\n".join(dockerfile(folder, arguments.dockerfile)), flush=True)
        if arguments.arm64:
            print("\n".join(arm64(folder)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

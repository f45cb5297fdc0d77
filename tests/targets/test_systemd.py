"""The units that are rendered for systemd."""

import subprocess
from pathlib import Path

import pytest

from ferryman.core.errors import ConfigError
from ferryman.core.progress import silent
from tests.targets.making import landing, render, target

FULL = {
    "address": "0.0.0.0:9000", "keys": "/etc/ferryman/keys.json", "network": True, "devices": ["/dev/nvidia0"],
    "env": {"OTEL_SERVICE_NAME": "street 100% \"sure\""}, "options": ["--cors", "https://a.example.com"],
}  # fmt: skip


def service(**section: object) -> str:
    return render("systemd", section)["ferryman-street.service"]


@pytest.mark.tool("systemd-analyze")
@pytest.mark.parametrize("section", [{}, FULL], ids=["plain", "full"])
def test_systemd_accepts_the_units(section: dict[str, object], tmp_path: Path) -> None:
    program = tmp_path / "ferryman"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    files = render("systemd", {**section, "program": str(program)})
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in files)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    # Keys of systemd 254: an older one leaves them out, and says so.
    assert [line for line in said if "RestartSteps" not in line and "RestartMaxDelaySec" not in line] == []
    assert done.returncode == 0, done.stderr


@pytest.mark.tool("systemd-analyze")
def test_the_service_may_do_next_to_nothing(tmp_path: Path) -> None:
    file = tmp_path / "ferryman-street.service"
    file.write_text(service(program="/bin/true"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=15", file],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-300:]  # exposure 1.5 of 10 or less


def test_limits_are_the_contracts() -> None:
    unit = render("systemd", memory_mb=700, cpus=1.5)["ferryman-street.service"]
    assert "\nMemoryMax=700M\n" in unit
    assert "\nCPUQuota=150%\n" in unit


def test_restarts_lose_no_caller_since_the_socket_stays() -> None:
    files = render("systemd", {"address": "0.0.0.0:9000", "drain_s": 60})
    assert "\nListenStream=0.0.0.0:9000\n" in files["ferryman-street.socket"]
    unit = files["ferryman-street.service"]
    assert "--host systemd" in unit
    assert "\nTimeoutStopSec=70\n" in unit


def test_a_service_that_needs_no_network_has_none() -> None:
    assert "\nPrivateNetwork=yes\n" in service()
    assert "PrivateNetwork" not in service(network=True)


def test_what_means_something_to_systemd_is_escaped() -> None:
    unit = service(**FULL)
    assert 'Environment="OTEL_SERVICE_NAME=street 100%% \\"sure\\""' in unit
    assert "LoadCredential=keys:/etc/ferryman/keys.json" in unit
    assert "--keys %d/keys" in unit


def test_a_dollar_means_something_in_a_command_alone() -> None:
    unit = service(env={"ODD": "$HOME"}, options=["--cors", "$HOME"])
    assert "\nEnvironment=ODD=$HOME\n" in unit  # systemd.exec(5): no special meaning there
    assert " --cors $$HOME\n" in unit


def test_an_image_alone_is_not_enough() -> None:
    with pytest.raises(ConfigError, match="carries a bundle's files"):
        target("systemd").apply(landing(), dry_run=True, progress=silent)

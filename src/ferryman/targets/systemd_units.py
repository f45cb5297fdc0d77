"""The units of a landing: a socket that is always there, and a service that may do next to nothing beside."""

import math
from dataclasses import dataclass

from ferryman.core.target import Landing

_SPARE_S = 10
_HARDENED = """\
DynamicUser=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
PrivateTmp=yes
PrivateIPC=yes
RemoveIPC=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
KeyringMode=private
UMask=0077
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
"""


def unit_name(name: str) -> str:
    """Give the service's name without its suffix."""
    return f"ferryman-{name}"


def socket_unit(landing: Landing, address: str) -> str:
    """Give the socket: it stays while the service restarts, and callers wait in its queue."""
    return f"""\
# Written by ferryman deploy: what is changed here is written over.
[Unit]
Description=Port of {landing.model}, served by Ferryman

[Socket]
ListenStream={address}
Backlog=4096
NoDelay=yes

[Install]
WantedBy=sockets.target
"""


@dataclass(frozen=True, slots=True)
class Choices:
    """Hold what the target's settings come to; `credentials` are files by name, which only the service may read."""

    command: list[str]
    credentials: dict[str, str]
    env: dict[str, str]
    devices: tuple[str, ...]
    has_network: bool
    drain_s: int
    start_s: int


def service_unit(landing: Landing, choices: Choices) -> str:
    """Give the service. Without a network of its own it has only the connections that the socket gave it."""
    unit = unit_name(landing.name)
    memory = f"{landing.memory_mb}M"
    given = "".join(f"LoadCredential={name}:{path}\n" for name, path in choices.credentials.items())
    named = "".join(
        f"Environment={_quoted(f'{name}={choices.env[name]}', dollar='$')}\n" for name in sorted(choices.env)
    )
    reached = "AF_UNIX AF_INET AF_INET6"
    network = f"RestrictAddressFamilies={reached}\n" + ("" if choices.has_network else "PrivateNetwork=yes\n")
    seen = "".join(f"DeviceAllow={device} rw\n" for device in choices.devices) or "PrivateDevices=yes\n"
    return f"""\
# Written by ferryman deploy: what is changed here is written over.
[Unit]
Description={landing.model}, served by Ferryman
Requires={unit}.socket
After={unit}.socket
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={" ".join(_quoted(word) for word in choices.command)}
Restart=always
RestartSec=1
RestartSteps=6
RestartMaxDelaySec=60
TimeoutStartSec={choices.start_s}
TimeoutStopSec={choices.drain_s + _SPARE_S}
WatchdogSec=30
KillMode=mixed
OOMPolicy=continue
MemoryMax={memory}
MemorySwapMax=0
CPUQuota={math.ceil(landing.cpus * 100)}%
TasksMax=1024
LimitNOFILE=65536
{named}{given}{network}DevicePolicy=closed
{seen}{_HARDENED}
[Install]
WantedBy=multi-user.target
Also={unit}.socket
"""


def _quoted(word: str, dollar: str = "$$") -> str:
    """Quote a word as systemd.syntax(7) has it. $ means something in commands, and nothing in Environment=."""
    safe = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    if not word.startswith("%d/"):
        safe = safe.replace("%", "%%").replace("$", dollar)
    return safe if safe.isprintable() and " " not in safe and "'" not in safe and '"' not in safe else f'"{safe}"'

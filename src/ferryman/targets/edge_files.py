"""What an edge box is given beside Python, packages and the bundle: units, settings, and a script that installs."""

from collections.abc import Sequence
from pathlib import Path

PREFIX = "/opt/ferryman"
STATE = "/var/lib/ferryman"
SETTINGS = "/etc/ferryman"
USER = 65532
PYTHON = "/usr/local/bin/python3"
_SCRIPT = Path(__file__).with_name("edge_install.sh")
_HARDENED = f"""\
User={USER}
Group={USER}
RootDirectory=@RUNTIME@
MountAPIVFS=yes
PrivateTmp=yes
PrivateDevices=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
BindReadOnlyPaths={SETTINGS} -/etc/resolv.conf -/etc/hosts
Environment=PYTHONPATH=/opt/ferryman/site-packages PYTHONDONTWRITEBYTECODE=1
Environment=SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
"""
SOCKET = """\
[Unit]
Description=Port of the bundle that Ferryman serves

[Socket]
ListenStream=@ADDRESS@
Backlog=4096

[Install]
WantedBy=sockets.target
"""
SERVER = f"""\
[Unit]
Description=The bundle of this box, served by Ferryman
Requires=ferryman-edge.socket
After=ferryman-edge.socket
StartLimitIntervalSec=0

[Service]
ExecStartPre=-{PYTHON} -m ferryman fleet boot --quiet --box {SETTINGS}/box.toml
ExecStart={PYTHON} -m ferryman serve {STATE}/current --host systemd --admin-port 8081 \\
  --state {STATE}/serving --access-log off
Restart=always
RestartSec=2
TimeoutStopSec=40
KillMode=mixed
MemoryMax=@MEMORY@M
BindPaths={STATE}
{_HARDENED}
[Install]
WantedBy=multi-user.target
"""
AGENT = f"""\
[Unit]
Description=Follows the releases of this box's fleet
After=network.target

[Service]
ExecStart={PYTHON} -m ferryman fleet agent --box {SETTINGS}/box.toml
Restart=always
RestartSec=10
MemoryMax=512M
BindPaths={STATE}
{_HARDENED}
[Install]
WantedBy=multi-user.target
"""


def box_toml(fleet: str, releases: str, keys: Sequence[str], port: int) -> str:
    """Give a box's settings; its name is the machine's, and its group is its owner's to choose."""
    listed = ", ".join(f'"keys/{key}"' for key in keys)
    return f"""\
fleet = "{fleet}"
group = "default"
releases = "{releases}"
keys = [{listed}]
root = "{STATE}"

[service]
url = "http://127.0.0.1:{port}"
admin = "http://127.0.0.1:8081"
"""


def install_script(machines: str, platform: str) -> str:
    """Give the script for machines that call themselves so."""
    text = _SCRIPT.read_text(encoding="utf-8")
    return text.replace("@MACHINES@", machines).replace("@PLATFORM@", platform)

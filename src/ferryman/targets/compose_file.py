"""The Compose file of a landing, and the front that divides requests between several copies."""

from dataclasses import dataclass
from typing import Any

from ferryman.core.target import Landing

PORT = 8080
SERVER, FRONT = "server", "front"
COMPOSE, FRONT_CONFIG = "compose.yaml", "haproxy.cfg"
_MIB = 1024 * 1024
SPARE_S = 10
_MOST_COPIES = 32
_ASK = "import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/v2/health/ready', timeout=2)"
_LOGGING = {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}
_SEALED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "restart": "unless-stopped",
    "logging": _LOGGING,
}

# TCP, not HTTP: what a connection carries (HTTP/1.1, gRPC, WebSocket) is between the caller and the server, which asks
# its callers to come back on another connection before it leaves. Names are looked up again each second. A check waits
# longer than it takes to come round: on a busy host a slow answer is no reason to have nobody to send callers to.
_HAPROXY = """\
global
    maxconn 4096
defaults
    mode tcp
    timeout connect 2s
    timeout client 15m
    timeout server 15m
    timeout check 5s
    retries 3
    option redispatch 1
resolvers host
    parse-resolv-conf
    resolve_retries 3
    timeout resolve 1s
    timeout retry 1s
    hold valid 1s
    hold obsolete 2s
frontend callers
    bind :{port}
    default_backend copies
backend copies
    balance leastconn
    option httpchk GET /v2/health/ready
    http-check expect status 200
    default-server check inter 500ms fall 1 rise 1 resolvers host init-addr none
    server-template copy 1-{most} {server}:{port}
"""


def project(name: str) -> str:
    """Give the Compose project's name, by which everything is found again."""
    return f"ferryman-{name}"


@dataclass(frozen=True, slots=True)
class Choices:
    """Hold what the target's settings come to: `serve` is the container's command, `files` its secrets by name."""

    serve: list[str]
    files: dict[str, str]
    env: dict[str, str]
    address: str
    grace_s: int
    replicas: int
    front: str


def compose_file(landing: Landing, choices: Choices) -> dict[str, Any]:  # JSON
    """Give the Compose file; the server finds its secrets under /run/secrets. A $ of the settings stays one."""
    files, env, front = choices.files, choices.env, choices.front
    server: dict[str, Any] = {  # JSON
        "image": landing.image,
        "command": choices.serve,
        "user": "65532:65532",
        **_SEALED,
        "mem_limit": landing.memory_mb * _MIB,
        "memswap_limit": landing.memory_mb * _MIB,
        "cpus": landing.cpus,
        "pids_limit": 1024,
        "shm_size": max(64, landing.memory_mb // 4) * _MIB,
        "stop_grace_period": f"{choices.grace_s + SPARE_S}s",
        "healthcheck": {
            "test": ["CMD", "/usr/local/bin/python3", "-c", _ASK.format(port=PORT)],
            "interval": "5s",
            "timeout": "10s",
            "retries": 2,
            "start_period": "120s",
        },
        "labels": {"ferryman/bundle": landing.digest, **landing.labels},
        **({"environment": {key: env[key] for key in sorted(env)}} if env else {}),
        **({"secrets": [{"source": name, "target": name} for name in files]} if files else {}),
    }
    services: dict[str, Any] = {SERVER: server}
    published = [f"{choices.address}:{PORT}"]
    whole: dict[str, Any] = {"name": project(landing.name), "services": services}
    if front:
        server["scale"] = choices.replicas
        services[FRONT] = _front(front, published)
        whole["configs"] = {FRONT: {"file": f"./{FRONT_CONFIG}"}}
    else:
        server["ports"] = published
    if files:
        whole["secrets"] = {name: {"file": path} for name, path in files.items()}
    return {key: _literal(value) for key, value in whole.items()}


def _literal(value: Any) -> Any:  # JSON
    """Write $ as Compose wants it, or it puts variables of the deployer's shell in."""
    if isinstance(value, dict):
        return {key: _literal(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_literal(inner) for inner in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _front(image: str, published: list[str]) -> dict[str, Any]:  # JSON
    at = f"/usr/local/etc/haproxy/{FRONT_CONFIG}"
    return {
        "image": image,
        "command": ["haproxy", "-W", "-db", "-f", at],
        **_SEALED,
        "ports": published,
        "configs": [{"source": FRONT, "target": at}],
        "mem_limit": 128 * _MIB,
        "stop_signal": "SIGUSR1",
        "stop_grace_period": "30s",
    }


def front_config() -> str:
    """Give HAProxy's configuration."""
    return _HAPROXY.format(port=PORT, server=SERVER, most=_MOST_COPIES)

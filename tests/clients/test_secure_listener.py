"""Clients that verify a certificate, against the proxy's own TLS: from files, and self-signed."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import trustme
from websockets.sync.client import connect

from tests.clients.processes import (
    PATIENCE,
    READER,
    SHARED_ROUTES,
    STUDIO,
    Process,
    Proxies,
    Proxy,
    Sandbox,
    callers,
    environment,
    needed_program,
)

CURL = needed_program("curl")
MODELS = "/llm/v1alpha/models"
SESSION = "/api/v1/realtime/session?key=py&protocol=realtime"


class Secure(NamedTuple):
    """A proxy that speaks TLS, and the file of the authority that it is trusted for."""

    proxy: Proxy
    ca_file: str


def write_private(path: Path, content: bytes) -> str:
    """A file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_bytes(content)
    return str(path)


@pytest.fixture(scope="module")
def secure(proxies: Proxies, tmp_path_factory: pytest.TempPathFactory) -> Secure:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued = authority.issue_cert("localhost", "127.0.0.1")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    files = {
        "cert": write_private(folder / "cert.pem", chain),
        "key": write_private(folder / "key.pem", issued.private_key_pem.bytes()),
    }
    process = proxies.begin("secure", {**SHARED_ROUTES, "callers": callers(), "tls": files})
    return Secure(proxies.ready(process), str(folder / "ca.pem"))


def test_curl_verifies_the_proxy_and_is_served(secure: Secure) -> None:
    assert secure.proxy.url.startswith("https://127.0.0.1:")
    command = [CURL, "-sS", "--cacert", secure.ca_file, "-H", f"Authorization: Bearer {STUDIO}",
               "-w", "%{http_code} %{http_version} %{ssl_verify_result}", "-o", os.devnull]  # fmt: skip
    done = subprocess.run(
        [*command, secure.proxy.url + MODELS],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "200 1.1 0", "")


def test_httpx_and_websockets_verify_the_proxy_and_are_served(secure: Secure, sandbox: Sandbox) -> None:
    context = ssl.create_default_context(cafile=secure.ca_file)
    bearer = {"Authorization": f"Bearer {STUDIO}"}
    assert httpx.get(secure.proxy.url + MODELS, headers=bearer, verify=context).status_code == 200
    with connect(secure.proxy.ws + SESSION, ssl=context, additional_headers=bearer, proxy=None) as socket:
        assert "session.created" in str(socket.recv(timeout=PATIENCE))
    first, second = sandbox.seen()
    assert (first["operation"], second["operation"]) == ("models.list", "realtime.session")
    assert second["closeCode"] == 1000


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, str, Path]]:
    """``serve --tls self-signed`` as a person starts it: the process, its address, and the file that it names."""
    cache = tmp_path_factory.mktemp("cache")
    process = Process(
        "serve", "--tls", "self-signed", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
        environ=environment(XDG_CACHE_HOME=str(cache)),
    )  # fmt: skip
    url = process.announced(process.err, r" on (https://\S+) ->")[1]
    file = Path(process.announced(process.err, r"NODE_EXTRA_CA_CERTS=(\S+) ")[1])
    process.announced(process.err, r"SSL_CERT_FILE=")
    yield process, url, file
    assert process.end() == 0


def test_a_self_signed_certificate_is_written_without_its_key_and_clients_trust_the_file(
    self_signed: tuple[Process, str, Path],
) -> None:
    process, url, file = self_signed
    written = file.read_text(encoding="ascii")
    assert written.count("BEGIN") == written.count("BEGIN CERTIFICATE") == 1
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    told = "".join(process.err)
    digest = re.search(r"SHA-256 ([0-9A-F:]{95})\n", told)
    shown = ssl.get_server_certificate(("127.0.0.1", int(url.rpartition(":")[2])), ca_certs=str(file))
    assert shown == written
    fingerprint = subprocess.run(
        ["openssl", "x509", "-in", str(file), "-noout", "-fingerprint", "-sha256"],
        capture_output=True, text=True, check=True, env=environment(),
    )  # fmt: skip
    assert digest is not None
    assert fingerprint.stdout.strip().endswith(digest[1])
    for name in (url, url.replace("127.0.0.1", "localhost")):
        context = ssl.create_default_context(cafile=str(file))
        assert httpx.get(name + MODELS, verify=context).status_code == 200
    with pytest.raises(httpx.ConnectError, match=r"self.signed"):
        httpx.get(url + MODELS)


def test_what_is_printed_for_curl_works(self_signed: tuple[Process, str, Path]) -> None:
    process, _, _ = self_signed
    line = next(line for line in process.err if "--cacert" in line and line.strip().startswith("curl -i"))
    command = line.split(" #")[0].split()
    curl = [CURL, "-sS", *command[1:-2], "-d", "{}"]
    done = subprocess.run(curl, capture_output=True, check=False, text=True, timeout=PATIENCE, env=environment())
    assert (done.returncode, done.stdout.split()[1]) == (0, "403")


def test_openais_realtime_client_for_node_converses_over_wss(secure: Secure, sandbox: Sandbox) -> None:
    node = pytest.importorskip("tests.clients.test_node")
    told: Any = node.told_by(
        "realtime.mjs", environ={"NODE_EXTRA_CA_CERTS": secure.ca_file},
        https=secure.proxy.url, wss=secure.proxy.ws, token=STUDIO, reader=READER, says="hello",
    )  # fmt: skip
    assert told["said"] == "".join(told["deltas"]) == 'Hello from the sandbox. You said "hello", which is 1 word.'
    assert told["closed"] == 1000
    # Without the option it appends /realtime to any address, and that is no operation.
    assert "Unexpected server response: 404" in told["appended"]
    assert "Unexpected server response: 403" in told["denied"]
    seen = sandbox.only()
    assert seen["target"] == "/api/v1/realtime/session?key=node&protocol=realtime"
    assert (seen["operation"], seen["credential"], seen["closeCode"]) == ("realtime.session", "realtime-only", 1000)

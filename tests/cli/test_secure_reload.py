"""A certificate that is replaced while the proxy runs, and one that is broken: what new connections are shown."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import trustme

from tests.cli.test_reload import Running, running
from tests.cli.test_serve import PATIENCE, ROOT, end
from tests.settings.test_examples import ENVIRON


class Shown:
    """The two files, and a client that trusts what was last put into them."""

    def __init__(self, folder: Path) -> None:
        self._cert, self._key = folder / "cert.pem", folder / "key.pem"
        self._key.touch(mode=0o600)
        self.context = self.replace()

    def replace(self) -> ssl.SSLContext:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self._cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self._key.write_bytes(issued.private_key_pem.bytes())
        self.context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        return self.context

    def break_key(self) -> None:
        self._key.write_bytes(trustme.CA().private_key_pem.bytes())


def open_to(proxy: Running, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    connection = http.client.HTTPSConnection(proxy.data, timeout=PATIENCE, context=context)
    connection.connect()
    return connection


def status(connection: http.client.HTTPSConnection) -> int:
    connection.request("GET", "/nothing")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_a_replaced_certificate_is_shown_to_new_connections_and_a_broken_one_is_not(tmp_path: Path) -> None:
    shown = Shown(tmp_path)
    path = tmp_path / "proxy.yaml"
    path.write_text("tls: {cert: cert.pem, key: key.pem}\n", encoding="utf-8")
    with running("--config", str(path)) as proxy:
        first = open_to(proxy, shown.context)
        assert status(first) == 404
        shown.replace()
        proxy.until("configuration reloaded")
        second = open_to(proxy, shown.context)
        assert (status(first), status(second)) == (404, 404)

        shown.break_key()
        said = proxy.until("does not belong to the certificate")
        assert "configuration not reloaded (its files changed): the one read before stays in force" in said
        assert f"{path}:1" in said
        third = open_to(proxy, shown.context)
        assert (status(first), status(second), status(third)) == (404, 404, 404)
        assert proxy.metric("configuration_reload_failed") == 1
        shown.replace()
        proxy.until("configuration reloaded")
        fourth = open_to(proxy, shown.context)
        assert status(fourth) == 404
        for connection in (first, second, third, fourth):
            connection.close()


def test_an_inherited_socket_speaks_tls_too(tmp_path: Path) -> None:
    shown = Shown(tmp_path)
    path = tmp_path / "proxy.yaml"
    path.write_text("admin: 127.0.0.1:0\ntls: {cert: cert.pem, key: key.pem}\n", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as given:
        number = given.fileno()
        command = [sys.executable, "-m", "proxy", "serve", "--config", str(path), "--fd", str(number)]
        environ = {**os.environ, **ENVIRON}
        with subprocess.Popen(
            command, cwd=ROOT, env=environ, text=True, stderr=subprocess.PIPE, pass_fds=(number,)
        ) as process:
            proxy = Running(process, f"127.0.0.1:{given.getsockname()[1]}", "")
            assert f" on https://{proxy.data} ->" in proxy.until("metrics: ")
            connection = open_to(proxy, shown.context)
            assert status(connection) == 404
            connection.close()
            assert end(process) == 0

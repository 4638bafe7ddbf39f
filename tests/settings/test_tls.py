"""``tls``: which certificates and keys are taken, and what is said of those that are not."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy.cli.check import describe_snapshot
from proxy.core.model import Snapshot
from proxy.document import Fault
from proxy.settings.load import Overrides, SettingsError, load_settings
from proxy.settings.self_signed import LIFETIME, make_self_signed
from proxy.tls import listener_context
from tests.privileges import without
from tests.settings.conftest import ENVIRON

PATIENCE = 100
"""Seconds for one command, which takes one."""

Load = Callable[..., Snapshot]
FaultsOf = Callable[..., tuple[Fault, ...]]

TLS = "listen: 127.0.0.1:8443\ntls:\n  cert: cert.pem\n  key: key.pem\n"
SELF_SIGNED = "tls: {self_signed: true}\n"
_NOW = dt.datetime.now(dt.UTC)
_DAY = dt.timedelta(days=1)
_PEM, _PKCS8, _PLAIN = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()


class Files:
    """A certificate and its key as files: ``cert.pem`` and ``key.pem``."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.key.touch(mode=0o600)
        self.authority = trustme.CA()
        self.issue("localhost")

    def issue(self, *names: str, begins: dt.timedelta = -10 * _DAY, ends: dt.timedelta = _DAY) -> None:
        issued = self.authority.issue_cert(*names, not_before=_NOW + begins, not_after=_NOW + ends)
        self.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())

    def sign_weakly(self) -> None:
        """A key of 1024 bits, which OpenSSL does not serve with."""
        key = rsa.generate_private_key(65537, 1024)
        name = x509.Name([])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(7).not_valid_before(_NOW).not_valid_after(_NOW + _DAY)
        self.cert.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(_PEM))
        self.key.write_bytes(key.private_bytes(_PEM, _PKCS8, _PLAIN))

    def twist(self) -> None:
        """A certificate that says of its P-256 key that it is on a curve that nobody has used since."""
        der = ssl.PEM_cert_to_DER_cert(self.cert.read_text(encoding="ascii"))
        p256, prime192v2 = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030102")
        assert p256 in der
        self.cert.write_text(ssl.DER_cert_to_PEM_cert(der.replace(p256, prime192v2)), encoding="ascii")

    def encrypt(self) -> None:
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        secret = serialization.BestAvailableEncryption(b"secret")
        self.key.write_bytes(key.private_bytes(_PEM, _PKCS8, secret))

    def turn_round(self) -> None:
        self.cert.write_bytes(self.authority.cert_pem.bytes() + self.cert.read_bytes())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_certificate_and_its_key_are_loaded_and_both_files_are_watched(load: Load, files: Files) -> None:
    snapshot = load(TLS)
    assert snapshot.tls is not None
    assert snapshot.tls.certificates == files.cert.read_text()
    assert snapshot.tls.names == ("localhost",)
    assert snapshot.tls.expires == pytest.approx((_NOW + _DAY).timestamp(), abs=2)
    assert {str(files.cert), str(files.key)} < set(snapshot.files)
    context = cast("ssl.SSLContext", snapshot.tls.context)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    weak = [each["name"] for each in context.get_ciphers() if not each["aead"]]
    assert weak == []
    assert "PRIVATE" not in repr(snapshot)
    assert load("mode: enforce").tls is None


def unreadable(files: Files) -> None:
    files.key.chmod(0o644)


DEFECTS: dict[str, tuple[Callable[[Files], object], int, str, str]] = {
    "no file": (lambda files: files.cert.unlink(), 3, "does not exist", "correct the path"),
    "no key file": (lambda files: files.key.unlink(), 4, "does not exist", "correct the path"),
    "a folder": (lambda files: (files.key.unlink(), files.key.mkdir()), 4, "is a directory", "name the file"),
    "a key for everyone": (unreadable, 4, "everyone on this machine can read", "chmod 600"),
    "no certificate": (lambda files: files.cert.write_text("hello"), 3, "without a usable certificate", "PEM"),
    "no key": (lambda files: files.key.write_text("hello"), 4, "without a usable private key", "PEM"),
    "nothing": (lambda files: files.key.write_text(""), 4, "is empty", "put"),
    "a passphrase": (Files.encrypt, 4, "with a passphrase", "openssl pkey"),
    "another key": (
        lambda files: files.key.write_bytes(_new_key()),
        4,
        "not belong to the certificate of `localhost`",
        "together",
    ),
    "the issuer first": (Files.turn_round, 3, "in another order", "own first"),
    "an unknown curve": (Files.twist, 3, "for a kind of key that is not known", "P-256"),
    "a short key": (Files.sign_weakly, 3, "too short", "2048"),
}


def _new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(_PEM, _PKCS8, _PLAIN)


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_of_the_two_files_is_one_fault_with_its_line_and_a_remedy(
    faults_of: FaultsOf, files: Files, defect: str
) -> None:
    change, line, found, remedy = DEFECTS[defect]
    change(files)
    (fault,) = faults_of(TLS)
    assert (fault.line, fault.path) == (line, "tls.cert" if line == 3 else "tls.key")
    assert found in fault.found, str(fault)
    assert remedy in fault.remedy, str(fault)
    assert "PRIVATE" not in str(fault)


def test_what_others_can_read_is_taken_where_the_configuration_says_so(load: Load, files: Files) -> None:
    files.key.chmod(0o644)
    assert load(TLS + "  allow_readable: true\n").tls is not None


def test_a_file_that_may_not_be_read_is_a_fault(tmp_path: Path, files: Files) -> None:
    files.key.chmod(0o000)
    (tmp_path / "proxy.yaml").write_text(TLS, encoding="utf-8")
    check = [sys.executable, "-m", "proxy", "check", "--config", str(tmp_path / "proxy.yaml")]
    done = subprocess.run(
        [*without("dac_override", "dac_read_search"), *check],
        env={**os.environ, **ENVIRON}, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "proxy.yaml:4:3: tls.key: " in done.stderr, done.stdout + done.stderr
    assert "cannot be read" in done.stderr


@pytest.mark.parametrize(("begins", "ends", "says"), [(-10, -1, "expired on"), (1, 10, "is valid from")])
def test_a_certificate_out_of_its_time_is_taken_with_a_warning(
    load: Load, files: Files, caplog: pytest.LogCaptureFixture, begins: int, ends: int, says: str
) -> None:
    files.issue("localhost", begins=begins * _DAY, ends=ends * _DAY)
    assert load(TLS).tls is not None
    (record,) = caplog.records
    assert says in record.getMessage()
    assert "cert.pem" in record.getMessage()


def test_check_says_for_which_names_and_until_when(load: Load, files: Files) -> None:
    lines = [line for line in describe_snapshot(load(TLS)) if line.startswith("tls ")]
    assert lines == [f"tls         for localhost, until {_NOW + _DAY:%Y-%m-%d %H:%M} UTC"]
    (made,) = [line for line in describe_snapshot(load(SELF_SIGNED)) if line.startswith("tls ")]
    assert made.startswith("tls         self-signed, for localhost, 127.0.0.1, ::1, until ")


def test_explain_needs_neither_file(tmp_path: Path) -> None:
    (tmp_path / "proxy.yaml").write_text(TLS, encoding="utf-8")
    assert load_settings(tmp_path / "proxy.yaml", ENVIRON, Overrides(listens=False)).tls is None


def test_what_is_read_again_and_is_the_same_stays_with_what_callers_may_resume(tmp_path: Path, files: Files) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text(TLS, encoding="utf-8")
    first = load_settings(path, ENVIRON)
    again = load_settings(path, ENVIRON, keep=first)
    assert again.tls is first.tls
    files.issue("localhost", "other.example")
    other = load_settings(path, ENVIRON, keep=again)
    assert other.tls is not None
    assert other.tls.names == ("localhost", "other.example")
    files.key.write_bytes(_new_key())
    with pytest.raises(SettingsError):
        load_settings(path, ENVIRON, keep=other)


# -- self-signed ------------------------------------------------------------------------------------------------------


def test_a_self_signed_certificate_is_for_the_names_by_which_the_proxy_is_reached(load: Load, tmp_path: Path) -> None:
    text = "listen: 127.0.0.7:8443\nhosts: [proxy.test]\n"
    snapshot = load(text, overrides=Overrides(self_signed=True))
    assert snapshot.tls is not None
    assert snapshot.tls.self_signed
    assert snapshot.tls.names == ("localhost", "127.0.0.1", "::1", "127.0.0.7", "proxy.test")
    (made,) = x509.load_pem_x509_certificates(snapshot.tls.certificates.encode())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "proxy.test"]
    addresses = [ipaddress.ip_address(each) for each in ("127.0.0.1", "::1", "127.0.0.7")]
    assert names.get_values_for_type(x509.IPAddress) == addresses
    assert (made.not_valid_after_utc - dt.datetime.now(dt.UTC)) <= LIFETIME
    assert [path.name for path in tmp_path.iterdir()] == ["proxy.yaml"]
    assert load(SELF_SIGNED).tls != snapshot.tls


def test_a_self_signed_certificate_stays_when_the_configuration_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text(SELF_SIGNED, encoding="utf-8")
    first = load_settings(path, ENVIRON)
    path.write_text(SELF_SIGNED + "mode: audit\n", encoding="utf-8")
    assert load_settings(path, ENVIRON, keep=first).tls is first.tls


def test_a_self_signed_certificate_is_made_again_for_other_names(tmp_path: Path) -> None:
    path = tmp_path / "proxy.yaml"
    path.write_text(SELF_SIGNED, encoding="utf-8")
    first = load_settings(path, ENVIRON)
    path.write_text(SELF_SIGNED + "hosts: [dev.example]\n", encoding="utf-8")
    again = load_settings(path, ENVIRON, keep=first).tls
    assert again is not None
    assert "dev.example" in again.names
    ended = replace(first, tls=replace(again, expires=0.0))
    assert load_settings(path, ENVIRON, keep=ended).tls is not ended.tls


def test_the_command_line_stands_before_the_file(load: Load, files: Files) -> None:
    files.key.unlink()
    made = load(TLS, overrides=Overrides(self_signed=True)).tls
    assert made is not None
    assert made.self_signed


def test_a_self_signed_certificate_may_sign_no_other() -> None:
    (made,) = x509.load_pem_x509_certificates(make_self_signed(["localhost"], _NOW).certificate)
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert made.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is False


def test_two_that_do_not_belong_together_are_an_error_also_without_the_settings() -> None:
    made = make_self_signed(["localhost"], _NOW)
    with pytest.raises(OSError):  # noqa: PT011 - OpenSSL's own, whose text differs by version
        listener_context(made.certificate, _new_key())
    with pytest.raises(OSError):  # noqa: PT011
        listener_context(b"x" * 200_000, made.key)

"""Certificates that an upstream or the listener shows: good ones, and one for every defect that must be refused.

Every defective certificate but the two whose defect is their issuer comes from the very authority that is trusted, so
that nothing but the defect can be what is refused.
"""

from __future__ import annotations

import datetime as dt
import ssl
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy.core.model import ListenerTls
from proxy.tls import listener_context

HOST = "localhost"
DEEP = "a.b.example"
"""A name that ``*.example`` does not cover: a wildcard stands for one label (RFC 9525 section 6.3)."""

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_DAY = dt.timedelta(days=1)


class Shown(NamedTuple):
    """What a server shows and to whom: its context (None: it speaks no TLS), and the name that it is asked for by."""

    context: ssl.SSLContext | None
    host: str = HOST


class Certificates:
    """One authority, and what it and others issue. ``folder`` takes the files that OpenSSL wants to read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self._stranger = trustme.CA()
        self._issuer_key = serialization.load_pem_private_key(self._authority.private_key_pem.bytes(), None)
        self._issuer = x509.load_pem_x509_certificate(self._authority.cert_pem.bytes())
        self.ca_file = str(folder / "ca.pem")
        self._authority.cert_pem.write_to_path(self.ca_file)

    def good(self, *names: str) -> ssl.SSLContext:
        """The context of a server with a certificate for these names."""
        return self._of(self._authority, *names)

    def listener(self, *names: str) -> ListenerTls:
        """What a listener shows: the same, made in the way in which the product makes it."""
        issued = self._authority.issue_cert(*(names or (HOST, "127.0.0.1")))
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        ends = x509.load_pem_x509_certificate(chain).not_valid_after_utc.timestamp()
        return ListenerTls(listener_context(chain, issued.private_key_pem.bytes()), chain.decode(), ends)

    def file(self, *names: str) -> str:
        """A file with such certificates and their key."""
        path = self._folder / "listener.pem"
        self._authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)

    def trusting(self) -> ssl.SSLContext:
        """A client that trusts this authority and no other."""
        return ssl.create_default_context(cafile=self.ca_file)

    def by_stranger(self, *names: str) -> ssl.SSLContext:
        """The same, issued by an authority that nobody trusts."""
        return self._of(self._stranger, *names)

    def issue(
        self,
        names: Sequence[str] = (HOST,),
        *,
        begins: dt.timedelta = -10 * _DAY,
        ends: dt.timedelta = _DAY,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
        key: _Key | None = None,
        self_signed: bool = False,
    ) -> ssl.SSLContext:
        """The context of a server with a certificate like this; its common name is always ``HOST``."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self_signed else self._issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
        signed = builder.sign(key if self_signed else self._issuer_key, hashes.SHA256())  # type: ignore[arg-type]
        return self._context(signed, key)

    def _context(self, certificate: x509.Certificate, key: _Key) -> ssl.SSLContext:
        encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        path = self._folder / f"{certificate.serial_number}.pem"
        secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
        path.write_bytes(secret + certificate.public_bytes(encoding))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")  # what is weak is for the proxy to refuse, not for the server to hide
        context.load_cert_chain(path)
        return context

    @staticmethod
    def _of(authority: trustme.CA, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(context)
        return context


def _at_most_tls_1_1(context: ssl.SSLContext) -> ssl.SSLContext:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


DEFECTS: Mapping[str, Callable[[Certificates], Shown]] = {
    "expired": lambda made: Shown(made.issue(ends=-5 * _DAY)),
    "not yet valid": lambda made: Shown(made.issue(begins=_DAY, ends=5 * _DAY)),
    "another name": lambda made: Shown(made.good("elsewhere.example", f"*.{HOST}")),
    "a common name and no alternative name": lambda made: Shown(made.issue(())),
    "self-signed": lambda made: Shown(made.issue(self_signed=True)),
    "unknown authority": lambda made: Shown(made.by_stranger(HOST)),
    "a wildcard for one label too many": lambda made: Shown(made.issue(("*.example",)), DEEP),
    "for clients only": lambda made: Shown(made.issue(usage=ExtendedKeyUsageOID.CLIENT_AUTH)),
    "TLS 1.1 at most": lambda made: Shown(_at_most_tls_1_1(made.good(HOST))),
    "a NUL in its name": lambda made: Shown(made.issue((f"{HOST}\0.evil.example",))),
    "RSA of 1024 bits": lambda made: Shown(made.issue(key=rsa.generate_private_key(65537, 1024))),
    "a name for an address": lambda made: Shown(made.good(HOST), "127.0.0.1"),
    "no TLS at all": lambda made: Shown(None),
}
"""Each is refused before a byte of a request is sent."""


def undemanding() -> ssl.SSLContext:
    """A client that accepts whatever it is shown: what it cannot reach either has another defect than it should."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context

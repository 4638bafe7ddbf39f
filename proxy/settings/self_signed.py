"""A certificate for development, made in memory and for as long as the process lives. Its key is never written.

What belongs here: making one. What does not: telling people how a client is made to trust it (``cli/self_signed.py``).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = dt.timedelta(days=30)
"""Long for a proxy on a developer's machine, and short for a certificate that was once trusted there and forgotten."""

_EARLY = dt.timedelta(hours=1)
"""Valid since then, for clients in containers and virtual machines whose clock is behind."""


class SelfSigned(NamedTuple):
    """Both in PEM. ``key`` is a secret."""

    certificate: bytes
    key: bytes


def make_self_signed(names: Iterable[str], now: dt.datetime) -> SelfSigned:
    """A certificate for these names and addresses, and its key (P-256).

    It is its own authority and may sign no other: who trusts it trusts this one key, for these names.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "inworld-proxy, self-signed")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(_only_signatures(), critical=True)
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return SelfSigned(
        builder.sign(key, hashes.SHA256()).public_bytes(encoding),
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain),
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        return x509.DNSName(name)


def _only_signatures() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip

"""Certificates in words, an upstream's and the listener's own: how long one is good for, or why it is refused.

An upstream's that is refused is looked at once more without being trusted, so that its names, its issuer and its days
can be said. On that connection nothing is sent.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from proxy.core.model import ListenerTls, Upstream
from proxy.doctor.finding import Finding, State

if TYPE_CHECKING:
    from cryptography import x509

    from proxy.doctor.way import Silent

SOON = 14
"""Days before its end from which a certificate is warned about: whoever renews them by hand needs a week."""

DAY = 86_400.0

# OpenSSL's numbers (x509_vfy.h); ssl has no names for them.
NOT_YET, ENDED = 9, 10
WRONG_HOST, WRONG_ADDRESS = 62, 64
UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})


def validity(shown: ssl.SSLObject, now: float) -> tuple[State, str, str]:
    """How a trusted certificate is: state, what was found, what to do."""
    # It was verified, so there is one, and it has all of this.
    certificate: dict[str, Any] = shown.getpeercert() or {}
    names = [value for _, value in certificate["subjectAltName"]]
    issuer = {key: value for part in certificate["issuer"] for key, value in part}
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - now) / DAY
    by = issuer.get("organizationName") or issuer.get("commonName") or "an issuer without a name"
    found = f"{shown.version()}, {_some(names)}, issued by {by}, {days:.0f} days left"
    if days < SOON:
        return State.WARN, found, "renew it, or ask whoever runs that server when they will"
    return State.OK, found, ""


def check_own(tls: ListenerTls, now: float) -> Finding:
    """Is the certificate that callers are shown good today, and for a while? ``serve`` serves with any."""
    from cryptography import x509  # noqa: PLC0415 - a tenth of a second, for those who need to know

    certificate = x509.load_pem_x509_certificate(tls.certificates.encode())
    names, remedy = _some([*tls.names]), "renew tls.cert and tls.key"
    days = (tls.expires - now) / DAY
    if days < 0:
        found = f"{names}, expired on {certificate.not_valid_after_utc:%Y-%m-%d}: clients refuse it"
        return Finding("certificate", State.WARN, found, remedy)
    if certificate.not_valid_before_utc.timestamp() > now:
        found = f"{names}, begins on {certificate.not_valid_before_utc:%Y-%m-%d}: clients refuse it until then"
        remedy = "set this machine's clock (`date`); or it was issued too early"
        return Finding("certificate", State.WARN, found, remedy)
    found = f"{names}, {days:.0f} days left"
    return Finding("certificate", State.WARN, found, remedy) if days < SOON else Finding("certificate", State.OK, found)


async def explain(
    error: ssl.SSLCertVerificationError, upstream: Upstream, connect: Callable[[], Awaitable[Silent]], limit: float
) -> tuple[str, str]:
    """Why it is refused, and what to do."""
    certificate = await _look(upstream, connect, limit)
    code, here = error.verify_code, f"upstreams.{upstream.name}"
    if code in (WRONG_HOST, WRONG_ADDRESS):
        names = "other names" if certificate is None else _some(_names(certificate))
        remedy = f"correct {here}.url, or see who answers there: a name server or a proxy may lead elsewhere"
        return f"the certificate is for {names} and not for {upstream.host}", remedy
    if code in UNKNOWN_ISSUER:
        issuer = (
            "somebody" if certificate is None else certificate.issuer.rfc4514_string() or "an issuer without a name"
        )
        beside = f", nor in {upstream.ca_file}" if upstream.ca_file is not None else ""
        found = f"the certificate is issued by {issuer}, who is not trusted on this machine{beside}"
        remedy = (
            f"if that is your own authority or a corporate proxy that looks into TLS, name its certificate: "
            f"{here}.ca, or --ca FILE; if not, somebody is in between"
        )
        return found, remedy
    if code == ENDED:
        when = "" if certificate is None else f" on {certificate.not_valid_after_utc:%Y-%m-%d}"
        return f"the certificate ended{when}", "renew it there; or this machine's clock is wrong (`date`)"
    if code == NOT_YET:
        when = "later" if certificate is None else f"on {certificate.not_valid_before_utc:%Y-%m-%d}"
        return f"the certificate begins {when}", "set this machine's clock (`date`); or it was issued too early"
    return f"the certificate is refused: {error.verify_message}", "let that server show a certificate in order"


async def _look(upstream: Upstream, connect: Callable[[], Awaitable[Silent]], limit: float) -> x509.Certificate | None:
    """The certificate itself, trusted or not; None when it is not shown again."""
    from cryptography import x509  # noqa: PLC0415 - see above

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        protocol = await connect()
    except Exception:  # noqa: BLE001 - whatever it is, it was said when the way was tried first
        return None
    assert protocol.transport is not None  # noqa: S101 - for the type checker; it is connected
    below = protocol.transport
    try:
        transport = await asyncio.get_running_loop().start_tls(
            below, protocol, context, server_hostname=upstream.host, ssl_handshake_timeout=limit
        )
        shown = transport.get_extra_info("ssl_object") if transport is not None else None
        raw = shown.getpeercert(binary_form=True) if shown is not None else None
        return None if raw is None else x509.load_der_x509_certificate(raw)
    except (OSError, ValueError):
        return None
    finally:
        below.abort()


def _names(certificate: x509.Certificate) -> list[str]:
    from cryptography import x509  # noqa: PLC0415 - see above

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [str(name.value) for name in names]


def _some(names: list[str]) -> str:
    if not names:
        return "no name at all"
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

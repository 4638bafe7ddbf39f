"""TLS where callers connect: the certificate and the key of ``tls``, read and found fault with.

What belongs here: which files they are, whether they fit together, and when that ends. What does not: versions and
ciphers (``proxy/tls.py``), and the handshake (``wire/secure_caller.py``).
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from proxy.core.model import ListenerTls
from proxy.credentials.secret import SecretError
from proxy.credentials.sources import FileSource, read_source
from proxy.document import Fault, KeyPath, quoted
from proxy.settings.model import Configuration, TlsSettings
from proxy.settings.reading import Reading
from proxy.settings.resolve import Surroundings, read_text
from proxy.tls import listener_context

if TYPE_CHECKING:
    from cryptography import x509

_PATH: KeyPath = ("tls",)
_HOW = "write `tls: {cert: /path/of/fullchain.pem, key: /path/of/key.pem}`"
_OWN_NAMES = ("localhost", "127.0.0.1", "::1")
_ANY = frozenset({"0.0.0.0", "::"})

logger = logging.getLogger("proxy")


class _UnusableError(Exception):
    """What is wrong with the two files: which of them, what was found, and what to do."""

    def __init__(self, which: str, found: str, remedy: str) -> None:
        super().__init__(found)
        self.which = which
        self.found = found
        self.remedy = remedy


def resolve_tls(
    reading: Reading, around: Surroundings, faults: list[Fault], *, keep: ListenerTls | None
) -> ListenerTls | None:
    """TLS for the listener; None where there is no ``tls``, and where it has a fault.

    ``keep`` is what is in force: where the certificates are the same it stays, with what callers may resume.
    """
    options = reading.options.settings
    settings = options.tls
    if settings is None:
        return None
    fault = _wrong_keys(settings)
    if fault is not None:
        faults.append(reading.document.fault(_PATH, *fault))
        return None
    if settings.self_signed:
        names = _own_names(options)
        fresh = keep is not None and keep.self_signed and keep.names == names and keep.expires > time.time()
        return keep if fresh else _self_signed(names)
    shown = read_text(reading.document, (*_PATH, "cert"), around.folder / str(settings.cert), around, faults)
    try:
        secret = _read_key(settings, around)
        if shown is None:
            return None
        made = _from_files(settings, shown, secret)
    except _UnusableError as exc:
        faults.append(reading.document.fault((*_PATH, exc.which), exc.found, exc.remedy))
        return None
    return keep if keep is not None and keep.certificates == made.certificates else made


def _wrong_keys(settings: TlsSettings) -> tuple[str, str] | None:
    named = (settings.cert is not None, settings.key is not None)
    if settings.self_signed:
        return ("files beside `self_signed`", "remove one of the two") if any(named) else None
    if all(named):
        return None
    return "no certificate" if not named[0] else "a certificate without its key", _HOW


def _own_names(options: Configuration) -> tuple[str, ...]:
    own = () if options.listen.path is not None or options.listen.host in _ANY else (options.listen.host,)
    return tuple(dict.fromkeys((*_OWN_NAMES, *own, *options.hosts)))


def _self_signed(names: tuple[str, ...]) -> ListenerTls:
    from proxy.settings.self_signed import LIFETIME, make_self_signed  # noqa: PLC0415 - not for every start

    now = dt.datetime.now(dt.UTC)
    made = make_self_signed(names, now)
    context = listener_context(made.certificate, made.key)
    return ListenerTls(context, made.certificate.decode(), (now + LIFETIME).timestamp(), self_signed=True, names=names)


def _from_files(settings: TlsSettings, shown: str, secret: str) -> ListenerTls:
    chain = _chain_of(shown)
    _check_pair(chain[0], secret)
    try:
        context = listener_context(shown.encode(), secret.encode())
    except (OSError, ValueError) as exc:  # ssl.SSLError is one, and what OpenSSL says of files that are none
        raise _UnusableError(
            "cert", "a certificate that OpenSSL does not take, for a key that is too short or a hash that is too weak",
            "have it issued again, with a key of P-256 or of RSA with 2048 bits",
        ) from exc  # fmt: skip
    _warn(chain[0], settings.cert or "")
    return ListenerTls(context, shown, chain[0].not_valid_after_utc.timestamp(), names=_names_of(chain[0]))


def _read_key(settings: TlsSettings, around: Surroundings) -> str:
    file = around.folder / str(settings.key)
    around.files.append(file)
    try:
        return read_source(FileSource(file, private=not settings.allow_readable), around.environ).reveal()
    except SecretError as exc:
        raise _UnusableError("key", exc.found, exc.remedy) from exc


def _chain_of(text: str) -> list[x509.Certificate]:
    from cryptography import x509  # noqa: PLC0415 - see above

    try:
        chain = x509.load_pem_x509_certificates(text.encode())
    except ValueError as exc:
        found = "a file without a usable certificate"
        raise _UnusableError(
            "cert", found, "name a file of certificates in PEM form, the listener's own first"
        ) from exc
    for one, following in pairwise(chain):
        if one.issuer != following.subject:
            found = f"certificates in another order: after that of {quoted(_called(one))} comes that of " + quoted(
                _called(following)
            )
            remedy = "put the listener's own first, and after each the one that issued it"
            raise _UnusableError("cert", found, remedy)
    return chain


def _check_pair(certificate: x509.Certificate, secret: str) -> None:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    try:
        key = serialization.load_pem_private_key(secret.encode(), None)
    except TypeError as exc:
        found = "a key with a passphrase, which nobody is there to type"
        raise _UnusableError("key", found, "write it without: `openssl pkey -in KEY -out NEW`, and chmod 600") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise _UnusableError("key", "a file without a usable private key", "name the key's file, in PEM form") from exc
    try:
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as exc:
        found = "a certificate for a kind of key that is not known here"
        raise _UnusableError(
            "cert", found, "have it issued again, with a key of P-256 or of RSA with 2048 bits"
        ) from exc
    if key.public_key() != public:
        found = f"a key that does not belong to the certificate of {quoted(_called(certificate))}"
        raise _UnusableError("key", found, "name the two files that were issued together")


def _warn(certificate: x509.Certificate, name: str) -> None:
    # No fault: an old certificate still serves whoever accepts it, and refusing it would end a proxy that restarts.
    now = time.time()
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends.timestamp() < now:
        logger.warning(
            "the certificate in %s expired on %s: clients will refuse it", name, f"{ends:%Y-%m-%d %H:%M} UTC"
        )
    elif begins.timestamp() > now:
        logger.warning("the certificate in %s is valid from %s on: clients refuse it until then", name,
                       f"{begins:%Y-%m-%d %H:%M} UTC")  # fmt: skip


def _names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509  # noqa: PLC0415 - see above

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return ()
    return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))


def _called(certificate: x509.Certificate) -> str:
    return next(iter(_names_of(certificate)), certificate.subject.rfc4514_string())

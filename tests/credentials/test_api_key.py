"""An API key goes out exactly as it was given, and a malformed one is refused with the reason."""

import asyncio
import base64
import pickle

import pytest

from proxy.core.model import Credential, KeyPower, Upstream
from proxy.credentials.api_key import REMEMBERED, ApiKey
from proxy.credentials.clock import Clock
from proxy.credentials.definition import Definition
from proxy.credentials.kinds import KINDS
from proxy.credentials.live import LiveSecret
from proxy.credentials.secret import Secret, SecretError
from proxy.credentials.sources import EnvironmentSource


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


KEY = encode("keyId0123:s3cr3t-value")

MALFORMED = [
    ("", "an empty key", "Base64 copy action"),
    (f"Basic {KEY}", "prefix `Basic `", "remove the prefix"),
    (f"bearer {KEY}", "prefix `bearer `", "remove the prefix"),
    (f"Authorization: Basic {KEY}", "whole Authorization field", "without the field's name"),
    (f"{KEY}\n", "a blank or a line break", "remove it"),
    (f" {KEY}", "a blank or a line break", "remove it"),
    (f"{KEY[:9]} {KEY[9:]}", "a blank or a line break", "remove it"),
    (f'"{KEY}"', "in quotes", "remove the quotes"),
    (f"INWORLD_API_KEY={KEY}", "begins with `INWORLD_API_KEY=`", "what follows"),
    ("keyId0123:s3cr3t-value", "looks like `id:secret`, not encoded", "base64 | tr -d"),
    (encode(KEY), "encoded twice", "without encoding it again"),
    (encode(KEY + "\n"), "encoded twice", "without encoding it again"),
    (encode(KEY + ":"), "encoded twice", "without encoding it again"),
    (encode("keyId0123:s3cr3t-value\n"), "together with a line break", "printf"),
    (encode("no colon here"), "without a colon", "Base64 copy action"),
    (encode("a:b:c"), "more than one colon", "Base64 copy action"),
    (encode(":secret"), "one half empty", "Base64 copy action"),
    (encode("id:"), "one half empty", "Base64 copy action"),
    (encode("id:sec\x00ret"), "not printable", "Base64 copy action"),
    (encode("id:sécret"), "not Base64", "Base64 copy action"),
    (KEY.rstrip("=")[:-1], "not Base64", "any `=` at its end"),
    (KEY + "!", "not Base64", "any `=` at its end"),
    ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln", "a token (JWT)", "does not expire"),
]


def test_the_field_line_holds_the_key_as_given() -> None:
    credential: Credential = ApiKey("workspace", Secret(KEY), KeyPower())
    assert credential.authorization() == f"Authorization: Basic {KEY}\r\n".encode()
    assert (credential.name, credential.kind, credential.power) == ("workspace", "api-key", KeyPower())


@pytest.mark.parametrize(("key", "found", "remedy"), MALFORMED)
def test_a_malformed_key_is_refused_with_a_remedy_and_never_quoted(key: str, found: str, remedy: str) -> None:
    with pytest.raises(SecretError) as raised:
        ApiKey("workspace", Secret(key), KeyPower())
    assert found in raised.value.found
    assert remedy in raised.value.remedy
    if key:
        assert key.strip() not in str(raised.value)
        assert "s3cr3t" not in str(raised.value)


def test_a_static_key_has_nothing_to_refresh() -> None:
    asyncio.run(ApiKey("workspace", Secret(KEY), KeyPower()).refresh())


def test_a_refusal_is_remembered_for_a_while_and_never_worth_another_try() -> None:
    now = 1000.0
    credential = ApiKey("workspace", Secret(KEY), KeyPower(), clock=Clock(monotonic=lambda: now))
    line = credential.authorization()
    assert line is not None
    assert not credential.renews
    assert not credential.state().refused
    assert credential.refused(b"another line") is False
    assert not credential.state().refused
    assert [credential.refused(line), credential.refused(line)] == [False, False]
    assert (credential.state().refused, credential.state().refusals) == (True, 2)
    assert credential.authorization() == line
    now += REMEMBERED + 1
    assert (credential.state().refused, credential.state().refusals) == (False, 2)
    credential.doubted(line)
    assert "s3cr3t" not in repr(credential.state())


def test_the_credential_shows_its_name_and_not_its_key() -> None:
    credential = ApiKey("workspace", Secret(KEY), KeyPower())
    assert repr(credential) == "ApiKey('workspace')"
    with pytest.raises(TypeError):
        pickle.dumps(credential)


def test_kinds_are_chosen_by_name() -> None:
    assert set(KINDS) == {"api-key", "session-token"}
    upstream = Upstream("u", "https", "api.example", 443, "api.example")
    for name, kind in KINDS.items():
        live = LiveSecret("x", EnvironmentSource("A"), Secret(KEY), check=kind.check, environ={})
        credential = kind.make(Definition("x", name, EnvironmentSource("A"), KeyPower(), upstream), live)
        assert (credential.kind, credential.name, credential.state().source) == (name, "x", "env")
        assert (credential.authorization() is None) == credential.renews == kind.mints

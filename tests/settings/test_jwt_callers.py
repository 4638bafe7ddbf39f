"""Callers with signed tokens, as the configuration declares them: their rules, and the key sets to be fetched."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from proxy.callers.jwt import FixedKeys
from proxy.core.model import Presented, Snapshot
from proxy.credentials.key_set import FetchedKeys
from proxy.document import UnusableError
from proxy.settings.addresses import parse_key_set_url
from tests.callers.issuers import AUDIENCE, ISSUER, NOW, sign

Load = Callable[..., Snapshot]
SECRET = "k" * 32
TEXT = """\
callers:
  storefront: {token: sha256:5555555555555555555555555555555555555555555555555555555555555555, allow: "tts.*"}
  studio:
    jwt:
      jwks: https://id.example.com/keys
      issuer: https://id.example.com
      audience: inworld-proxy
      claims: {team: studio}
    allow: "voices.*"
  sales:
    jwt:
      jwks: https://id.example.com/keys
      issuer: https://id.example.com
      audience: inworld-proxy
      claims: {team: [sales, "42"]}
      leeway: 30s
    allow: "tts.*"
  partner:
    jwt: {jwks: "http://127.0.0.1:9/keys?v=1", issuer: i, audience: a}
    allow: "tts.*"
  signed:
    jwt:
      key: env:SHARED
      issuer: https://id.example.com
      audience: inworld-proxy
      claims: {team: signed}
      leeway: 0s
    allow: "tts.*"
"""


@pytest.fixture
def snapshot(load: Load, monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    """Loaded without a network: nothing is fetched while a configuration is read."""

    def connect(*_: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    return load(TEXT, environ={"INWORLD_API_KEY": "aWQ6c2VjcmV0", "SHARED": SECRET})


def test_callers_of_one_issuer_share_its_key_set(snapshot: Snapshot) -> None:
    assert [*snapshot.key_sets] == ["studio", "partner"]
    assert [*snapshot.callers] == ["storefront", "studio", "sales", "partner", "signed"]
    for name, source in snapshot.key_sets.items():
        assert isinstance(source, FetchedKeys)
        assert source.name == name
        assert not source.state().ready
    endpoint: Any = snapshot.key_sets["partner"]
    assert (endpoint._fetch.host.authority, endpoint._fetch.path) == ("127.0.0.1:9", "/keys?v=1")


def test_each_rule_is_what_was_written(snapshot: Snapshot) -> None:
    recogniser: Any = snapshot.policy.recognisers[1]
    studio, sales, partner, signed = recogniser._rules
    assert studio.keys is sales.keys is snapshot.key_sets["studio"]
    assert (studio.issuer, studio.audience, studio.leeway) == (ISSUER, AUDIENCE, 0.0)
    assert (studio.claims, sales.claims) == ({"team": {"studio"}}, {"team": {"sales", "42"}})
    assert (sales.leeway, partner.claims) == (30.0, {})
    assert isinstance(signed.keys, FixedKeys)
    found = recogniser(Presented("authorization", sign(SECRET, "HS256", team="signed")), NOW)
    assert found is snapshot.callers["signed"]


def test_callers_that_are_all_signed_are_enough_for_an_address_that_others_reach(load: Load) -> None:
    text = """\
listen: 0.0.0.0:8080
callers:
  studio:
    jwt: {jwks: "https://id.example.com/keys", issuer: i, audience: a}
    allow: "*"
"""
    loaded = load(text)
    assert loaded.policy.anonymous is None
    assert loaded.policy.recognisers


@pytest.mark.parametrize(
    ("text", "authority", "path"),
    [
        ("https://id.example.com/keys", "id.example.com", "/keys"),
        ("https://ID.example.com:443", "id.example.com", "/"),
        ("https://id.example.com:8443/a/b?p=x&q", "id.example.com:8443", "/a/b?p=x&q"),
        ("http://localhost:9/keys", "localhost:9", "/keys"),
        ("http://[::1]:9/keys", "[::1]:9", "/keys"),
    ],
)
def test_where_a_key_set_is(text: str, authority: str, path: str) -> None:
    url = parse_key_set_url(text)
    assert (url.host.authority, url.path) == (authority, path)


@pytest.mark.parametrize(
    "text",
    ["", "https://", "https://a.example/a b", "https://a.example/é", "ftp://a.example/", "file:///etc/keys",
     "https://a.example?x", "https://a@b.example/", "http://127.evil.example/keys", "https://a.example/#x",
     "https://a.example\n/", "https://a.example/\n", "//a.example/keys", 7, None, ["https://a.example"]],
)  # fmt: skip
def test_where_no_key_set_is(text: object) -> None:
    with pytest.raises(UnusableError):
        parse_key_set_url(text)

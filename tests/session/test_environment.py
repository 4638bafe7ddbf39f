"""The environment of a command: what is put in, and that nothing of the proxy's secrets stays in."""

from __future__ import annotations

import base64

import pytest

from proxy.credentials.sources import EnvironmentSource, ExecSource
from proxy.session.environment import Secrets, WatchedEnvironment, make_environment
from proxy.session.presets import PRESETS, Value

SECRET = "0c8e1f5a7b3d49e2"
KEY = base64.b64encode(f"an-id:{SECRET}".encode()).decode()
URL, TOKEN = "http://127.0.0.1:4711", "ip_a-token-of-this-session"


def made(environ: dict[str, str], secrets: Secrets | None = None) -> dict[str, str]:
    return make_environment(environ, secrets or Secrets(), url=URL, token=TOKEN)


def test_every_preset_says_one_of_three_things_or_is_taken_out() -> None:
    found = made({preset.variable: "something else" for preset in PRESETS})
    said = {Value.ROOT: URL, Value.V1: f"{URL}/v1", Value.TOKEN: TOKEN}
    assert found == {each.variable: said[each.value] for each in PRESETS if each.value is not Value.NOTHING}
    assert len({preset.variable for preset in PRESETS}) == len(PRESETS)


@pytest.mark.parametrize("value", [KEY, f"Basic {KEY}", SECRET, f"an-id:{SECRET}", f"https://x:{SECRET}@example.org"])
def test_a_variable_with_a_secret_in_it_is_taken_out_whatever_it_is_called(value: str) -> None:
    secrets = Secrets()
    assert secrets.read(EnvironmentSource("THE_KEY"), {"THE_KEY": KEY}).reveal() == KEY
    assert set(made({"ANY_NAME": value, "KEPT": "an-id"}, secrets)) >= {"KEPT"}
    assert "ANY_NAME" not in made({"ANY_NAME": value}, secrets)


def test_a_short_secret_takes_out_only_what_is_the_same() -> None:
    secrets = Secrets()
    secrets.add("abc")
    assert {"ONE", "OTHER"} & set(made({"ONE": "abc", "OTHER": "an abc of things"}, secrets)) == {"OTHER"}


def test_what_a_command_gets_to_find_a_secret_with_is_taken_out() -> None:
    secrets = Secrets()
    source = ExecSource(("printenv", "VAULT_TOKEN"), environment=("VAULT_TOKEN",))
    secrets.read(source, {"PATH": "/usr/bin:/bin", "VAULT_TOKEN": KEY})
    assert "VAULT_TOKEN" not in made({"VAULT_TOKEN": "another one by now"}, secrets)


def test_what_the_configuration_looked_at_is_taken_out_but_for_what_finds_commands() -> None:
    watched = WatchedEnvironment({"PATH": "/bin", "PROXY_URL": "http://user:a-long-password@proxy:3128", "OTHER": "x"})
    assert watched.get("PATH") == "/bin"
    assert watched.get("PROXY_URL")
    assert watched.get("NOT_THERE") is None
    secrets = Secrets()
    secrets.add_asked(watched)
    found = made({**watched, "COPY": "http://user:a-long-password@proxy:3128"}, secrets)
    assert {"PATH", "OTHER"} <= set(found)
    assert {"PROXY_URL", "COPY"}.isdisjoint(found)


def test_the_way_out_is_left_to_the_command_where_the_proxy_uses_it_too() -> None:
    watched = WatchedEnvironment({"HTTPS_PROXY": "http://user:a-long-password@proxy:3128"})
    assert watched.get("HTTPS_PROXY")
    secrets = Secrets()
    secrets.add_asked(watched)
    assert made(watched, secrets)["HTTPS_PROXY"] == watched["HTTPS_PROXY"]
    assert "COPY" not in made({"COPY": watched["HTTPS_PROXY"]}, secrets)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"NO_PROXY": "example.org"}, "example.org"),
        ({"HTTP_PROXY": "http://p:1"}, "127.0.0.1,localhost,::1"),
        ({"all_proxy": "http://p:1", "no_proxy": "a, b", "NO_PROXY": "b,c"}, "a,b,c,127.0.0.1,localhost,::1"),
        ({"https_proxy": "http://p:1", "no_proxy": "localhost"}, "localhost,127.0.0.1,::1"),
        ({"https_proxy": "http://p:1", "NO_PROXY": "*"}, "*"),
    ],
)
def test_loopback_is_reached_without_an_http_proxy_where_there_is_one(
    environ: dict[str, str], expected: str | None
) -> None:
    assert made(environ).get("NO_PROXY") == expected

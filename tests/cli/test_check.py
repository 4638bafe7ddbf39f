"""``inworld-proxy check`` prints every fault, or what was understood."""

import base64
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.check import command

KEY = base64.b64encode(b"keyId:s3cr3t").decode()

GOOD = """
credentials:
  workspace: {kind: api-key, secret: env:INWORLD_API_KEY, permissions: {voices: write, router: none}}
  live: {kind: api-key, secret: env:INWORLD_API_KEY, type: realtime-only}
routes:
  - {operations: "realtime.*", credential: live}
  - {operations: "tts.*", credential: workspace}
callers:
  storefront: {token: "sha256:%s", allow: "tts.*"}
""".replace("%s", "7" * 64)


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def check(text: str | None, key: str | None = KEY) -> Result:
        monkeypatch.delenv("INWORLD_API_KEY", raising=False)
        if key is not None:
            monkeypatch.setenv("INWORLD_API_KEY", key)
        if text is None:
            return CliRunner().invoke(command, [])
        (tmp_path / "proxy.yaml").write_text(text)
        return CliRunner().invoke(command, ["--config", str(tmp_path / "proxy.yaml")])

    return check


def test_a_good_configuration_is_summed_up_without_its_secrets(check) -> None:
    result = check(GOOD)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].endswith("proxy.yaml: no faults")
    assert lines[1:] == [
        "listen      127.0.0.1:8080, admin 127.0.0.1:9464",
        "upstream    inworld: https://api.inworld.ai",
        "credential  workspace: api-key, a standard key (voices write, router none)",
        "credential  live: api-key, a realtime-only key",
        "route       routes[0]: 3 of 60 operations, live to inworld",
        "route       routes[1]: 11 of 60 operations, workspace to inworld",
        "caller      storefront: 11 of 60 operations",
    ]
    assert KEY not in result.output
    assert "7" * 64 not in result.output


@pytest.mark.parametrize(("grant", "whom"), [("proxy.token", "storefront"), ("tts.*", "nobody: no caller is granted")])
def test_tokens_are_summed_up_by_what_for_and_for_whom(check, grant: str, whom: str) -> None:
    result = check(
        GOOD.replace("live: {kind: api-key", "live: {kind: session-token")
        .replace("permissions: {voices: write, ", "permissions: {voices: read, ")
        .replace('allow: "tts.*"', f'allow: ["stt.*", "{grant}"]')
        + "tokens: {realtime: {}, one_time: {}}\n"
    )
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "route       routes[0]: 3 of 60 operations, live to inworld" in lines
    assert lines[-1].startswith(f"tokens      realtime, one-time: at POST /token, for {whom}")


def test_every_fault_is_printed_with_its_place_and_the_exit_code_is_1(check) -> None:
    result = check("lisen: 1\nmode: of\n")
    assert result.exit_code == 1
    first, second, count = result.output.splitlines()
    assert first.endswith("proxy.yaml:1:1: lisen: the unknown key `lisen`; write `listen`")
    assert second.endswith("proxy.yaml:2:1: mode: `of`; write one of `audit`, `enforce`")
    assert count == "2 faults"


def test_without_a_file_the_environment_is_checked(check) -> None:
    result = check(None)
    assert result.exit_code == 0
    assert "environment: no faults" in result.output
    assert "callers     none" in result.output
    result = check(None, key=None)
    assert result.exit_code == 1
    assert "INWORLD_API_KEY is not set" in result.output
    assert result.output.endswith("1 fault\n")

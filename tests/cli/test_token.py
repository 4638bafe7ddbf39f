"""``inworld-proxy token`` shows a token once, and the lines that let its holder in."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from proxy.callers.token import digest_token, parse_digest
from proxy.cli.token import command
from proxy.settings.load import load_settings


def test_the_token_is_alone_on_standard_output_and_its_digest_is_what_the_configuration_wants() -> None:
    result = CliRunner().invoke(command, ["storefront"])
    token = result.stdout.strip()
    lines = result.stderr[result.stderr.index("callers:") :]
    digest = yaml.safe_load(lines)["callers"]["storefront"]["token"]
    assert result.exit_code == 0
    assert parse_digest(digest) == digest_token(token.encode())
    assert token not in result.stderr


def test_no_two_tokens_are_alike() -> None:
    tokens = {CliRunner().invoke(command, []).stdout for _ in range(20)}
    assert len(tokens) == 20


@pytest.mark.parametrize("name", ["anonymous", "two words", "-x", "a" * 64, "x:\n  y"])
def test_a_name_that_the_configuration_would_refuse_is_refused_before_a_token_is_shown(name: str) -> None:
    result = CliRunner().invoke(command, ["--", name])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "cannot be named" in result.stderr


def test_the_lines_to_paste_are_a_configuration(tmp_path: Path) -> None:
    said = CliRunner().invoke(command, ["storefront"]).stderr
    file = tmp_path / "proxy.yaml"
    file.write_text(said[said.index("callers:") :])
    key = base64.b64encode(b"id:secret").decode()
    assert set(load_settings(file, {"INWORLD_API_KEY": key}).callers) == {"storefront"}

"""``inworld-proxy token`` shows a token once, and the lines that let its holder in."""

from __future__ import annotations

import yaml
from click.testing import CliRunner

from proxy.callers.token import digest_token, parse_digest
from proxy.cli.token import command


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

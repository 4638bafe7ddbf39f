"""``inworld-proxy schema`` prints the JSON Schema that the models say."""

from __future__ import annotations

import json

from click.testing import CliRunner

from proxy.__main__ import main
from proxy.settings.schema import configuration_schema


def test_the_schema_is_that_of_the_models() -> None:
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0
    assert result.stderr == ""
    assert json.loads(result.stdout) == configuration_schema()

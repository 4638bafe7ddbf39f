"""The JSON Schema is that of the models, and every key in it is explained."""

import json
from collections.abc import Iterator
from typing import Any

from proxy.core.model import SizeLimits, TimeLimits
from proxy.settings.model import Configuration, SizeSettings, TimeSettings
from proxy.settings.schema import FILE, configuration_schema, spell_schema


def sections() -> Iterator[tuple[str, dict[str, Any]]]:
    schema = configuration_schema()
    yield "Configuration", schema
    yield from schema["$defs"].items()


def test_the_shipped_file_is_what_the_models_say() -> None:
    assert FILE.read_text(encoding="utf-8") == spell_schema(), "run: python -m proxy.settings.schema"


def test_every_key_has_a_description() -> None:
    for name, section in sections():
        for key, described in section["properties"].items():
            assert len(described.get("description", "")) > 10, f"{name}.{key}"


def test_unknown_keys_are_refused_by_the_schema_too() -> None:
    for name, section in sections():
        assert section["additionalProperties"] is False, name


def test_defaults_are_spelled_as_people_write_them() -> None:
    schema = configuration_schema()
    assert schema["properties"]["listen"]["default"] == "127.0.0.1:8080"
    assert schema["properties"]["mode"]["default"] == "enforce"
    time = schema["$defs"]["TimeSettings"]["properties"]
    assert (time["head"]["default"], time["tunnel_idle"]["default"]) == ("10s", "none")
    assert schema["$defs"]["SizeSettings"]["properties"]["line"]["default"] == "8KiB"
    assert schema["$defs"]["TokensSettings"]["properties"]["per_minute"]["default"] == 30
    assert schema["$defs"]["OtelSection"]["properties"]["sample"]["default"] == 1.0
    assert "default" not in schema["$defs"]["UpstreamSettings"]["properties"]["ca"]


def test_the_limits_are_those_of_the_core() -> None:
    assert TimeLimits(**TimeSettings().model_dump()) == TimeLimits()
    assert SizeLimits(**SizeSettings().model_dump()) == SizeLimits()


def test_the_schema_names_every_section() -> None:
    assert set(json.loads(FILE.read_text(encoding="utf-8"))["properties"]) == set(Configuration.model_fields)

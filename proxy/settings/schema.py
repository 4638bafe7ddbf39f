"""The JSON Schema of the configuration, made from the models, for editors that complete and check YAML.

``schema.json`` beside this file is its output, shipped so that a configuration can name it in its first line. To write
it anew after a change of the models: ``python -m proxy.settings.schema``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from proxy.core.model import Address
from proxy.settings.model import Configuration
from proxy.settings.units import spell_duration, spell_size

FILE = Path(__file__).with_name("schema.json")


class _Spelled(GenerateJsonSchema):
    """Defaults as people write them: an address as text, seconds and bytes with their unit."""

    def encode_default(self, dft: Any) -> Any:  # noqa: ANN401 - pydantic's own signature
        match dft:
            case Address():
                return str(dft)
            case float():
                return spell_duration(dft)
            case int() if not isinstance(dft, bool):
                return spell_size(dft)
            case _:
                return super().encode_default(dft)

    def default_schema(self, schema: Any) -> JsonSchemaValue:  # noqa: ANN401 - pydantic's own signature
        described = super().default_schema(schema)
        # In two limits None is spelled `none`; elsewhere it means "not set", which is no default to show.
        if "default" in described and described["default"] is None:
            spellings = described.get("anyOf", ())
            if {"const": "none"} in spellings:
                described["default"] = "none"
            else:
                del described["default"]
        elif described.get("type") in ("integer", "number"):
            described["default"] = schema["default"]  # a count or a share, neither a size nor a duration
        return described


def configuration_schema() -> dict[str, Any]:  # JSON has no closer type
    """The JSON Schema (2020-12) of a configuration file."""
    schema = Configuration.model_json_schema(schema_generator=_Spelled)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def spell_schema() -> str:
    """The schema as the text of ``schema.json``."""
    return json.dumps(configuration_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(spell_schema(), encoding="utf-8")

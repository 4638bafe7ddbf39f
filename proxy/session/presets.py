"""Which variables point which clients at a proxy: one table, and nothing else.

A row is here because a client reads it, and names that client; what a client could be told in code is in README.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Value(Enum):
    """What a variable says."""

    ROOT = "the proxy's URL, without a path"
    V1 = "the proxy's URL and /v1"
    TOKEN = "the session's caller token"  # noqa: S105 - a description
    NOTHING = "it is taken out"


class Preset(NamedTuple):
    """One variable, what it says, and who reads it."""

    variable: str
    value: Value
    readers: str


PRESETS = (
    Preset("INWORLD_BASE_URL", Value.ROOT, "@inworld/tts 1.1.1"),
    Preset("INWORLD_API_BASE", Value.ROOT, "Inworld's MCP server and coding-agent plugin"),
    Preset("INWORLD_API_BASE_URL", Value.ROOT, "Inworld's API examples (pronunciation dictionaries, LLM to TTS)"),
    Preset(
        "INWORLD_API_KEY",
        Value.TOKEN,
        "@inworld/tts 1.1.1, inworld-tts 1.2.1, livekit-plugins-inworld 1.8.9, @livekit/agents-plugin-inworld, curl",
    ),
    Preset("OPENAI_BASE_URL", Value.V1, "openai (Python 3.54.0, Node)"),
    Preset("OPENAI_API_KEY", Value.TOKEN, "openai (Python 3.54.0, Node)"),
    # The SDK appends /v1 itself.
    Preset("ANTHROPIC_BASE_URL", Value.ROOT, "anthropic 2.12.0, @anthropic-ai/sdk"),
    Preset("ANTHROPIC_API_KEY", Value.TOKEN, "anthropic 2.12.0, @anthropic-ai/sdk"),
    # @anthropic-ai/sdk sends it beside the key, and with Inworld itself it has to be the Inworld key.
    Preset("ANTHROPIC_AUTH_TOKEN", Value.NOTHING, "anthropic 2.12.0, @anthropic-ai/sdk"),
)
"""Clients that read no variable for the URL (inworld-tts, LiveKit, Pipecat) are given ``INWORLD_BASE_URL`` in code."""

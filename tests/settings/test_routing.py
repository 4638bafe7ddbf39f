"""Wildcards of operation names."""

import pytest

from proxy.settings.routing import match_glob

NAMES = ["tts.synthesize", "tts.synthesize_ws", "voices.list", "voices.workspace_list", "llm.messages"]


@pytest.mark.parametrize(
    ("glob", "matched"),
    [
        ("*", NAMES),
        ("tts.*", ["tts.synthesize", "tts.synthesize_ws"]),
        ("tts.synthesize", ["tts.synthesize"]),
        ("tts.synthesize*", ["tts.synthesize", "tts.synthesize_ws"]),
        ("*list", ["voices.list", "voices.workspace_list"]),
        ("voices.*list", ["voices.list", "voices.workspace_list"]),
        ("tts", []),
        ("ttsx*", []),
        ("tts_*", []),
        ("t.*", []),
    ],
)
def test_a_star_is_any_run_of_characters_and_everything_else_itself(glob: str, matched: list[str]) -> None:
    assert match_glob(glob, NAMES) == set(matched)


@pytest.mark.parametrize(
    ("glob", "has"), [("*", False), ("p*", False), ("*.token", False), ("proxy.*", True), ("proxy.token", True)]
)
def test_a_wildcard_means_the_proxys_own_operations_only_when_it_says_so(glob: str, has: bool) -> None:
    matched = match_glob(glob, ["proxy.token", "tts.synthesize", "pronunciations.list"])
    assert ("proxy.token" in matched) is has

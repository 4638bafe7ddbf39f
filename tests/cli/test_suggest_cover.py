"""The shortest ``allow`` that grants exactly what was seen, against trying every choice."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.catalogue.load import load_built_in
from proxy.cli.suggest_cover import Grant, _fewest, cover, grantable
from proxy.core.model import ErrorShape, Kind, Operation, Permission
from proxy.settings.routing import match_glob

BUILT_IN = {each.name: each for each in load_built_in("inworld").operations}


def operation(name: str) -> Operation:
    return Operation(
        name,
        name.partition(".")[0],
        frozenset({"GET"}),
        f"/{name}",
        Kind.HTTP,
        Permission.NONE,
        ErrorShape.GRPC,
    )


def patterns(*seen: str, among: Iterable[str] = BUILT_IN, exact: bool = False) -> list[str]:
    operations = {name: BUILT_IN.get(name) or operation(name) for name in among}
    return [grant.pattern for grant in cover(frozenset(seen), operations, exact=exact)]


def family(name: str) -> list[str]:
    return [each for each in BUILT_IN if each.startswith(f"{name}.")]


def test_a_whole_family_is_one_wildcard_and_a_part_of_one_its_names() -> None:
    assert patterns(*family("tts")) == ["tts.*"]
    assert patterns("tts.synthesize", "tts.openai_speech") == ["tts.synthesize", "tts.openai_speech"]


def test_everything_is_a_star_because_mints_are_refused_whatever_is_granted() -> None:
    assert patterns(*grantable(BUILT_IN)) == ["*"]
    assert not {name for name in grantable(BUILT_IN) if name.startswith("auth.")}


def test_a_family_of_one_operation_is_named_because_nothing_else_of_it_was_seen() -> None:
    assert family("models") == patterns("models.list") == ["models.list"]


def test_one_operation_that_was_not_seen_breaks_the_wildcard() -> None:
    missing = [name for name in family("stt") if name != "stt.transcribe_ws"]
    assert patterns(*missing) == ["stt.transcribe", "stt.transcribe_async"]


def test_words_within_names_and_at_their_end_are_wildcards_too() -> None:
    assert patterns("voices.list", "router.list", "models.list", "pronunciations.list") == ["*.list"]
    assert patterns(*(name for name in BUILT_IN if name.startswith("voices.workspace_"))) == ["voices.workspace_*"]


def test_what_the_proxy_does_itself_is_never_part_of_a_wildcard() -> None:
    everything = [*grantable(BUILT_IN)]
    assert patterns(*everything, "proxy.token", among=[*BUILT_IN, "proxy.token"]) == ["*", "proxy.token"]


def test_exact_asks_for_names_alone() -> None:
    assert patterns(*family("stt"), exact=True) == family("stt")


def test_an_operation_under_two_wildcards_is_said_under_one_and_the_rest_by_name() -> None:
    grants = cover(frozenset({"a.x", "a.y", "b.x"}), {name: operation(name) for name in ("a.x", "a.y", "b.x", "c.z")})
    assert grants == [Grant("a.*", frozenset({"a.x", "a.y"})), Grant("b.x", frozenset({"b.x"}))]


def test_a_catalogue_of_a_thousand_operations_is_covered_too() -> None:
    names = [f"family{number % 40}.verb{number}" for number in range(1000)]
    assert patterns(*names[::3], among=names) == names[::3]
    assert patterns(*names, among=names) == ["*"]


@settings(max_examples=150, deadline=None)
@given(seen=st.sets(st.sampled_from(sorted(grantable(BUILT_IN))), min_size=1))
def test_what_is_granted_is_what_was_seen(seen: set[str]) -> None:
    grants = cover(frozenset(seen), BUILT_IN)
    matched = set().union(*(match_glob(grant.pattern, BUILT_IN) for grant in grants))
    assert matched & grantable(BUILT_IN) == seen
    assert sorted(itertools.chain(*(grant.operations for grant in grants))) == sorted(seen)
    assert len(grants) <= len(seen)


NUMBERS = st.frozensets(st.sampled_from("abcdefgh"), min_size=1)


@settings(max_examples=200, deadline=None)
@given(sets=st.lists(NUMBERS, min_size=1, max_size=8))
def test_no_shorter_list_exists(sets: list[frozenset[str]]) -> None:
    grants = [Grant(str(index), each) for index, each in enumerate(sets)]
    needed = frozenset().union(*sets)
    found = _fewest(needed, grants)
    assert frozenset().union(*(grant.operations for grant in found)) == needed
    shorter = itertools.combinations(grants, len(found) - 1)
    assert not any(frozenset().union(*(grant.operations for grant in some)) >= needed for some in shorter)


@pytest.mark.parametrize("name", ["tts.*", "voices.workspace_*", "*.list"])
def test_a_wildcard_is_one_that_the_configuration_reads_so(name: str) -> None:
    matched = match_glob(name, BUILT_IN)
    assert patterns(*matched) == [name]

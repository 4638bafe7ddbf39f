"""A target has one reading or is refused; the tree finds what was meant and nothing else."""

import posixpath
import re
from collections.abc import Callable
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.catalogue.load import load_built_in
from proxy.core.model import ErrorShape, Kind, Operation, Permission
from proxy.core.target import OperationTree, TemplateError, read_target, strip_query

CANONICAL = [
    ("/", ("/", None)),
    ("/tts/v1/voice", ("/tts/v1/voice", None)),
    ("/tts/v1/voice?", ("/tts/v1/voice", "")),
    ("/voices/v1/voices:clone", ("/voices/v1/voices:clone", None)),
    ("/voices/v1/voices/", ("/voices/v1/voices/", None)),
    ("/voices/v1/voices/w__v%C3%A9", ("/voices/v1/voices/w__v%C3%A9", None)),
    ("/voices/v1/voices/a%20b", ("/voices/v1/voices/a%20b", None)),
    ("/voices/v1/voices/a%40b%2Bc", ("/voices/v1/voices/a%40b%2Bc", None)),
    ("/v/a-._~!$&'()*+,=:@b", ("/v/a-._~!$&'()*+,=:@b", None)),
    ("/v/a..b/.c/d.", ("/v/a..b/.c/d.", None)),
    ("/v?a=/../;\\%zz?b=://", ("/v", "a=/../;\\%zz?b=://")),
]


@pytest.mark.parametrize(("target", "expected"), CANONICAL)
def test_a_canonical_target_is_split_and_left_as_it_is(target: str, expected: tuple[str, str | None]) -> None:
    assert read_target(target) == expected


REFUSED = {
    "encoded custom verb": ["/voices/v1/voices%3Aclone", "/voices/v1/voices%3aclone", "/voices/v1/voices:%63lone"],
    "encoded slash": ["/voices%2Fv1/voices", "/voices%2fv1/voices", "/tts/v1/..%2f..%2fvoices/v1/x", "/a%2F"],
    "dot segments": ["/tts/v1/../../voices/v1/x", "/voices/./v1/x", "/..", "/.", "/a/..", "/a/.", "/a/../", "/a/...",
                     "/.?a", "/%2e/voices/v1/x", "/%2E%2E/voices", "/.%2E/voices", "/a/%2E"],
    "double encoding": ["/%252fvoices/v1/x", "/voices%252Fv1", "/a%25", "/a%2541"],
    "backslash": ["/\\voices\\v1\\x", "/..%5c/voices/v1/x", "/a%5Cb", "\\voices"],
    "path parameters": ["/;x/voices/v1/x", "/voices;a=b/v1/x", "/tts/v1/..;/..;/voices/v1", "/a%3Bb"],
    "empty segments and authorities": ["//voices/v1/x", "//evil.test/x", "/voices//v1", "/a//", "///"],
    "blanks and controls": ["/voices%20/v1/x", "/%20", "/a/%20b", "/%00/voices/v1/x", "/a%00b", "/a%09", "/a%0D%0Ab",
                            "/a b", "/a\tb", "/a\x00b", "/a\x7fb", "/a%7Fb", "/a%C2%A0", "/a%E2%80%8Bb", "/a%C2%85b",
                            "/a/%20.", "/a/.%20.", "/a/%E3%80%80", "/a\n", "/a?b\n"],
    "fragment": ["/tts/v1/x#/../../voices/v1/x", "/a#b", "/a?b#c", "/a%23b"],
    "question mark in a segment": ["/a%3Fb"],
    "absolute form": ["http://127.0.0.1/voices/v1/x", "https://api.example.com/", "http:/a"],
    "authority form": ["evil.test:443", "@evil.test:443", ".evil.test:443"],
    "asterisk and nothing": ["*", "", "?", "?a=b", "a", "a/b"],
    "encoding of what needs none": ["/%61", "/%41", "/%30", "/%2D", "/%5F", "/%7E", "/a%2Eb"],
    "broken escapes": ["/%", "/a%2", "/a%zz", "/%%41", "/a%c3%a9", "/a%C3", "/a%FF", "/a%C0%AF", "/a%ED%A0%80",
                       "/a%u0041"],
    "not ASCII": ["/é", "/a\u2215b", "/a\uff0fb", "/a?é", "/\ud800"],
    "brackets and quotes": ["/a[b]", "/a{b}", "/a|b", "/a^b", "/a`b", '/a"b', "/a<b>"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "target"), [(form, target) for form, targets in REFUSED.items() for target in targets], ids=repr
)
def test_what_could_be_read_in_another_way_is_refused(form: str, target: str) -> None:
    assert read_target(target) is None, form


PIECES = ["/", "//", "..", ".", "%2E", "%2F", "%5C", "%3A", "%3a", "%25", "%20", "%00", "%C3%A9", "%c3", "%", ";", ":",
          "\\", "#", "?", "a", "é", "@", "voices", "v1", "tts", "workspaces", "voice", ":clone", " ", "\n", "*", "lro",
          "v1alpha", "responses", "routers", "router", "cancel", ":publish"]  # fmt: skip
mangled = st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: "/" + "".join(pieces))


@given(st.text() | mangled)
def test_no_text_makes_reading_a_target_fail(text: str) -> None:
    read_target(text)


@given(st.text(alphabet="/.%25EFaA0:;\\?#~é ", max_size=12).map(lambda tail: "/" + tail) | mangled)
def test_what_is_accepted_has_one_reading(text: str) -> None:
    target = read_target(text)
    if target is None:
        return
    path, query = target
    assert text == (path if query is None else f"{path}?{query}")
    assert path.isascii()
    assert not re.search(r"//|[;\\#?\s\x00-\x1f]", path)
    once = unquote(path, errors="strict")
    assert unquote(once) == once, "decoding twice is decoding once"
    assert once.count("/") == path.count("/")
    assert once.count(":") == path.count(":")
    cleaned = posixpath.normpath(once) + ("/" if once.endswith("/") and once != "/" else "")
    assert cleaned == once, "cleaning changes nothing"
    for raw, decoded in zip(path.split("/"), once.split("/"), strict=True):
        assert decoded.strip(" .") or decoded == ""
        assert raw == decoded or "%" in raw


def merge_slashes(path: str) -> str:
    return re.sub("/+", "/", path)


READINGS: dict[str, Callable[[str], str]] = {
    "decodes once": unquote,
    "decodes twice": lambda path: unquote(unquote(path)),
    "decodes and cleans": lambda path: posixpath.normpath(unquote(path)),
    "cleans and decodes": lambda path: unquote(posixpath.normpath(path)),
    "merges slashes": lambda path: merge_slashes(unquote(path)),
    "takes backslashes for slashes": lambda path: posixpath.normpath(unquote(path).replace("\\", "/")),
    "cuts path parameters": lambda path: re.sub(r";[^/]*", "", unquote(path)),
    "cuts at a fragment": lambda path: unquote(path).partition("#")[0],
    "cuts at a second question mark": lambda path: unquote(path).partition("?")[0],
    "cuts at NUL": lambda path: unquote(path).partition("\0")[0],
    "trims each segment": lambda path: "/".join(part.strip() for part in unquote(path).split("/")),
}
TREE = OperationTree.of(load_built_in("inworld").operations)


TEMPLATES = [operation.template for operation in load_built_in("inworld").operations]
ids = st.text(min_size=1, max_size=6).map(lambda text: quote(text, safe="")) | st.sampled_from(PIECES)


@st.composite
def below_the_catalogue(draw: st.DrawFn) -> str:
    """A path of the catalogue with escaped text for its variables, and now and then a piece too many."""
    path = re.sub(r"\{[^}]*\}", lambda _: draw(ids), draw(st.sampled_from(TEMPLATES)))
    if draw(st.integers(0, 3)):
        return path
    place = draw(st.integers(1, len(path)))
    return path[:place] + draw(st.sampled_from(PIECES)) + path[place:]


@settings(max_examples=400)
@given(below_the_catalogue())
@example("/voices/v1/voices/w__v%C3%A9:publish")
@example("/lro/v1alpha/a%20b/c%40d")
def test_no_backend_reads_another_operation_out_of_an_accepted_path(path: str) -> None:
    """However a backend decodes, cleans or splits it, it arrives at the operations that were judged."""
    target = read_target(path)
    found = None if target is None else TREE.find(target[0])
    if target is None or found is None:
        return
    for reading, read in READINGS.items():
        assert TREE.find(read(target[0])) is found, reading


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_literal_character_of_the_catalogue_can_be_escaped(template: str) -> None:
    path = re.sub(r"\{[^}]*\}", "x", template)
    assert read_target(path) is not None
    for place in range(1, len(path)):
        for escape in (f"%{ord(path[place]):02X}", f"%{ord(path[place]):02x}", f"%25{ord(path[place]):02X}"):
            assert read_target(path[:place] + escape + path[place + 1 :]) is None


STRIPPED = [
    ("a=1&b=2", "a=1&b=2"),
    ("", ""),
    ("token=x", ""),
    ("a=1&authorization=Basic%20x&b=2", "a=1&b=2"),
    ("Authorization=x", ""),
    ("API_KEY=x&api-key=x&apikey=x&ApiKey=x&x-api-key=x", ""),
    ("access_token=x&bearer=x&jwt=x", ""),
    ("key=x&a", "a"),
    ("%74oken=x", ""),
    ("%2574oken=x", ""),
    ("to%6ben=x&a=1", "a=1"),
    ("api%5Fkey=x", ""),
    ("+token+=x", ""),
    ("%20token=x", ""),
    ("token", ""),
    ("a=1;token=x", ""),
    ("_method=DELETE&a=1", "a=1"),
    ("x-http-method-override=DELETE&X-HTTP-Method=PUT&x_method_override=PUT", ""),
    ("voice_id=token&filter=language=en", "voice_id=token&filter=language=en"),
    ("page_token=x&pageToken=y", "page_token=x&pageToken=y"),
    ("keys=1&monkey=2&authorizations=3", "keys=1&monkey=2&authorizations=3"),
    ("&&a=1&&", "&&a=1&&"),
    ("a=%zz&token=x", "a=%zz"),
]


@pytest.mark.parametrize(("query", "left"), STRIPPED)
def test_a_query_loses_what_carries_a_credential_or_a_method_and_nothing_else(query: str, left: str) -> None:
    assert strip_query(query, frozenset()) == left


def test_the_session_id_of_the_realtime_socket_is_no_credential() -> None:
    query = "key=session-1&protocol=realtime&token=x&authorization=y"
    assert strip_query(query, frozenset({"key"})) == "key=session-1&protocol=realtime"
    assert strip_query(query, frozenset()) == "protocol=realtime"


NAMES = ["token", "Token", "%74oken", "tok%65n", "%2574oken", "key", "api_key", "api-key", "authorization", "_method",
         "a", "voice_id", "+key", "page_token", "a;token", "%zz", "", "="]  # fmt: skip
queries = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["", "=", "=x", "=token", "=%26token=x"]))).map(
    lambda pairs: "&".join(name + value for name, value in pairs)
)


@given(queries)
def test_what_is_left_of_a_query_stands_there_as_it_was_and_names_no_credential(query: str) -> None:
    left = strip_query(query, frozenset())
    assert strip_query(left, frozenset()) == left
    pieces, whole = left.split("&"), iter(query.split("&"))
    assert left == "" or all(piece in whole for piece in pieces), "the pieces are a subsequence"
    for part in re.split("[&;]", left):
        name = unquote(unquote(part.partition("=")[0].replace("+", " "))).strip().lower().replace("-", "_")
        assert name not in {"token", "key", "api_key", "authorization", "_method"}


def operation(name: str, template: str, *methods: str) -> Operation:
    return Operation(
        name, "f", frozenset(methods or ("GET",)), template, Kind.HTTP, Permission.NONE, ErrorShape.GRPC
    )  # fmt: skip


def names(tree: OperationTree, path: str) -> dict[str, str] | None:
    found = tree.find(path)
    return None if found is None else {method: operation.name for method, operation in found.items()}


def test_a_literal_segment_wins_over_a_variable_one() -> None:
    tree = OperationTree.of([operation("f.any", "/a/{x}"), operation("f.b", "/a/b"), operation("f.bc", "/a/b/c")])
    assert names(tree, "/a/b") == {"GET": "f.b"}
    assert names(tree, "/a/z") == {"GET": "f.any"}
    assert names(tree, "/a/b/c") == {"GET": "f.bc"}


def test_a_literal_that_leads_nowhere_does_not_hide_a_variable() -> None:
    tree = OperationTree.of([operation("f.bc", "/a/b/c"), operation("f.any", "/a/{x}"), operation("f.xd", "/a/{x}/d")])
    assert names(tree, "/a/b") == {"GET": "f.any"}
    assert names(tree, "/a/b/d") == {"GET": "f.xd"}


def test_methods_of_one_path_are_found_together() -> None:
    rows = [operation("f.get", "/a/{x}", "GET", "HEAD"), operation("f.delete", "/a/{y}", "DELETE")]
    assert names(OperationTree.of(rows), "/a/1") == {"GET": "f.get", "HEAD": "f.get", "DELETE": "f.delete"}


def test_a_custom_verb_belongs_to_the_last_segment_and_is_matched_whole() -> None:
    tree = OperationTree.of(
        [operation("f.get", "/v/{x}"), operation("f.publish", "/v/{x}:publish"), operation("f.clone", "/v:clone")]
    )
    assert names(tree, "/v/1") == {"GET": "f.get"}
    assert names(tree, "/v/1:publish") == {"GET": "f.publish"}
    assert names(tree, "/v:clone") == {"GET": "f.clone"}
    for path in ("/v/1:", "/v/:publish", "/v/1:pub", "/v/1:publish:publish", "/v/a:b:publish", "/v/1:Publish", "/v:",
                 "/v", "/v:clone:clone", "/v:clone/1", "/v/"):  # fmt: skip
        assert names(tree, path) is None, path


def test_a_verb_may_have_a_hyphen() -> None:
    assert names(OperationTree.of([operation("f.sync", "/t/text:synthesize-sync")]), "/t/text:synthesize-sync")
    assert names(OperationTree.of([operation("f.sync", "/t/{x}:do-it")]), "/t/1:do-it")


def test_the_rest_of_a_path_has_at_least_one_segment_and_no_verb() -> None:
    tree = OperationTree.of([operation("f.lro", "/lro/{name=**}"), operation("f.list", "/lro/all", "POST")])
    assert names(tree, "/lro/a") == {"GET": "f.lro"}
    assert names(tree, "/lro/a/b/c") == {"GET": "f.lro"}
    assert names(tree, "/lro/all") == {"POST": "f.list"}
    assert names(tree, "/lro/all/b") == {"GET": "f.lro"}
    for path in ("/lro", "/lro/", "/lro/a/", "/lro/a:cancel", "/lro/a:b/c", "/lro/a//b"):
        assert names(tree, path) is None, path


def test_a_path_that_no_template_has_is_not_found() -> None:
    tree = OperationTree.of([operation("f.a", "/a/{x}/b")])
    for path in ("/", "/a", "/a/1", "/a/1/b/", "/a/1/b/c", "/A/1/b", "/a//b", "/a/1:v/b"):
        assert names(tree, path) is None, path
    assert OperationTree.of(()).find("/a") is None


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("", "must start with /"),
        ("a/b", "must start with /"),
        ("/", "at least one segment"),
        ("/a//b", "segment ''"),
        ("/a/", "segment ''"),
        ("/a/{b=**}/c", "must be last"),
        ("/a:go/b", "must be in the last segment"),
        ("/{a}:go/b", "must be in the last segment"),
        ("/a b", "'a b'"),
        ("/{a}{b}", "'{a}{b}'"),
        ("/x{a}", "'x{a}'"),
        ("/{1a}", "'{1a}'"),
        ("/{a=*}", "'{a=*}'"),
        ("/{a=**}:go", "'{a=**}:go'"),
        ("/a:", "'a:'"),
        ("/a:b:c", "'a:b:c'"),
        ("/a%20b", "'a%20b'"),
        ("/a?b", "'a?b'"),
        ("/é", "'é'"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_a_sentence(template: str, says: str) -> None:
    with pytest.raises(TemplateError) as caught:
        OperationTree.of([operation("f.a", template)])
    assert says in str(caught.value)
    assert repr(template) in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"), [("/a/b", "/a/b"), ("/a/{x}", "/a/{y}"), ("/{x}:go", "/{y}:go"), ("/a/{x=**}", "/a/{y=**}")]
)
def test_two_operations_for_one_method_and_path_are_refused_by_name(one: str, other: str) -> None:
    with pytest.raises(TemplateError, match=r"^POST .* is already the operation f\.one; keep one of them$"):
        OperationTree.of([operation("f.one", one, "GET", "POST"), operation("f.two", other, "POST")])

"""One YAML text that knows where each of its values stands, and the faults that are found in it.

What belongs here: reading YAML into plain values with their places, and ``Fault``. What does not: what any key means
(``settings/`` and ``catalogue/`` know). Scalars follow YAML 1.2's core schema, so ``off``, ``yes`` and ``12:30`` are
the text they look like, and not the booleans and base-60 numbers of YAML 1.1.
"""

from __future__ import annotations

import base64
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import yaml

KeyPath = tuple[str | int, ...]
"""Where a value is in a document: keys and list indices from the root."""

_PLAIN = "tag:yaml.org,2002:str"
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,18}|[0-9]{1,18}(?:\.[0-9]{0,18})?)(?:[eE][-+]?[0-9]{1,2})?")
_QUOTED_TEXT = re.compile(r"""'[^']*\w[^']*'(?<!>')|"[^"]*\w[^"]*\"""")
"""What the pure-Python parser quotes out of the text: it may be part of a secret. ``':'``, ``'<block end>'`` stay."""

_JWT = re.compile(r"eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?")
_LONG_WORD = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
_PRINTABLE = re.compile(rb"[\x20-\x7e]{16,}")
"""Printable bytes in a row that no word decodes to by accident; letters may stand before and behind a key."""

_STANDARD = str.maketrans("-_", "+/")

_CONSTANTS: Mapping[str, bool | None] = MappingProxyType(
    {
        "": None, "~": None, "null": None, "Null": None, "NULL": None,
        "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """A position that a person can go to. ``label`` replaces the path for what came from the command line."""

    file: str
    line: int | None = None
    column: int | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where, what was found, and what to write instead. Never contains a secret."""

    file: str
    path: str
    found: str
    remedy: str
    line: int | None = None
    column: int | None = None

    def __post_init__(self) -> None:
        # Values are quoted where a secret does not belong; that does not keep anybody from writing one there.
        for name in ("path", "found", "remedy"):
            object.__setattr__(self, name, without_keys(getattr(self, name)))

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        if self.line is not None and self.column is not None:
            where = f"{where}:{self.column}"
        subject = f"{self.path}: " if self.path else ""
        return f"{where}: {subject}{self.found}; {self.remedy}"


def without_keys(text: str) -> str:
    """The text without what looks like an Inworld key or a token, wherever it stands in it."""
    return _LONG_WORD.sub(lambda match: "…" if _hides_text(match[0]) else match[0], _JWT.sub("…", text))


def _hides_text(word: str) -> bool:
    """Is part of it the Base64 of text? A name or a path is that by accident once in a million."""
    plain = word.rstrip("=").translate(_STANDARD)
    for start in range(4):  # a slash or a dash in front of a key may be taken for a part of it
        whole = plain[start : start + (len(plain) - start) // 4 * 4]
        if _PRINTABLE.search(base64.b64decode(whole)):
            return True
    return False


class UnusableError(ValueError):
    """A value that cannot be used: what was found (quoted only where it cannot be a secret) and what to write."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}; {remedy}")
        self.found = found
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Document:
    """Plain values (dict, list, str, int, float, bool, None), where each stands, and the faults of the text itself."""

    file: str
    value: object
    places: Mapping[KeyPath, Place]
    faults: tuple[Fault, ...] = ()
    readable: bool = True
    """False when the text is no YAML at all, so that nothing else can be said about it."""

    def fault(self, path: KeyPath, found: str, remedy: str) -> Fault:
        """A fault at this path, or at the nearest enclosing value that stands in the text."""
        place = self.place(path)
        label = place.label if place.label is not None else spell_path(path)
        return Fault(place.file, label, found, remedy, place.line, place.column)

    def place(self, path: KeyPath) -> Place:
        """Where this path stands, or the nearest enclosing value that stands somewhere."""
        for end in range(len(path), -1, -1):
            place = self.places.get(path[:end])
            if place is not None:
                return place
        return Place(self.file)

    def with_value(self, path: KeyPath, value: object, place: Place) -> Document:
        """The same document with one more value, which stands elsewhere (a command-line option, a default)."""
        return replace(self, value=_put(self.value, path, value), places={**self.places, path: place})


def read_document(text: str, *, file: str) -> Document:
    """Reads one YAML text. Faults of the text are in the result, next to all that could be read."""
    reader = _Reader(file)
    try:
        node = _Loader(text).get_single_node()
        value = {} if node is None else reader.plain(node, (), ())
    except yaml.MarkedYAMLError as exc:
        return _unreadable(text, file, exc)
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        fault = Fault(file, "", f"a control character (U+{exc.character:04X})", "remove it", line)
        return Document(file, {}, {(): Place(file, 1)}, (fault,), readable=False)
    except RecursionError:
        fault = Fault(file, "", "lists or mappings nested too deeply", "write a flatter document", 1)
        return Document(file, {}, {(): Place(file, 1)}, (fault,), readable=False)
    return Document(file, value, {(): Place(file, 1), **reader.places}, tuple(reader.faults))


def spell_path(path: KeyPath) -> str:
    """``("routes", 0, "credential")`` as ``routes[0].credential``."""
    spelled = ""
    for part in path:
        if isinstance(part, int):
            spelled += f"[{part}]"
        else:
            spelled += f".{part}" if spelled else part
    return spelled


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that this one most likely means."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return close[0] if close else None


def choose_from(word: str, known: Iterable[str]) -> str:
    """``write `x` `` when one known word is near, else the list of all: the remedy for an unknown word."""
    words = sorted(known)
    close = nearest(word, words)
    if close is not None:
        return f"write `{close}`"
    return f"write one of {', '.join(f'`{known_word}`' for known_word in words)}" if words else "remove it"


def quoted(value: object) -> str:
    """The value as it may be shown, shortened. Only for settings that never hold a secret."""
    match value:
        case str():
            shown = "".join(character if character.isprintable() else "?" for character in value)
            return f"`{shown}`" if len(shown) <= _LONGEST_QUOTE else f"`{shown[:_LONGEST_QUOTE]}…`"
        case bool():
            return f"`{str(value).lower()}`"
        case int() | float():
            return f"`{value}`"
        case _:
            return describe(value)


def describe(value: object) -> str:
    """What kind of value this is, without saying the value: it may be a secret in the wrong place."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"`{str(value).lower()}`"
        case str():
            return "text"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return "something else"


_LONGEST_QUOTE = 80
"""Enough to recognise a line, not enough to bury the remedy that follows it."""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C one where it was built
    """Composes nodes with marks. Without implicit resolvers every untagged scalar stays text, so tags show."""

    yaml_implicit_resolvers: ClassVar[dict[str, object]] = {}


class _Reader:
    """One walk over the nodes of one text."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[KeyPath, Place] = {}
        self.faults: list[Fault] = []

    def plain(self, node: yaml.Node, path: KeyPath, ancestors: tuple[int, ...]) -> object:
        if id(node) in ancestors:
            self._refuse(node, path, "an alias to a value that contains it", "write the value out")
            return None
        match node:
            case yaml.ScalarNode():
                return self._scalar(node, path)
            case yaml.SequenceNode():
                items: list[object] = []
                for index, item in enumerate(node.value):
                    self.places.setdefault((*path, index), _place(self.file, item.start_mark))
                    items.append(self.plain(item, (*path, index), (*ancestors, id(node))))
                return items
            case _:
                return self._mapping(node, path, (*ancestors, id(node)))

    def _mapping(self, node: yaml.Node, path: KeyPath, ancestors: tuple[int, ...]) -> dict[str, object]:
        mapping: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or not key_node.value or key_node.tag != _PLAIN:
                self._refuse(key_node, path, "a key that is not text", "write the key as a word")
                continue
            key = key_node.value
            here = (*path, key)
            if key in mapping:
                found = f"this key for the second time (first on line {self.places[here].line})"
                self._refuse(key_node, here, found, "keep one of them")
                continue
            self.places[here] = _place(self.file, key_node.start_mark)
            mapping[key] = self.plain(value_node, here, ancestors)
        return mapping

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        text: str = node.value
        if node.tag != _PLAIN:
            self._refuse(node, path, "a YAML tag (!)", "remove the tag, and put text that begins with ! in quotes")
            return text
        if node.style in ("'", '"', "|", ">"):
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text

    def _refuse(self, node: yaml.Node, path: KeyPath, found: str, remedy: str) -> None:
        mark = node.start_mark
        self.faults.append(Fault(self.file, spell_path(path), found, remedy, mark.line + 1, mark.column + 1))


def _place(file: str, mark: yaml.Mark) -> Place:
    return Place(file, mark.line + 1, mark.column + 1)


def _unreadable(text: str, file: str, exc: yaml.MarkedYAMLError) -> Document:
    reason = _QUOTED_TEXT.sub("(not shown)", exc.problem or "it cannot be read")
    mark = exc.problem_mark or exc.context_mark
    last = text.rstrip().count("\n")
    if mark is not None and exc.context_mark is not None and mark.line > last:
        # Something was opened and never closed; the end of the file is not where to look for it.
        mark = exc.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None and mark.line <= last else (last + 1, None)
    fault = Fault(
        file, "", f"this is not valid YAML ({reason})", "correct the indentation, brackets or quotes here", line, column
    )
    return Document(file, {}, {(): Place(file, 1)}, (fault,), readable=False)


def _put(value: object, path: KeyPath, new: object) -> object:
    if not path:
        return new
    mapping = value if isinstance(value, dict) else {}
    return {**mapping, path[0]: _put(mapping.get(path[0]), path[1:], new)}

"""What a configuration says of each caller besides what it may do, in the words of the file.

What belongs here: cutting the lines of ``callers.NAME.token`` and its like out of the text. Whatever cannot be cut out
so that it reads the same alone (an alias of YAML, say) is written out anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import yaml

from proxy.document import read_document

INDENT = "    "
"""Of a caller's keys in the block that is printed."""

Kept = dict[str, dict[str, str]]
"""By caller and key, in the order of the file: the lines that say it, indented."""

_COMMENT = re.compile(r"[ \t]*(?:#[^\n]*)?(?=\n|\Z)")
_NOTHING = re.compile(r"\s*(?:#.*)?")


def kept_of(text: str) -> Kept:
    """All that this text, a configuration without a fault, says of its callers."""
    document = read_document(text, file="")
    callers = _mapping(_mapping(document.value).get("callers"))
    nodes = _children(_children(yaml.compose(text, Loader=yaml.SafeLoader)).get("callers"))
    kept: Kept = {}
    for name, settings in callers.items():
        kept[name] = {}
        for key, value in _mapping(settings).items():
            lines = _cut(text, nodes.get(name), key)
            same = lines is not None and read_document(lines, file="").value == {key: value}
            kept[name][key] = lines if lines is not None and same else f"{INDENT}{key}: {json.dumps(value)}"
    return kept


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _children(node: yaml.Node | None) -> dict[str, yaml.Node]:
    return {key.value: value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _cut(text: str, caller: yaml.Node | None, wanted: str) -> str | None:
    """The lines of this key, or None where they do not stand together."""
    if not isinstance(caller, yaml.MappingNode):
        return None
    for key, value in caller.value:
        if key.value == wanted:
            start, end = key.start_mark.index, value.end_mark.index
            if end < start:
                return None  # an alias: its value stands where it was named first
            comment = None if caller.flow_style else _COMMENT.match(text, end)
            end = end if comment is None else comment.end()
            return _indented(text[start:end], key.start_mark.column, block=not caller.flow_style)
    return None


def _indented(piece: str, column: int, *, block: bool) -> str:
    """The lines as they would stand under a caller; those behind the first keep what they are indented more."""
    first, *others = piece.rstrip().split("\n")
    while others and _NOTHING.fullmatch(others[-1]):
        others.pop()  # comments behind a list belong to what comes next
    if block:
        others = [line[min(column, len(line) - len(line.lstrip(" "))) :] for line in others]
    else:
        others = [f"  {line.lstrip()}" for line in others]
    return "\n".join(f"{INDENT}{line}".rstrip() for line in [first, *others])

"""The one reading of a request target, and the tree of operation templates it is looked up in.

Canonical or refused: what could be read in two ways is not normalised but refused, and what was judged is sent on byte
for byte. So no backend's way of decoding, cleaning or splitting a path can turn an allowed request into another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote

from proxy.core.model import Operation

_SEGMENT = r"(?!\.+(?:[/?]|$))[A-Za-z0-9\-._~!$&'()*+,=:@%]+"
_TARGET = re.compile(rf"((?:/{_SEGMENT})+/?|/)(?:\?([\x21\x22\x24-\x7e]*))?")
"""RFC 3986 pchar less ``;`` (Java backends cut there), no empty segment and none of dots alone; ASCII only."""

_ESCAPE = re.compile(r"%([0-9A-F]{2})")
_NEVER_ESCAPED = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"  # unreserved: a second spelling of itself
    "/\\:;%?#"  # what a backend that decodes before it splits would take for structure
)

_SECRET_PARAMETERS = frozenset(
    {"authorization", "token", "access_token", "api_key", "apikey", "x_api_key", "key", "bearer", "jwt"}
)
_OVERRIDE_PARAMETERS = frozenset({"_method", "x_http_method_override", "x_http_method", "x_method_override"})
_SUSPECT = re.compile(r"auth|token|key|bearer|jwt|method|%", re.IGNORECASE)
_NAME_END = re.compile(r"[=\x00&;]")
"""Where a backend may see a name's end once it has decoded it."""

_DECODINGS = 3
"""A name is decoded until nothing changes, at most this often: no backend decodes a query more than twice."""


class TemplateError(ValueError):
    """A path template of the catalogue cannot be used; the text says why."""


def read_target(target: str) -> tuple[str, str | None] | None:
    """The path and query (None without ``?``) of an origin-form target; None when it has another reading too.

    Source: RFC 9112 section 3.2.1 (origin-form), RFC 3986 section 6.2 (what counts as equivalent).
    """
    match = _TARGET.fullmatch(target)
    if match is None:
        return None
    path, query = match.groups()
    if "%" in path and not _escapes_are_safe(path):
        return None
    return path, query


def strip_query(query: str, keeps: frozenset[str]) -> str:
    """The query without parameters that carry a credential or override the method, byte for byte otherwise.

    ``keeps`` are names that mean something else on this operation: ``key`` of the realtime socket is a session id.
    """
    if _SUSPECT.search(query) is None:
        return query
    return "&".join(piece for piece in query.split("&") if not _is_secret(piece, keeps))


class OperationTree:
    """All templates of the catalogue, looked up by path in one pass over its segments.

    Built once with ``of()`` and only read after that. A literal segment wins over a variable one.
    """

    __slots__ = ("_exact", "_root")

    def __init__(self, root: _Node, exact: Mapping[str, Mapping[str, Operation]]) -> None:
        self._root = root
        self._exact = exact

    @classmethod
    def of(cls, operations: Iterable[Operation]) -> OperationTree:
        """Builds the tree. Raises ``TemplateError`` for a template that is malformed or says what another says."""
        root = _Node()
        exact: dict[str, dict[str, Operation]] = {}
        for operation in operations:
            methods = root.place(_split_template(operation.template), operation)
            if "{" not in operation.template:
                exact[operation.template] = methods
        return cls(root, exact)

    def find(self, path: str) -> Mapping[str, Operation] | None:
        """The operations at this path by method, or None when no template has it."""
        found = self._exact.get(path)
        if found is not None:
            return found
        return self._root.find(path[1:].split("/"), 0)


class _Node:
    """One segment's place in the tree. ``verbs`` are the ends here, by custom verb (empty: none)."""

    __slots__ = ("literals", "rest", "variable", "verbs")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.variable: _Node | None = None
        self.rest: dict[str, Operation] | None = None
        self.verbs: dict[str, dict[str, Operation]] = {}

    def place(self, parts: list[str], operation: Operation) -> dict[str, Operation]:
        node = self
        for part in parts[:-1]:
            node = node.child(part)
        methods = node.end(parts[-1])
        for method in operation.methods:
            if method in methods:
                raise TemplateError(
                    f"{method} {operation.template} is already the operation {methods[method].name}; keep one of them"
                )
            methods[method] = operation
        return methods

    def find(self, segments: list[str], index: int) -> Mapping[str, Operation] | None:
        segment = segments[index]
        last = index + 1 == len(segments)
        literal = self.literals.get(segment)
        if literal is not None:
            found = literal.verbs.get("") if last else literal.find(segments, index + 1)
            if found is not None:
                return found
        if self.variable is not None and segment:
            value, _, verb = segment.partition(":")
            if last:
                if value and (verb or ":" not in segment):
                    found = self.variable.verbs.get(verb)
                    if found is not None:
                        return found
            elif ":" not in segment:
                found = self.variable.find(segments, index + 1)
                if found is not None:
                    return found
        if self.rest is not None and all(part and ":" not in part for part in segments[index:]):
            return self.rest
        return None

    def child(self, part: str) -> _Node:
        if part.startswith("{"):
            if self.variable is None:
                self.variable = _Node()
            return self.variable
        return self.literals.setdefault(part, _Node())

    def end(self, part: str) -> dict[str, Operation]:
        if part.endswith("=**}"):
            if self.rest is None:
                self.rest = {}
            return self.rest
        name, _, verb = part.partition(":") if part.startswith("{") else (part, "", "")
        return self.child(name).verbs.setdefault(verb, {})


_TEMPLATE_LITERAL = re.compile(r"[A-Za-z0-9\-._~]+(?::[A-Za-z0-9\-]+)?")
_TEMPLATE_VARIABLE = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}(?::[A-Za-z0-9\-]+)?")
_TEMPLATE_REST = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*=\*\*\}")


def _split_template(template: str) -> list[str]:
    if not template.startswith("/") or template == "/":
        raise TemplateError(f"the path template {template!r} must start with / and have at least one segment")
    parts = template[1:].split("/")
    for place, part in enumerate(parts):
        last = place + 1 == len(parts)
        if _TEMPLATE_REST.fullmatch(part):
            if not last:
                raise TemplateError(f"in {template!r} the segment {part} takes the rest of the path and must be last")
        elif not (_TEMPLATE_LITERAL.fullmatch(part) or _TEMPLATE_VARIABLE.fullmatch(part)):
            raise TemplateError(
                f"in {template!r} the segment {part!r} is neither a literal, {{name}}, {{name=**}} nor one with a :verb"
            )
        elif ":" in part and not last:
            raise TemplateError(f"in {template!r} the custom verb of {part!r} must be in the last segment")
    return parts


def _escapes_are_safe(path: str) -> bool:
    """Every ``%`` starts an upper-case escape of a character that needs one, and the whole is printable UTF-8."""
    if path.count("%") != len(_ESCAPE.findall(path)):
        return False
    for escape in _ESCAPE.findall(path):
        if chr(int(escape, 16)) in _NEVER_ESCAPED:
            return False
    try:
        decoded = unquote(path, errors="strict")
    except UnicodeDecodeError:
        return False
    if not decoded.isprintable():
        return False
    # A segment that is blank or dots once blanks are trimmed would be an empty or a dot segment to a lenient backend.
    return all(part == part.strip() and part.strip(". ") for part in decoded[1:].rstrip("/").split("/"))


def _is_secret(piece: str, keeps: frozenset[str]) -> bool:
    # Some backends split at ";" too (older Python and Java), so each part is looked at; the whole piece goes.
    for part in piece.split(";"):
        name = part.partition("=")[0]
        for _ in range(_DECODINGS):
            decoded = unquote(name.replace("+", " "))
            if decoded == name:
                break
            name = decoded
        name = _NAME_END.split(name, maxsplit=1)[0].strip().lower().replace("-", "_")
        if name in _OVERRIDE_PARAMETERS or (name in _SECRET_PARAMETERS and name not in keeps):
            return True
    return False

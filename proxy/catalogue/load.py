"""Reads a catalogue file into operations, or says everything that is wrong with it.

What belongs here: the form of a catalogue file. What does not: any path, host or name of a vendor, which stand in the
file itself (``inworld.yaml`` beside this one is the built-in one).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from typing import Final, TypeVar

from proxy.core.model import METHODS, ErrorShape, Kind, Operation, Permission
from proxy.core.target import OperationTree, TemplateError
from proxy.document import Document, Fault, KeyPath, choose_from, describe, quoted, read_document

BUILT_IN: Final = ("inworld",)
"""The catalogues in this package, by name; ``<name>.yaml`` is the file."""

_NAME = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_TOP = frozenset({"name", "url", "protected", "default_errors", "families", "operations"})
_FAMILY = frozenset({"permission", "errors"})
_OPERATION = frozenset({"methods", "path", "kind", "permission", "errors", "keeps_query"})
_PROTECTED = frozenset({"prefix", "permission"})
_DEFAULT_ERRORS = frozenset({"prefix", "shape"})

E = TypeVar("E", bound=Enum)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The operations of one API. ``url`` is where it is when the configuration does not say."""

    name: str
    operations: tuple[Operation, ...]
    default_errors: tuple[tuple[str, ErrorShape], ...]
    url: str | None = None


def load_catalogue(text: str, *, file: str) -> Catalogue | tuple[Fault, ...]:
    """The catalogue in this text, or every fault of it. ``file`` is how the faults name it."""
    document = read_document(text, file=file)
    reader = _CatalogueReader(document)
    catalogue = reader.read()
    return tuple(reader.faults) or catalogue


def load_built_in(name: str) -> Catalogue:
    """A catalogue of this package, by its name in ``BUILT_IN``. A fault in one is a defect of the package."""
    file = resources.files(__package__).joinpath(f"{name}.yaml")
    catalogue = load_catalogue(file.read_text(encoding="utf-8"), file=f"{name}.yaml")
    if not isinstance(catalogue, Catalogue):
        raise TypeError("\n".join(map(str, catalogue)))
    return catalogue


def can_lead_below(template: str, prefix: str) -> bool:
    """True when some path that this template matches begins with this prefix (which ends in a slash)."""
    parts = template.split("/")[1:]
    for place, literal in enumerate(prefix.strip("/").split("/")):
        part = parts[place] if place < len(parts) else ""
        if part.endswith("=**}"):
            return True
        if not part.startswith("{") and part != literal:
            return False
    return True


class _CatalogueReader:
    """One reading of one document: values out, faults collected on the way."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.faults = list(document.faults)

    def read(self) -> Catalogue:
        top = self.mapping((), self.document.value, _TOP)
        protected = [
            (prefix, permission)
            for path, entry in self.entries(("protected",), top.get("protected", []), _PROTECTED)
            if (prefix := self.prefix(path, entry)) is not None
            and (permission := self.one_of(Permission, (*path, "permission"), entry.get("permission"))) is not None
        ]
        default_errors = tuple(
            (prefix, shape)
            for path, entry in self.entries(("default_errors",), top.get("default_errors", []), _DEFAULT_ERRORS)
            if (prefix := self.prefix(path, entry)) is not None
            and (shape := self.one_of(ErrorShape, (*path, "shape"), entry.get("shape"))) is not None
        )
        families = self.named(("families",), top.get("families", {}), _FAMILY)
        operations: list[Operation] = []
        for name, entry in self.named(("operations",), top.get("operations", {}), _OPERATION).items():
            operation = self.operation(name, entry, families)
            if operation is not None:
                self.check_protected(operation, protected)
                operations.append(operation)
        if not operations and not self.faults:
            self.refuse(("operations",), "a catalogue without operations", "add one: `tts.synthesize: {methods: …}`")
        self.check_templates(operations)
        name = self.text(("name",), top.get("name"), "name: inworld")
        url = top.get("url")
        return Catalogue(name, tuple(operations), default_errors, url if isinstance(url, str) else None)

    def operation(
        self, name: str, entry: Mapping[str, object], families: Mapping[str, Mapping[str, object]]
    ) -> Operation | None:
        path: KeyPath = ("operations", name)
        before = len(self.faults)
        if _NAME.fullmatch(name) is None:
            self.refuse(path, "a name that is not family.verb", "write two words of a-z, 0-9 and _ with a dot between")
            return None
        family = name.partition(".")[0]
        settings = {**families.get(family, {}), **entry}
        template = self.text((*path, "path"), entry.get("path"), "path: /tts/v1/voice")
        kind = self.one_of(Kind, (*path, "kind"), entry.get("kind", Kind.HTTP.value))
        methods = self.methods((*path, "methods"), entry.get("methods"), kind)
        permission = self.one_of(Permission, (*path, "permission"), settings.get("permission"))
        errors = self.one_of(ErrorShape, (*path, "errors"), settings.get("errors"))
        keeps = self.words((*path, "keeps_query"), entry.get("keeps_query", []))
        if kind is None or permission is None or errors is None or len(self.faults) > before:
            return None
        return Operation(name, family, methods, template, kind, permission, errors, keeps)

    def methods(self, path: KeyPath, value: object, kind: Kind | None) -> frozenset[str]:
        methods = self.words(path, value if value is not None else [])
        if not methods:
            self.refuse(path, "no methods", "write `methods: [POST]`, or `[GET, HEAD]`")
        for method in sorted(methods - METHODS):
            self.refuse(path, f"the method {quoted(method)}", choose_from(method.upper(), METHODS))
        if kind is Kind.WEBSOCKET and methods != {"GET"}:
            self.refuse(path, "a websocket with other methods than GET", "write `methods: [GET]`")
        return methods

    def check_protected(self, operation: Operation, protected: list[tuple[str, Permission]]) -> None:
        for prefix, permission in protected:
            if can_lead_below(operation.template, prefix) and operation.permission is not permission:
                found = f"a path that can lead below {prefix} with `permission: {operation.permission.value}`"
                remedy = f"write `permission: {permission.value}`, which `protected` asks for there"
                self.refuse(("operations", operation.name, "path"), found, remedy)

    def check_templates(self, operations: list[Operation]) -> None:
        try:
            OperationTree.of(operations)
        except TemplateError:
            # Something is wrong; now find out which rows, one by one: the first to come keeps the path.
            accepted: list[Operation] = []
            for operation in operations:
                try:
                    OperationTree.of([*accepted, operation])
                except TemplateError as exc:
                    self.refuse(("operations", operation.name, "path"), f"an unusable path: {exc}", "change this row")
                else:
                    accepted.append(operation)

    def prefix(self, path: KeyPath, entry: Mapping[str, object]) -> str | None:
        value = entry.get("prefix")
        if isinstance(value, str) and value.startswith("/"):
            return value
        self.refuse((*path, "prefix"), quoted(value), "write the beginning of a path: `/v1/`")
        return None

    def one_of(self, values: type[E], path: KeyPath, value: object) -> E | None:
        known = {str(member.value): member for member in values}
        if isinstance(value, str) and value in known:
            return known[value]
        remedy = choose_from(value if isinstance(value, str) else "", known)
        self.refuse(path, quoted(value), remedy)
        return None

    def words(self, path: KeyPath, value: object) -> frozenset[str]:
        words = value if isinstance(value, list) else [value]
        for index, word in enumerate(words):
            if not isinstance(word, str):
                self.refuse((*path, index), describe(word), "write a word")
        return frozenset(word for word in words if isinstance(word, str))

    def text(self, path: KeyPath, value: object, example: str) -> str:
        if isinstance(value, str) and value:
            return value
        self.refuse(path, describe(value), f"write text here, as in `{example}`")
        return ""

    def entries(
        self, path: KeyPath, value: object, known: frozenset[str]
    ) -> list[tuple[KeyPath, Mapping[str, object]]]:
        if not isinstance(value, list):
            self.refuse(path, describe(value), "write a list")
            return []
        return [((*path, index), self.mapping((*path, index), entry, known)) for index, entry in enumerate(value)]

    def named(self, path: KeyPath, value: object, known: frozenset[str]) -> dict[str, dict[str, object]]:
        if not isinstance(value, dict):
            self.refuse(path, describe(value), "write a mapping")
            return {}
        return {name: self.mapping((*path, name), entry, known) for name, entry in value.items()}

    def mapping(self, path: KeyPath, value: object, known: frozenset[str]) -> dict[str, object]:
        if not isinstance(value, dict):
            self.refuse(path, describe(value), "write a mapping (key: value)")
            return {}
        for key in value.keys() - known:
            self.refuse((*path, key), f"the unknown key {quoted(key)}", choose_from(key, known))
        return value

    def refuse(self, path: KeyPath, found: str, remedy: str) -> None:
        self.faults.append(self.document.fault(path, found, remedy))

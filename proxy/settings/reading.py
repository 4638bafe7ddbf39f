"""Reads each section of the configuration on its own, and turns what pydantic says into faults in our words.

What belongs here: from a document to typed sections, keeping all that is usable next to what is not, so that one
mistake does not hide the others. What does not: whether the sections fit together (``resolve.py``, ``routing.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from proxy.document import Document, Fault, KeyPath, choose_from, describe, nearest, quoted
from proxy.settings.fields import NAME, UNUSABLE
from proxy.settings.model import (
    CallerSettings,
    Configuration,
    CredentialSettings,
    RouteSettings,
    Section,
    UpstreamSettings,
)

S = TypeVar("S", bound=Section)

_ENTRIES = ("upstreams", "credentials", "routes", "callers")

_STAND_INS: Mapping[str, tuple[str, object]] = MappingProxyType(
    {
        "operations": ("*", ()),
        "allow": ("*", ()),
        "token": ("sha256:" + "0" * 64, ()),
        "credential": ("none", ""),
    }
)
"""For required fields that were refused: a text that can be read, and the empty value that then stands for it."""

HOW_NAMED = "start with a letter or digit and use only those, `.`, `_` and `-`, at most 63"


@dataclass(frozen=True, slots=True)
class Entry(Generic[S]):
    """One section that could be read. ``whole`` is False when parts of it were refused and their defaults stand in."""

    path: KeyPath
    settings: S
    whole: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """All sections of one document. An entry that is declared but cannot be read at all is None."""

    document: Document
    options: Entry[Configuration]
    upstreams: Mapping[str, Entry[UpstreamSettings] | None]
    credentials: Mapping[str, Entry[CredentialSettings] | None]
    callers: Mapping[str, Entry[CallerSettings] | None]
    routes: tuple[Entry[RouteSettings] | None, ...]
    declares_routes: bool


def read_sections(document: Document, faults: list[Fault]) -> Reading:
    """Everything that is usable in this document; what is not is added to ``faults``."""
    top = document.value
    if not isinstance(top, dict):
        faults.append(document.fault((), describe(top), "write a mapping, such as `listen: 127.0.0.1:8080`"))
        top = {}
    options = _read(Configuration, document, (), {key: top[key] for key in top if key not in _ENTRIES}, faults)
    routes = top.get("routes", [])
    if not isinstance(routes, list) or ("routes" in top and not routes):
        found = "an empty list" if routes == [] else describe(routes)
        faults.append(document.fault(("routes",), found, 'write a list, as in `- {operations: "*", credential: …}`'))
        routes = []
    return Reading(
        document,
        options if options is not None else Entry((), Configuration(), whole=False),
        _read_named(UpstreamSettings, document, "upstreams", faults),
        _read_named(CredentialSettings, document, "credentials", faults),
        _read_named(CallerSettings, document, "callers", faults),
        tuple(_read(RouteSettings, document, ("routes", index), route, faults) for index, route in enumerate(routes)),
        "routes" in top,
    )


def _read_named(model: type[S], document: Document, section: str, faults: list[Fault]) -> dict[str, Entry[S] | None]:
    top = document.value if isinstance(document.value, dict) else {}
    if section not in top:
        return {}
    entries = top[section]
    if not isinstance(entries, dict) or not entries:
        found = "an empty mapping" if entries == {} else describe(entries)
        faults.append(document.fault((section,), found, "write names with their settings, or remove the key"))
        return {}
    read: dict[str, Entry[S] | None] = {}
    for name, value in entries.items():
        if re.fullmatch(NAME, name) is None:
            faults.append(document.fault((section, name), f"the name {quoted(name)}", HOW_NAMED))
        read[name] = _read(model, document, (section, name), value, faults)
    return read


def _read(model: type[S], document: Document, path: KeyPath, value: object, faults: list[Fault]) -> Entry[S] | None:
    try:
        return Entry(path, model.model_validate(value), whole=True)
    except ValidationError as exc:
        errors = exc.errors(include_url=False)
    faults.extend(_explain(model, document, path, error) for error in errors)
    for error in reversed(errors):
        value = _without(value, error["loc"])
    if not isinstance(value, dict):
        return None
    refused = [name for name, field in model.model_fields.items() if field.is_required() and name not in value]
    try:
        # What was refused is replaced, read with the rest, and then emptied: so the rest can still be judged.
        settings = model.model_validate(
            {**value, **{name: _STAND_INS[name][0] for name in refused if name in _STAND_INS}}
        )
    except ValidationError:
        return None
    return Entry(path, settings.model_copy(update={name: _STAND_INS[name][1] for name in refused}), whole=False)


def _explain(model: type[Section], document: Document, path: KeyPath, error: ErrorDetails) -> Fault:
    here: KeyPath = (*path, *error["loc"])
    key = next((part for part in reversed(error["loc"]) if isinstance(part, str)), "")
    parent = _section_at(model, error["loc"][:-1])
    field = _field_at(model, error["loc"])
    example = f"`{_spell_example(key, field.examples[0])}`" if field is not None and field.examples else "another value"
    match error["type"]:
        case _ if error["type"] == UNUSABLE:
            context: dict[str, Any] = error["ctx"]  # put there by fields.py
            return document.fault(_shown(document, here), context["found"], context["remedy"])
        case "missing":
            return document.fault(here, "nothing, where a value is needed", f"add {example}")
        case "extra_forbidden":
            return document.fault(here, f"the unknown key {quoted(key)}", _remedy_for_key(key, parent))
        case "model_type":
            known = ", ".join(f"`{name}`" for name in (_section_at(model, error["loc"]) or model).model_fields)
            return document.fault(here, describe(error["input"]), f"write a mapping with the keys {known}")
        case "too_short":
            return document.fault(here, "an empty list", f"write at least one, as in {example}")
        case "tuple_type" | "list_type":
            return document.fault(here, describe(error["input"]), f"write a list, as in {example}")
        case _:
            return document.fault(here, describe(error["input"]), f"write it as in {example}")


def _spell_example(key: str, value: object) -> str:
    # JSON is YAML; a word that needs no quotes looks better without.
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:/._-]*", value)
    return f"{key}: {value if plain else json.dumps(value, ensure_ascii=False)}"


def _remedy_for_key(key: str, section: type[Section] | None) -> str:
    known = list(section.model_fields) if section is not None else []
    close = nearest(key, known)
    return f"write `{close}`" if close is not None else f"remove it; {choose_from('', known)}"


def _section_at(model: type[Section], loc: tuple[str | int, ...]) -> type[Section] | None:
    if not loc:
        return model
    field = _field_at(model, loc)
    annotation = field.annotation if field is not None else None
    # A section that may be left out is `Section | None`.
    choices = (annotation, *get_args(annotation))
    return next((each for each in choices if isinstance(each, type) and issubclass(each, Section)), None)


def _field_at(model: type[Section], loc: tuple[str | int, ...]) -> FieldInfo | None:
    """The field at the end of this location; for an item of a list, the field that holds the list."""
    names = [part for part in loc if isinstance(part, str)]
    if not names:
        return None
    parent = _section_at(model, tuple(names[:-1]))
    return parent.model_fields.get(names[-1]) if parent is not None else None


def _shown(document: Document, path: KeyPath) -> KeyPath:
    # One item may stand without its list; then its index is nowhere in the text.
    return path[:-1] if path not in document.places and isinstance(path[-1], int) else path


def _without(value: object, loc: tuple[str | int, ...]) -> object:
    """A copy without what stands at this location, or without the nearest value around it that is there."""
    match (value, loc):
        case (dict(), (str() as key, *rest)) if key in value:
            kept = _without(value[key], tuple(rest)) if rest and isinstance(value[key], dict | list) else None
            pruned = {other: item for other, item in value.items() if other != key}
            # What is missing in a section cannot be taken out of it; then the section is.
            return pruned if kept is None or kept is value[key] else {**pruned, key: kept}
        case (list(), (int() as index, *_)) if index < len(value):
            return [*value[:index], *value[index + 1 :]]
        case _:
            return value

"""Routers: what is remembered about them.

What belongs here: storing and resolving. What does not: HTTP (``routers.py``); choosing a variant per request, which
the real service does by condition and weight and the sandbox by weight alone, always the heaviest.
"""

from __future__ import annotations

import re

from proxy.sandbox.errors import Refusal, invalid, not_found
from proxy.sandbox.shapes import JsonObject, list_of, number_of, object_of, text_of

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
PREFIX = "inworld/"
"""A router is used as the model ``inworld/<name>``."""


class RouterStore:
    """The routers of all workspaces, by name."""

    def __init__(self) -> None:
        self._routers: dict[tuple[str, str], JsonObject] = {}

    def all(self, workspace: str) -> list[JsonObject]:
        """A workspace's routers, oldest first."""
        return [router for (owner, _), router in self._routers.items() if owner == workspace]

    def get(self, workspace: str, name: str) -> JsonObject:
        """One of them; raises ``Refusal``."""
        router = self._routers.get((workspace, name.removeprefix(PREFIX)))
        if router is None:
            raise not_found(f"router not found: {name}")
        return router

    def create(self, workspace: str, router: JsonObject) -> JsonObject:
        """A new router; 409 if the name is taken."""
        name = text_of(router, "name").removeprefix(PREFIX)
        if not _NAME.fullmatch(name):
            raise invalid("name must be lowercase letters, digits and dashes")
        _check_weights(router)
        if (workspace, name) in self._routers:
            raise Refusal(409, f"router already exists: {name}", code=6)
        self._routers[workspace, name] = router | {"name": name}
        return self._routers[workspace, name]

    def update(self, workspace: str, name: str, changes: JsonObject, mask: list[str]) -> JsonObject:
        """The router with the fields of the mask (or all that are given) replaced."""
        router = self.get(workspace, name)
        fields = [path.partition(".")[0] for path in mask] or list(changes)
        changed = router | {field: changes[field] for field in fields if field in changes} | {"name": router["name"]}
        _check_weights(changed)
        self._routers[workspace, router["name"]] = changed
        return changed

    def delete(self, workspace: str, name: str) -> None:
        """Forgets a router; raises ``Refusal`` if there is none."""
        del self._routers[workspace, self.get(workspace, name)["name"]]

    def model(self, workspace: str, model: str) -> str:
        """The model that answers for ``model``: the heaviest variant's if it is a router's name."""
        router = self._routers.get((workspace, model.removeprefix(PREFIX))) if model.startswith(PREFIX) else None
        if router is None:
            return model
        variants = list_of(object_of(router, "defaultRoute"), "variants")
        heaviest: JsonObject = max(variants, key=lambda variant: number_of(variant, "weight", 0), default={})
        return text_of(object_of(heaviest, "variant"), "modelId") or model


def _check_weights(router: JsonObject) -> None:
    routes = [object_of({"route": entry}, "route").get("route") for entry in list_of(router, "routes")]
    for route in [*routes, router.get("defaultRoute")]:
        variants = list_of(object_of({"route": route}, "route"), "variants")
        total = sum(number_of(object_of({"variant": variant}, "variant"), "weight", 0) for variant in variants)
        if variants and total != 100:
            raise invalid(f"the weights of a route's variants must sum to 100, not {total:g}")

"""PromQL made from the metrics that there are: what does not exist, or lacks the label that is asked for, is an error.

What belongs here: the list of families, and the few kinds of expression that the panels need. What does not: which
panel shows what (``panels.py``), and Grafana's JSON (``run.py``).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxy.core.errors import Code
from proxy.observe.families import PREFIX, registry_of
from proxy.observe.metrics import Metrics
from proxy.settings.load import load_settings

TARGET = ("job", "instance")
"""Labels that Prometheus adds to everything it scrapes."""

CHOSEN = {"instance": "$instance", "operation": "$operation", "caller": "$caller"}
"""Labels that whoever looks at the dashboard chooses values of, and the variables that hold the choice."""

WINDOW = "$__rate_interval"
"""Grafana's: at least four scrapes, and wider where a pixel is."""


class UnknownError(Exception):
    """A metric that the proxy does not export, a label that it does not have, or a use that its type does not allow."""


@dataclass(frozen=True)
class Family:
    """One metric as it is exported. ``name`` without ``_total``, and as a whole where it is not the proxy's own."""

    name: str
    type: str
    labels: tuple[str, ...]
    text: str

    def selector(self, suffix: str = "", where: Mapping[str, str] | None = None) -> str:
        """Its samples on the chosen instances, operations and callers, and with these values (regular expressions)."""
        chosen = {name: value for name, value in CHOSEN.items() if name in (*self.labels, *TARGET)}
        matchers = {**chosen, **(where or {})}
        self.check(matchers)
        for value in (where or {}).get("code", "").split("|"):
            if value and value not in {code.value for code in Code}:
                raise UnknownError(f"there is no code {value}")
        spelled = ", ".join(f'{name}=~"{value}"' for name, value in matchers.items())
        return f"{self.name}{suffix}{{{spelled}}}"

    def check(self, labels: Iterable[str]) -> None:
        """Raises ``UnknownError`` for a label that it does not have."""
        for label in labels:
            if label not in (*self.labels, *TARGET):
                raise UnknownError(f"{self.name} has no label {label}; it has {', '.join(self.labels) or 'none'}")


@dataclass(frozen=True)
class Query:
    """An expression, and the families that it shows."""

    text: str
    shows: frozenset[str]

    def over(self, other: Query) -> Query:
        """The share of one in the other."""
        return Query(f"{self.text}\n/\n{other.text}", self.shows | other.shows)


class Families:
    """All families by name, the proxy's own without their prefix, and the expressions that can be made of them."""

    def __init__(self) -> None:
        self.by_name = {each.name: each for each in _exported()}

    def __getitem__(self, name: str) -> Family:
        for each in (PREFIX + name, name):
            if each in self.by_name:
                return self.by_name[each]
        raise UnknownError(f"the proxy exports no {name}")

    def of_type(self, name: str, *types: str) -> Family:
        """The family of this name. Raises ``UnknownError`` when it is of another type."""
        family = self[name]
        if family.type not in types:
            raise UnknownError(f"{family.name} is a {family.type}, and {' or '.join(types)} is needed")
        return family

    def rate(self, name: str, *by: str, **where: str) -> Query:
        """A counter's increase in a second, summed up by these labels."""
        family = self.of_type(name, "counter")
        family.check(by)
        return Query(f"{_sum(by)}(rate({family.selector('_total', where)}[{WINDOW}]))", frozenset({family.name}))

    def increase(self, name: str, *by: str, **where: str) -> Query:
        """A counter's increase in the window, for what happens so rarely that a rate says nothing."""
        family = self.of_type(name, "counter")
        family.check(by)
        return Query(f"{_sum(by)}(increase({family.selector('_total', where)}[{WINDOW}]))", frozenset({family.name}))

    def now(self, name: str, *by: str, function: str = "sum", **where: str) -> Query:
        """A gauge, summed up (or with another function of PromQL's) by these labels."""
        family = self.of_type(name, "gauge")
        family.check(by)
        return Query(f"{_sum(by, function)}({family.selector('', where)})", frozenset({family.name}))

    def total(self, name: str, *by: str) -> Query:
        """A counter since the process began, for what should not happen at all."""
        family = self.of_type(name, "counter")
        family.check(by)
        return Query(f"{_sum(by)}({family.selector('_total')})", frozenset({family.name}))

    def since(self, name: str, *by: str) -> Query:
        """Seconds since the moment that a gauge names: the longest, where there are several."""
        moment = self.now(name, *by, function="min")
        return Query(f"time() - {moment.text}", moment.shows)

    def until(self, name: str, *by: str) -> Query:
        """Seconds to the moment that a gauge names: the fewest, where there are several."""
        moment = self.now(name, *by, function="min")
        return Query(f"{moment.text} - time()", moment.shows)

    def quantile(self, share: float, name: str, *by: str) -> Query:
        """What this share of a histogram's values is below."""
        family = self.of_type(name, "histogram")
        family.check(by)
        buckets = f"{_sum(('le', *by))}(rate({family.selector('_bucket')}[{WINDOW}]))"
        return Query(f"histogram_quantile({share}, {buckets})", frozenset({family.name}))

    def mean(self, name: str, *by: str) -> Query:
        """The mean of what a histogram or a summary has seen."""
        family = self.of_type(name, "histogram", "summary")
        family.check(by)
        both = (f"{_sum(by)}(rate({family.selector(part)}[{WINDOW}]))" for part in ("_sum", "_count"))
        return Query("\n/\n".join(both), frozenset({family.name}))


def _sum(by: Iterable[str], function: str = "sum") -> str:
    labels = ", ".join(by)
    return f"{function} by ({labels}) " if labels else function


def _exported() -> Iterable[Family]:
    key = base64.b64encode(b"id:secret").decode()
    snapshot = load_settings(None, {"INWORLD_API_KEY": key})
    for family in registry_of(Metrics(lambda: snapshot)).collect():
        # The library shows labels only on samples, and a counter without any has none yet.
        labels = vars(family).get("_labelnames") or sorted({name for each in family.samples for name in each.labels})
        yield Family(family.name, family.type, tuple(labels), family.documentation)

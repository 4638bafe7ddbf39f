"""What callers did, as a log or a process that runs tells it.

What belongs here: from log lines or metrics to counts by caller and operation. What does not: what to grant for it
(``suggest_cover.py``) and how that is written (``suggest_block.py``). Texts from a log are a stranger's: what a path
says is shown only once it has been made printable, and is at most so long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.core.errors import Code
from proxy.settings.fields import NAME

AFTER_DECISION = frozenset(
    code.value
    for code in Code
    if code.value.startswith(("upstream_", "tunnel_", "body_"))
    or code
    in {
        Code.CALLER_STALLED,
        Code.CONCURRENCY_LIMITED,
        Code.CREDENTIAL_UNAVAILABLE,
        Code.DESCRIPTORS_EXHAUSTED,
        Code.DRAINING,
        Code.INTERNAL,
        Code.IN_FLIGHT_LIMITED,
        Code.LIMITS_UNAVAILABLE,
        Code.RATE_LIMITED,
        Code.TOTAL_TIMEOUT,
        Code.TUNNELS_LIMITED,
    }
)
"""Codes of requests that were allowed and then came to nothing. With any other code ``decide()`` said no, or nobody
knows: a code of a later version counts as a refusal, so that nothing is granted by mistake."""

REFUSED = "refused"

MOST_REFUSALS = 2000
"""Different refusals that are told apart; strangers choose paths, and a log may have millions."""

OTHER_PATHS = "other paths"

_ALWAYS = frozenset({"time", "method", "path", "status", "ending", "duration_ms", "request_bytes", "response_bytes"})
"""Fields of every line, unless ``log.omit`` names them."""

_OURS = 4
"""How many of them make a line one of ours: somebody else's JSON has a time and a path, too."""

_TEXT_LINE = re.compile(r"\d\d:\d\d:\d\d (?:\d{3}|---) [A-Z]+ ")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?Z")
_WORD = re.compile(NAME)
_CODE = re.compile(r"[a-z_]{1,40}")
_LONGEST_PATH = 100


@dataclass(slots=True)
class Sighting:
    """Requests of one caller for one operation that were let through, ``audited`` of them by audit mode alone.

    ``first`` and ``last`` are ISO times in UTC to the second, empty where nothing said when.
    """

    count: int = 0
    audited: int = 0
    first: str = ""
    last: str = ""

    def add(self, *, audited: bool, when: str) -> None:
        """One more."""
        self.count += 1
        self.audited += audited
        if when:
            self.first = min(self.first, when) if self.first else when
            self.last = max(self.last, when)


class Refusal(NamedTuple):
    """What was refused: the operation, or method and path where there is none."""

    code: str
    caller: str
    what: str


@dataclass(slots=True)
class Seen:
    """Everything that was seen, and what could not be used."""

    allowed: dict[tuple[str, str], Sighting] = field(default_factory=dict)
    """By caller and operation."""
    refused: dict[Refusal, int] = field(default_factory=dict)
    foreign: int = 0
    """Lines that are not JSON, or nobody's log of ours."""
    text: int = 0
    """Lines of ours in the format for terminals."""
    lacking: dict[str, int] = field(default_factory=dict)
    """Lines of ours that say too little, by the field that ``log.omit`` left out of them."""
    notes: list[str] = field(default_factory=list)
    """What whoever reads the rules should know of where they come from."""

    def allow(self, caller: str, operation: str) -> Sighting:
        """Where requests of this caller for this operation are counted."""
        return self.allowed.setdefault((caller, operation), Sighting())

    def refuse(self, code: str, caller: str, what: str, count: int = 1) -> None:
        """So many more were refused."""
        refusal = Refusal(code, caller, what)
        if refusal not in self.refused and len(self.refused) >= MOST_REFUSALS:
            refusal = Refusal(code, caller, OTHER_PATHS)
        self.refused[refusal] = self.refused.get(refusal, 0) + count


def read_log(lines: Iterable[bytes], seen: Seen) -> None:
    """Adds what these lines say. What stands in front of the JSON (a container's name, a time) is passed over."""
    for raw in lines:
        line = raw.decode("utf-8", "replace")
        if not line.strip():
            continue
        fields = _fields(line)
        if fields is not None:
            _add_line(fields, seen)
        elif _TEXT_LINE.search(line):
            seen.text += 1
        else:
            seen.foreign += 1


def _fields(line: str) -> dict[str, object] | None:
    start = line.find("{")
    try:
        value = json.loads(line[start:]) if start >= 0 else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and len(_ALWAYS & value.keys()) >= _OURS else None


def _add_line(fields: dict[str, object], seen: Seen) -> None:
    code = _word(fields.get("code"), _CODE)
    caller, operation = _word(fields.get("caller"), _WORD), _word(fields.get("operation"), _WORD)
    went_through = code in AFTER_DECISION if code else _is_answered(fields)
    if went_through is None:
        _lack("ending", seen)
    elif went_through and operation and caller:
        when = _TIME.match(_text(fields.get("time")))
        seen.allow(caller, operation).add(audited="would_refuse" in fields, when="" if when is None else when[1])
    elif went_through and (operation or caller or fields.get("method") != "OPTIONS"):
        # What the proxy answers by itself has neither: a browser's question whether it may ask (a preflight).
        _lack("caller" if operation else "operation", seen)
    elif not went_through and not code:
        _lack("code", seen)
    elif code:
        what = operation or f"{printable(fields.get('method'))} {printable(fields.get('path'))}".strip()
        seen.refuse(code, caller, what)


def _is_answered(fields: dict[str, object]) -> bool | None:
    """Without a code: was it let through? None when the line does not say."""
    ending = fields.get("ending")
    if isinstance(ending, str):
        return ending != REFUSED
    status = fields.get("status")
    return True if isinstance(status, int) and status < 400 else None  # an upstream refuses things, too


def _lack(name: str, seen: Seen) -> None:
    seen.lacking[name] = seen.lacking.get(name, 0) + 1


def _word(value: object, pattern: re.Pattern[str]) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def printable(value: object) -> str:
    """A text of the log as it may stand in a comment: one line of plain characters, not too long."""
    text = "".join(character if " " < character <= "~" else "?" for character in _text(value))
    return text if len(text) <= _LONGEST_PATH else f"{text[:_LONGEST_PATH]}..."

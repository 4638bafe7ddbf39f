"""Callers that are users of this machine: which number is which caller, and whether the kernel can be asked at all.

What belongs here: what can never work is refused at load, as for every way of recognising a caller. What does not:
asking the kernel (``wire/peer.py``).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from proxy.callers.user import UNNAMED, user_recogniser
from proxy.core.model import Caller, UserRecogniser
from proxy.document import Fault, KeyPath, quoted
from proxy.settings.model import CallerSettings
from proxy.settings.reading import Entry, Reading
from proxy.settings.users import find_user

PLATFORMS = ("linux", "darwin")
"""Where the kernel can be asked who connected to a unix socket (``wire/peer.py`` knows how)."""


def resolve_user_callers(
    reading: Reading, callers: Mapping[str, Caller], faults: list[Fault], *, knows_users: bool
) -> UserRecogniser | None:
    """The way of recognising them, if there are any. ``knows_users``: a unix socket is inherited."""
    owners: dict[int, str] = {}
    document = reading.document
    declared = False
    for name, entry in reading.callers.items():
        if entry is None or not entry.settings.uid:
            continue
        declared = True
        path = (*entry.path, "uid")
        _check_listener(reading, path, faults, knows_users=knows_users)
        for index, user in enumerate(entry.settings.uid):
            item = (*path, index) if (*path, index) in document.places else path
            number = find_user(user)
            reason = _why_unusable(user, number)
            if number is not None and reason is None:
                owner = owners.setdefault(number, name)
                if owner != name or _numbers(entry).count(number) > 1:
                    reason = f"the user {number}, who is `{owner}` already", "give every caller a user of its own"
            if reason is not None:
                faults.append(document.fault(item, *reason))
                break
    if not declared:
        return None
    return user_recogniser({number: callers[name] for number, name in owners.items() if name in callers})


def _numbers(entry: Entry[CallerSettings]) -> list[int | None]:
    return [find_user(user) for user in entry.settings.uid]


def _check_listener(reading: Reading, path: KeyPath, faults: list[Fault], *, knows_users: bool) -> None:
    document = reading.document
    listen = reading.options.settings.listen
    instead = "or recognise this caller by a `token`"
    if sys.platform not in PLATFORMS:
        found = f"a caller known by user, which this system ({sys.platform}) does not tell"
        faults.append(document.fault(path, found, "recognise this caller by a `token` or a `jwt`"))
    elif listen.path is None and not knows_users and reading.options.whole:
        found = f"a caller known by user, while callers connect to `{listen}`, where nobody's user is known"
        remedy = f"listen on a unix socket (`listen: unix:/run/inworld-proxy/proxy.sock`), {instead}"
        faults.append(document.fault(path, found, remedy))


def _why_unusable(user: int | str, number: int | None) -> tuple[str, str] | None:
    if number is None:
        return f"the user {quoted(user)}, who is not on this machine", "correct the name, or write the number"
    if number == UNNAMED:
        found = f"the user {quoted(user)}, as whom the kernel shows every user that it has no number for here"
        return found, "run this caller as a user of its own, and name that one"
    return None

"""What must be true of a run of `make chaos`: every bar, whether it holds, and in words.

What belongs here: the two halves of the accounts, put beside each other. What does not: counting.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from heard import Heard
from operations import Done, Taking
from plan import NEVER_AT
from processes import Scrape
from tunnels import NOT_PERMITTED, Life

SLOWEST_SCRAPE = 3.0
"""Seconds: on a machine that is busy with something else too. One that held the loop took 3 to 7 here."""

CLOSED_WITHIN = 3.5
"""Seconds after a configuration is in force in which the tunnels that it does not allow are gone: the proxy waits one
for a frame to end and one for the Close to be answered, and a busy machine may take the rest."""

_TEXT_LINE = re.compile(r"^\S+ (\d{3}|---) .*?( aborted| caller_gone)?(?: caller\d+)? [\d.]+ ms \d+ B(?: id=\S+)?$")


@dataclass(frozen=True)
class Logged:
    """What the request log says: how many lines, and of those that were answered whole, how many of each status."""

    lines: int
    answered: Counter[int]
    unreadable: list[str]

    @classmethod
    def read(cls, written: str) -> Logged:
        """Reads it, in whichever of its two formats each line is."""
        answered: Counter[int] = Counter()
        unreadable = []
        lines = written.splitlines()
        for line in lines:
            if line.startswith("{"):
                said = json.loads(line)
                whole, status = said["ending"] not in ("aborted", "caller_gone"), said["status"]
            elif match := _TEXT_LINE.match(line):
                whole, status = match[2] is None, int(match[1].replace("---", "0"))
            else:
                unreadable.append(line)
                continue
            answered[status] += whole
        return cls(len(lines), answered, unreadable)


@dataclass(frozen=True)
class Report:
    """All that was counted. ``last``: a request that was being answered when the proxy was told to stop."""

    heard: Heard
    upstreams: dict[str, dict[str, Any]]
    done: Done
    lives: list[Life]
    warm: Scrape
    end: Scrape
    slowest_scrape: float
    scrapes: int
    last: str
    code: int
    log: str
    errors: str

    def bars(self) -> Iterator[tuple[bool, str]]:
        """Each bar: whether it holds, and in words."""
        yield from self._contents()
        yield from self._leaks()
        yield from self._secrets()
        yield from self._accounts()
        yield from self._callers()
        yield from self._life()

    def _contents(self) -> Iterator[tuple[bool, str]]:
        wrong = self.heard.wrong
        yield _none("every body and every echo is exact", wrong["body"])
        yield _none("no answer was given to another caller", wrong["stranger"])
        yield _none("what broke looks broken", wrong["unbroken"])
        yield _none("nothing was lost that nobody broke", wrong["lost"])
        yield _none("tunnels ended only as somebody wanted", wrong["tunnel"])
        yield _none("every upload that arrived whole is exact", self._of_upstreams("upload"))
        yield _none("writes were delivered at most once", self._of_upstreams("repeated"))
        yield _none("nothing forbidden or malformed was let through", wrong["allowed"] + self._of_upstreams("unasked"))

    def _leaks(self) -> Iterator[tuple[bool, str]]:
        warm, end = self.warm, self.end
        counts = {
            name: end[name] for name in ("caller_connections", "tunnels_open", "requests_in_flight", "queue_waiting")
        } | {"upstream_connections active": end.active}
        yield not any(counts.values()), f"no connection, tunnel or request is left: {_numbers(counts)}"
        tasks = f"{warm['tasks']:g} at the warm start, {end['tasks']:g} at the end"
        yield 0 < end["tasks"] <= warm["tasks"], f"no task is left: {tasks}"
        descriptors = f"{warm.descriptors:g} at the warm start, {end.descriptors:g} at the end"
        yield end.descriptors <= warm.descriptors, f"no descriptor is left, idle connections aside: {descriptors}"
        opened = sum(told["open"] for told in self.upstreams.values())
        yield opened <= end.idle, f"upstreams see no more connections than are idle: {opened}, {end.idle:g}"

    def _secrets(self) -> Iterator[tuple[bool, str]]:
        yield _none("no credential arrived at an upstream where it does not belong", self._of_upstreams("secret"))
        yield _none("nothing secret was sent to a caller", self.heard.wrong["secret"])
        written = (self.log + self.errors).encode()
        yield _none("nothing secret is in the log", [word.decode() for word in NEVER_AT["caller"] if word in written])
        wrong = self._of_upstreams("authorization")
        yield _none("every request upstream carried exactly one credential, good at that time", wrong)

    def _accounts(self) -> Iterator[tuple[bool, str]]:
        end, heard = self.end, self.heard
        accepted, ended = end["requests_accepted_total"], end["requests_ended_total"]
        yield accepted == ended, f"accepted == ended: {accepted:g}, {ended:g}"
        # One more was accepted after the last look.
        expected = accepted + 1 - end["log_lines_dropped_total"]
        logged = Logged.read(self.log)
        yield logged.lines == expected, f"lines in the log == accepted - dropped: {logged.lines}, {expected:g}"
        yield _none("every line of the log can be read", logged.unreadable)
        missing = {status: count for status, count in heard.statuses.items() if count > logged.answered[status]}
        yield not missing, f"every answer that was heard is in the log: {missing or 'yes'}"
        opened = heard.tunnels["opened"]
        whole = sum(count for status, count in logged.answered.items() if status != 101) - 1
        unheard = whole - heard.statuses.total()
        most = heard.left + heard.cut
        yield 0 <= unheard <= most, f"answers that nobody heard are of callers who left: {unheard} of {most}"
        yield accepted <= heard.asked, f"no request was accepted that nobody sent: {accepted:g} of {heard.asked}"
        yield logged.answered[101] <= opened, f"no tunnel was opened that nobody asked for: {opened}"

    def _callers(self) -> Iterator[tuple[bool, str]]:
        yield _none("stable callers were never refused (401, 403)", self.heard.wrong["refused"])
        stable = [life.caller.name for life in self.lives if life.status == NOT_PERMITTED and not life.caller.flapping]
        yield _none(f"no stable caller's tunnel ended with {NOT_PERMITTED}", stable)
        closed, wrong = self._taken()
        words = f"grants that were taken ended their tunnels with {NOT_PERMITTED}, {closed} of them"
        yield closed > 0 and not wrong, f"{words}: {wrong[:3] or 'yes'}"
        refused = sum(self.heard.codes[code] for code in ("unknown_caller", "operation_not_granted"))
        yield refused > 0, f"whose grant was away was refused: {refused} times"

    def _taken(self) -> tuple[int, list[str]]:
        """How many tunnels ended because a grant was taken, and what is wrong with that."""
        away: dict[str, list[Taking]] = {}
        for taking in self.done.takings:
            away.setdefault(taking.caller, []).append(taking)
        closed, wrong = 0, []
        for life in self.lives:
            times = away.get(life.caller.name, [])
            name = f"{life.caller.name}, open {life.opened:.2f} to {life.ended:.2f}"
            if life.status == NOT_PERMITTED:
                closed += 1
                if not any(each.written <= life.ended <= each.back + CLOSED_WITHIN for each in times):
                    wrong.append(f"{name}: ended with {NOT_PERMITTED} while it was granted")
            for each in times:
                if life.opened < each.applied and min(each.back_written, life.ended) > each.applied + CLOSED_WITHIN:
                    wrong.append(f"{name}: its grant was taken at {each.applied:.2f}")
                # What opened a moment before may be heard of a moment later.
                if each.applied + 1 < life.opened < each.back_written:
                    wrong.append(f"{name}: opened while its grant was away")
        return closed, wrong

    def _life(self) -> Iterator[tuple[bool, str]]:
        done, by = self.done, self.end.by["inworld_proxy_configuration_reloads_total"]
        counted = {label.partition('"')[2].strip('"'): int(value) for label, value in by.items()}
        right = counted == {"success": done.good, "failed": done.faulty}
        yield right, f"reloads as applied, {done.good} good and {done.faulty} faulty, == as counted: {counted}"
        yield _none("every reload and every key was taken up as it should be", done.wrong)
        happened = {"keys replaced": min(done.keys.values(), default=0), "tokens revoked": done.revoked}
        happened |= {"listeners closed": sum(told["listener_closed"] for told in self.upstreams.values())}
        happened |= {"callers' tokens replaced": done.tokens}
        yield all(happened.values()), f"there was something to survive: {_numbers(happened)}"
        slowest = f"{self.slowest_scrape:.2f} s of {self.scrapes}"
        yield self.slowest_scrape < SLOWEST_SCRAPE, f"the slowest scrape took less than {SLOWEST_SCRAPE:g} s: {slowest}"
        yield self.last == "whole", f"what was being answered at the end was answered: {self.last}"
        yield self.code == 0, f"the proxy's exit code is 0: {self.code}"
        yield "Traceback" not in self.errors, "no traceback is in its standard error"

    def _of_upstreams(self, kind: str) -> list[str]:
        return [f"{name}: {sentence}" for name, told in self.upstreams.items() for sentence in told["wrong"][kind]]


def _none(words: str, wrong: list[str]) -> tuple[bool, str]:
    return not wrong, f"{words}: {'yes' if not wrong else wrong[:5]}"


def _numbers(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:g}" for name, count in counts.items())

"""The operator of `make chaos`: rewrites the configuration, has it read again in every way, and replaces keys.

What belongs here: what is configured, when it changes, and what must follow from that. What does not: what the traffic
made of it (``bars.py``).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from heard import Caller
from plan import caller_token, key_id, upstream_key
from processes import PATIENCE, Running, put_file

RETIRED = 65.0
"""Seconds before the end from which no credential's settings change: what a reload took away lives on for a minute."""

KEY_LATE, KEY_OVERLAP = 10.0, 3.0
"""Seconds until a new key must be in use, and for which the old one is good from then on: it may be on its way."""

EVERYTHING = ["tts.*", "stt.*", "llm.*", "models.*", "realtime.*", "voices.*"]
LITTLE = ["models.list"]

_SAID = re.compile(r"configuration (reloaded from|not reloaded) .*?\(([^()]*)\)")


@dataclass
class Taking:
    """A grant that was away: written, in force, and given back. Times are ``time.monotonic()``."""

    caller: str
    written: float
    applied: float = float("inf")
    back_written: float = float("inf")
    back: float = float("inf")


@dataclass
class Done:
    """What was applied, as the operator counts it."""

    good: int = 0
    faulty: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    revoked: int = 0
    takings: list[Taking] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Operator:
    """Everything that is done to a proxy while it serves."""

    def __init__(
        self, seed: int, folder: Path, callers: list[Caller], upstreams: dict[str, Running], seconds: float
    ) -> None:
        self.done = Done()
        self.proxy: Running | None = None
        self._chance = random.Random(f"{seed}/operator")  # noqa: S311 - repeatable, not secret
        self._folder = folder
        self._callers = callers
        self._upstreams = upstreams
        self._seconds = seconds
        self._began = time.monotonic()
        self._keys = {name: upstream_key(name, 1) for name in upstreams}
        self._generation = dict.fromkeys(upstreams, 1)
        self._tokens = {caller.name: [caller.token] for caller in callers}
        self._taken: dict[str, Taking] = {}
        self._removed: set[str] = set()
        self._voices = "read"
        self._version = 0
        self._rotating: dict[str, asyncio.Task[None]] = {}

    async def prepare(self) -> Path:
        """Writes the keys and the first configuration; where that is."""
        for name, key in self._keys.items():
            put_file(self._folder / name, "key", 1, key)
            await self._tell_keys(name, [1])
        self._write(json.dumps(self.configuration(calm=True)), swapped=True)
        return self._folder / "config" / "proxy.yaml"

    async def work(self, stop: asyncio.Event) -> None:
        """Something every second or two. The first round has one of everything, so a short run has it too."""
        self._began = time.monotonic()
        first: list[Callable[[], Any]] = [self._rotate_a, self._rotate_b, self._revoke, self.reload, self.fail]
        ready, later = first, [self.reload] * 12 + [self.fail] * 3 + [self._rotate_a, self._rotate_b]
        rounds = 0
        while not stop.is_set():
            if not ready:
                ready = self._chance.sample(later, len(later))
                rounds += 1
                ready += [self._revoke] * (rounds % 2)
            await ready.pop(0)()
            try:
                async with asyncio.timeout(self._chance.uniform(0.3, 1.2)):
                    await stop.wait()
            except TimeoutError:
                continue

    def _left(self) -> float:
        return self._began + self._seconds - time.monotonic()

    async def finish(self) -> None:
        """Lets what was begun end, gives back what was taken, and applies a last, calm configuration."""
        await asyncio.gather(*self._rotating.values())
        await self.reload(calm=True)

    # -- configurations -----------------------------------------------------------------------------------------------

    def configuration(self, *, calm: bool = False) -> dict[str, Any]:
        """A whole configuration, with random differences where they are allowed."""
        pick = self._chance.choice
        urls = {name: {"url": running.url} for name, running in self._upstreams.items()}
        known = [caller for caller in self._callers if caller.name not in self._removed]
        key = {"kind": "api-key", "secret": f"file:{self._folder}/a/key", "permissions": {"voices": self._voices}}
        return {
            "listen": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "upstreams": urls,
            "credentials": {
                "a": key,
                "b": {"kind": "session-token", "secret": f"file:{self._folder}/b/key"},
            },
            "routes": [
                {"operations": ["llm.*", "realtime.*"], "credential": "b", "upstream": "b"},
                {"operations": "*", "credential": "a", "upstream": "a"},
            ],
            "callers": {caller.name: self._grant(caller) for caller in known},
            "time": {
                "keep_alive": "75s" if calm else pick(("30s", "75s")),
                "body_idle": pick(("10s", "1m")),
                "first_byte": pick(("3s", "8s", "20s")),
                "idle": pick(("3s", "8s", "20s")),
                "total": pick(("none", "40s")),
                "tunnel_idle": pick(("none", "30s")),
                "upstream_keep_alive": "2s" if calm else pick(("500ms", "2s", "15s")),
                "upstream_max_age": "10m" if calm else pick(("3s", "10m")),
                "drain": "10s",
            },
            "limits": {"in_flight": pick(("none", 2000)), "tunnels": pick(("none", 1000))},
            # All lines, or they could not be counted; and what the count is by.
            "log": {"format": "json" if calm else pick(("json", "json", "text")), "omit": pick(([], ["path", "peer"]))},
        }

    def _grant(self, caller: Caller) -> dict[str, Any]:
        digests = [f"sha256:{hashlib.sha256(token.encode()).hexdigest()}" for token in self._tokens[caller.name]]
        grant: dict[str, Any] = {
            "token": digests if len(digests) > 1 else digests[0],
            "allow": LITTLE if caller.name in self._taken else EVERYTHING,
        }
        if caller.limited:
            grant["limits"] = {
                "requests": self._chance.choice(("1/s", "3/s", "300/m")),
                "concurrent": self._chance.randint(1, 3),
                **self._chance.choice(({}, {"queue": "300ms"})),
            }
        return grant

    async def reload(self, *, calm: bool = False) -> None:
        """Another good configuration: grants, tokens, limits, times and the log differ."""
        taken, given = self._flap(calm=calm)
        both, old = self._rotate_tokens()
        if self._left() > RETIRED:
            self._voices = self._chance.choice(("none", "read", "write"))
        text = json.dumps(self.configuration(calm=calm), indent=self._chance.choice((None, 2)))
        now = time.monotonic()
        for taking in taken:
            taking.written = now
        for taking in given:
            taking.back_written = now
        await self._apply(text, faulty=False)
        now = time.monotonic()
        for taking in taken:
            taking.applied = now
        for taking in given:
            taking.back = now
        # Only now are both tokens good, and only now is the old one gone.
        for caller in both:
            caller.token = self._tokens[caller.name][-1]
        self.done.tokens += len(old)

    async def fail(self) -> None:
        """A faulty configuration that would take everybody's grants, were it put in force."""
        wrong = self.configuration()
        for caller in wrong["callers"].values():
            caller["allow"] = LITTLE
        text = json.dumps(wrong)
        broken = self._chance.choice(
            [
                text[: len(text) // 2],
                "",
                json.dumps({**wrong, "tiem": {}}),
                json.dumps({**wrong, "routes": [{"operations": "*", "credential": "nobody", "upstream": "a"}]}),
                json.dumps({**wrong, "listen": "127.0.0.1:1"}),
                text.replace("/b/key", "/b/no-key"),
                text.replace("sha256:", "sha255:"),
            ]
        )
        await self._apply(broken, faulty=True)

    def _flap(self, *, calm: bool) -> tuple[list[Taking], list[Taking]]:
        taken, given = [], []
        for caller in self._callers:
            if not caller.flapping or (self.done.good and not calm and self._chance.random() < 0.7):
                continue
            if caller.name in self._taken:
                given.append(self._taken.pop(caller.name))
                self._removed.discard(caller.name)
            elif not calm:
                self._taken[caller.name] = taking = Taking(caller.name, time.monotonic())
                taken.append(taking)
                if self._chance.random() < 0.3:
                    self._removed.add(caller.name)
        self.done.takings += taken
        return taken, given

    def _rotate_tokens(self) -> tuple[list[Caller], list[str]]:
        """Who gets a second token, and the old ones of those who do not use them any more."""
        both, old = [], []
        likely = 0.05 if self.done.good else 0.3
        for caller in self._callers:
            tokens = self._tokens[caller.name]
            if len(tokens) == 1 and self._chance.random() < likely:
                caller.generation += 1
                tokens.append(caller_token(caller.name, caller.generation))
                both.append(caller)
            elif len(tokens) == 2 and caller.token == tokens[1] and not caller.showing[tokens[0]]:
                old.append(tokens.pop(0))
        return both, old

    async def _apply(self, text: str, *, faulty: bool) -> None:
        assert self.proxy is not None
        way = self._chance.choice(("file", "SIGHUP", "POST /reload"))
        swapped = self._chance.random() < 0.5
        before = len(await self._said())
        self._write(text, swapped=swapped)
        if way == "SIGHUP":
            os.kill(self.proxy.process.pid, signal.SIGHUP)
        elif way == "POST /reload":
            async with aiohttp.ClientSession() as session, session.post(f"{self.proxy.admin}/reload") as response:
                if response.status != (422 if faulty else 200):
                    self.done.wrong.append(f"POST /reload: {response.status} {(await response.text())[:300]}")
        self.done.ways[f"{way}, {'swapped' if swapped else 'in place'}"] += 1
        self.done.good += not faulty
        self.done.faulty += faulty
        deadline = time.monotonic() + PATIENCE
        while len(said := await self._said()) <= before:
            if time.monotonic() > deadline:
                self.done.wrong.append(f"nothing was read again by {way}, {'faulty' if faulty else 'good'}")
                return
            await asyncio.sleep(0.05)
        for what, why in said[before:]:
            expected = "its files changed" if way == "file" else way
            if (what == "not reloaded") is not faulty or why != expected:
                self.done.wrong.append(f"{what} ({why}) after a {'faulty' if faulty else 'good'} file by {way}")

    def _write(self, text: str, *, swapped: bool) -> None:
        file = self._folder / "config" / "proxy.yaml"
        if swapped:
            self._version += 1
            put_file(self._folder / "config", "proxy.yaml", self._version, text)
        else:
            file.write_text(text, encoding="utf-8")

    async def _said(self) -> list[tuple[str, str]]:
        assert self.proxy is not None
        written = await asyncio.to_thread(self.proxy.errors.read_text, encoding="utf-8", errors="replace")
        return [(match[1], match[2]) for match in _SAID.finditer(written)]

    # -- keys ---------------------------------------------------------------------------------------------------------

    async def _rotate_a(self) -> None:
        self._begin_rotation("a")

    async def _rotate_b(self) -> None:
        self._begin_rotation("b")

    def _begin_rotation(self, name: str) -> None:
        running = self._rotating.get(name)
        # A key is in use when a request has shown it, and for that there must still be some.
        if self._left() > KEY_LATE / 2 and (running is None or running.done()):
            self._rotating[name] = asyncio.create_task(self._rotate(name))

    async def _rotate(self, name: str) -> None:
        """Puts a new key in place; the old one is good until the new one is in use, and a little longer."""
        old = self._generation[name]
        new = self._generation[name] = old + 1
        key = self._keys[name] = upstream_key(name, new)
        await self._tell_keys(name, [old, new], before=self._keys_of(name, old))
        put_file(self._folder / name, "key", new, key)
        deadline = time.monotonic() + KEY_LATE
        while not await self._in_use(name):
            if time.monotonic() > deadline:
                self.done.wrong.append(f"the new key of {name} was not in use after {KEY_LATE:g} s")
                break
            await asyncio.sleep(0.2)
        await asyncio.sleep(KEY_OVERLAP)
        await self._tell_keys(name, [new])
        self.done.keys[name] += 1

    def _keys_of(self, name: str, generation: int) -> str:
        return (self._folder / name / f"..{generation}" / "key").read_text(encoding="utf-8")

    async def _tell_keys(self, name: str, generations: list[int], *, before: str = "") -> None:
        valid = [key_id(name, each) for each in generations]
        if name == "a":
            valid = [key for key in (before, self._keys[name]) if key]
        await self._upstreams[name].order({"do": "keys", "valid": valid})

    async def _in_use(self, name: str) -> bool:
        told = await self._upstreams[name].order({"do": "report"})
        return bool(told["shown"].get(self._keys["a"]) if name == "a" else told["minted"].get(self._id_of(name)))

    def _id_of(self, name: str) -> str:
        return key_id(name, self._generation[name])

    async def _revoke(self) -> None:
        await self._upstreams["b"].order({"do": "revoke"})
        self.done.revoked += 1

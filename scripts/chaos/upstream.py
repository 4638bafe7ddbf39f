"""One upstream of `make chaos`: a process that serves, misbehaves by plan, and keeps accounts of what reached it.

What belongs here: what an upstream must know to judge what it is sent, and its half of the accounts. It is told what
happens by lines of JSON on standard input, and answers each with one on standard output.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from answers import ANSWERS, Reply
from mint import MINT_PATH, Mint
from plan import DIGEST, FORBIDDEN, ID, NEVER_AT, NONCE, REFUSED, SIZE, digest, fault_of, socket_fault_of
from sockets import serve_socket
from wire import BrokenError, Head, WatchedReader, leave, read_body, read_head

LISTENER_CLOSED = 1.0
"""Seconds for which nobody listens, now and then."""

MOST_TOLD = 20
"""Sentences kept of each kind of fault; more say nothing new."""


@dataclass
class Accounts:
    """What reached this upstream. Every list is of sentences about what should not have."""

    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    sockets: Counter[str] = field(default_factory=Counter)
    shown: Counter[str] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)
    repeated_reads: int = 0
    refused_tokens: int = 0
    listener_closed: int = 0
    wrong: dict[str, list[str]] = field(
        default_factory=lambda: {name: [] for name in ("authorization", "upload", "repeated", "unasked", "secret")}
    )

    def tell(self, kind: str, sentence: str) -> None:
        """Keeps a sentence about what is wrong."""
        if len(self.wrong[kind]) < MOST_TOLD:
            self.wrong[kind].append(sentence)


class Upstream:
    """Serves connections on one port."""

    def __init__(self, name: str, seed: int, seconds: float) -> None:
        self.name = name
        self.seed = seed
        self.accounts = Accounts()
        self.keys: set[str] = set()
        self.mint = Mint(seed, self.accounts.tell)
        self.port = 0
        self._chance = random.Random(f"{seed}/upstream/{name}")  # noqa: S311 - repeatable, not secret
        self._seconds = seconds
        self._open: set[asyncio.StreamWriter] = set()
        self._ended: dict[str, str] = {}
        self._server: asyncio.Server | None = None
        self._calm = False

    async def listen(self) -> None:
        """Opens the listener: again where it was, if it was open before."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", self.port))
        self.port = sock.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, sock=sock, backlog=1024)

    async def trouble(self) -> None:
        """Closes the listener for a second, now and then, for as long as it lasts."""
        while True:
            await asyncio.sleep(max(5.0, self._seconds / 10) * self._chance.uniform(0.8, 1.3))
            if not self._calm and self._server is not None:
                self.accounts.listener_closed += 1
                self._server.close()
                await asyncio.sleep(LISTENER_CLOSED)
                await self.listen()

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Does what it was told; what there is to say."""
        match order["do"]:
            case "keys":
                self.keys = self.mint.keys = set(order["valid"])
            case "revoke":
                self.mint.revoke()
            case "calm":
                self._calm = self.mint.calm = True
        accounts = self.accounts
        return {
            **{name: getattr(accounts, name) for name in accounts.__dataclass_fields__},
            "open": len(self._open),
            "minted": self.mint.minted,
            "mints": self.mint.answers,
        }

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        reader = WatchedReader(NEVER_AT[self.name], lambda word: self.accounts.tell("secret", word.decode()))
        return asyncio.StreamReaderProtocol(reader, self._serve)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            after = ""
            while (head := await read_head(reader)) is not None:
                if after == "extra-after":
                    self.accounts.tell("repeated", "a connection on which more came than an answer was used again")
                after = await self._serve_one(head, reader, writer)
                if not after:
                    break
        except (BrokenError, OSError):
            pass
        finally:
            self._open.discard(writer)
            await leave(writer)

    async def _serve_one(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Answers one request. The name of what was done, or nothing where the connection is over."""
        method, path, _ = head.first
        if path == MINT_PATH and self.name == "b":
            await self.mint.serve(head, reader, writer)
            return ""
        identity = head.get(ID)
        if not identity or head.get(FORBIDDEN):
            self.accounts.tell("unasked", f"{method} {path.partition('?')[0]}")
        self.accounts.requests += 1
        refused = self._refuses(head)
        self._note_again(identity, method, refused=refused)
        if refused:
            await read_body(reader, head)
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: %d\r\n\r\n%b" % (len(REFUSED), REFUSED))
            await writer.drain()
            return "refused"
        if head.get("upgrade").lower() == "websocket":
            fault = socket_fault_of(self.seed, identity)
            self.accounts.sockets[fault.name] += 1
            await serve_socket(fault, head, reader, writer, random.Random(identity))  # noqa: S311 - repeatable
            return ""
        fault = fault_of(self.seed, identity, upstream=self.name, upload=method == "POST")
        if not fault.upload:
            await self._take(head, reader, identity)
        self.accounts.faults[fault.name] += 1
        chance = random.Random(f"{self.seed}/answer/{identity}")  # noqa: S311 - repeatable, not secret
        shown = head.get("authorization").partition(" ")[2]
        reply = Reply(reader, writer, fault, identity, head.get(NONCE), int(head.get(SIZE) or 0), shown, chance)
        return fault.name if await ANSWERS[fault.name](reply) else ""

    async def _take(self, head: Head, reader: asyncio.StreamReader, identity: str) -> None:
        """The body, which must be what the caller meant to send, if it is one at all."""
        try:
            body = await read_body(reader, head)
        except BrokenError:
            self.accounts.uploads["broken"] += 1
            raise
        if head.get(DIGEST):
            right = digest(body) == head.get(DIGEST)
            self.accounts.uploads["whole" if right else "wrong"] += 1
            if not right:
                self.accounts.tell("upload", f"{identity}: {len(body)} bytes that are not what was sent")

    def _refuses(self, head: Head) -> bool:
        """Judges the credential: exactly one, of those that are good here just now."""
        fields = head.all("authorization")
        scheme, _, shown = fields[0].partition(" ") if fields else ("", "", "")
        if len(fields) != 1 or scheme != {"a": "Basic", "b": "Bearer"}[self.name]:
            self.accounts.tell("authorization", f"{len(fields)} fields, the first with the scheme {scheme!r}")
            return True
        if self.name == "b":
            wrong, refused = self.mint.judge(shown)
        else:
            self.accounts.shown[shown] += 1
            wrong = "" if shown in self.keys else "a key that is not in use, or no more"
            refused = bool(wrong)
        if wrong:
            self.accounts.tell("authorization", wrong)
        self.accounts.refused_tokens += refused
        return refused

    def _note_again(self, identity: str, method: str, *, refused: bool) -> None:
        """A request may come twice if its token was refused the first time; one that only reads, in any case."""
        before = self._ended.get(identity)
        self._ended[identity] = "refused" if refused else "answered"
        if before == "answered":
            if method == "POST":
                self.accounts.tell("repeated", f"{identity} came again")
            self.accounts.repeated_reads += 1


def _orders() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


async def _run(upstream: Upstream) -> None:
    await upstream.listen()
    print(json.dumps({"port": upstream.port}), flush=True)
    trouble = asyncio.create_task(upstream.trouble())
    orders = _orders()
    # A thread waits for the next line; the end of standard input is the end of whoever started this.
    while (order := await asyncio.to_thread(next, orders, None)) is not None:
        print(json.dumps(upstream.obey(order)), flush=True)
    trouble.cancel()


def main() -> None:
    """Reads the command line and serves until standard input ends."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=("a", "b"))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(Upstream(arguments.name, arguments.seed, arguments.seconds)))


if __name__ == "__main__":
    main()

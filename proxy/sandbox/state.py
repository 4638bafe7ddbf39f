"""All that the sandbox remembers while it runs, in one object: nothing here lives in a module.

What belongs here: the object and how it is found from a request. What does not: what its parts do.
"""

from __future__ import annotations

from aiohttp import web

from proxy.sandbox.authentication import KeyRing
from proxy.sandbox.limits import Dice, Limits
from proxy.sandbox.operations import Operations
from proxy.sandbox.options import SandboxOptions
from proxy.sandbox.pacing import Gates
from proxy.sandbox.pronunciation_store import DictionaryStore
from proxy.sandbox.responses_store import ResponseStore
from proxy.sandbox.router_store import RouterStore
from proxy.sandbox.seen import SeenLog
from proxy.sandbox.sound import Instrument
from proxy.sandbox.tally import Tally
from proxy.sandbox.tokens import TokenMint
from proxy.sandbox.voice_store import VoiceStore


class Sandbox:
    """One running sandbox."""

    def __init__(self, options: SandboxOptions) -> None:
        self.options = options
        self.keys = KeyRing(options.keys)
        self.tokens = TokenMint(options.clock)
        self.limits = Limits(options)
        self.dice = Dice(options)
        self.gates = Gates()
        self.seen = SeenLog(options.seen_limit)
        self.tally = Tally()
        self.operations = Operations(options)
        self.voices = VoiceStore(options.clock)
        self.dictionaries = DictionaryStore(options.clock)
        self.routers = RouterStore()
        self.responses = ResponseStore()
        self.instrument = Instrument()


SANDBOX: web.AppKey[Sandbox] = web.AppKey("sandbox", Sandbox)

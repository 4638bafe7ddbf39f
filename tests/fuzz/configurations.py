"""Configurations: whatever text it is, it becomes a snapshot or faults, and no fault tells a secret."""

from __future__ import annotations

import base64
import functools
import re
import tempfile
from collections.abc import Hashable, Mapping
from pathlib import Path
from unittest import mock

import yaml

from proxy.catalogue.load import load_built_in
from proxy.core.model import Snapshot
from proxy.credentials.secret import Secret
from proxy.credentials.sources import Source
from proxy.settings.load import SettingsError, load_settings
from tests.fuzz.engine import Target

ROOT = Path(__file__).parents[2]
_INSIDE = "9a1c7e5530d84be2b6f4"
KEY = base64.b64encode(f"keyId:{_INSIDE}".encode()).decode()
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJ4In0." + "c2lnbmF0dXJl"
ENVIRON = {"INWORLD_API_KEY": KEY, "OTHER_KEY": KEY, "REDIS": f"redis://:{_INSIDE}@127.0.0.1/0"}
# Run together with other letters a key is none any more, neither to us nor to the API.
_SECRET = re.compile(rf"(?<![\w+/-])(?:{re.escape(KEY)}|{re.escape(TOKEN)})(?![\w+/=-])|{_INSIDE}")
_WORDS = tuple(
    rb"|: |: !|&a |*a|- |  |[|]|{|}|null|true|0|-1|1e9|10s|8KiB|none|env:OTHER_KEY|env:NO|file:/x|'|#|---|... |"
    rb"%TAG|listen|admin|upstreams|credentials|routes|callers|time|limits|kind|secret|token|allow|*|tts.*|sha256:|"
    rb"127.0.0.1:80|0.0.0.0:80|[::]:80|<<: |\x00|>|key_set|issuer|audience|shared|queue|session-token|api-key".split(
        b"|"
    )
)


def _seeds() -> tuple[bytes, ...]:
    every = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "config").glob("*.yaml"))]
    said = yaml.safe_load((ROOT / "tests" / "settings" / "faults.yaml").read_text(encoding="utf-8"))
    every += [case["text"] for cases in said.values() for case in cases if isinstance(case, dict) and "text" in case]
    # A key where a name of one belongs, and as a word of nearly every other kind.
    every.append(f"credentials:\n  workspace: {{kind: api-key, secret: {KEY}}}\n")
    every.append(f"callers:\n  studio: {{token: {KEY}, allow: '{TOKEN}'}}\nhosts: ['{KEY}']\nlisten: {KEY}\n")
    every.append(f"{KEY}: 1\nmode: {KEY}\nupstreams: {{inworld: {{url: 'https://u:{KEY}@x/'}}}}\nadmin_token: {KEY}\n")
    return tuple(text.encode() for text in every)


class _Configurations:
    """One file in a folder of its own, written again and again.

    The catalogue inside the package is read once: it is the same each time, and two thirds of the time it takes.
    """

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "proxy.yaml"
        self.once = functools.cache(load_built_in)

    def run(self, data: bytes) -> Hashable:
        self.path.write_bytes(data)
        try:
            with mock.patch("proxy.settings.resolve.load_built_in", self.once):
                return _of_snapshot(load_settings(self.path, ENVIRON, read_key=_read_key))
        except SettingsError as exc:
            return _of_faults(exc)


def _of_faults(raised: SettingsError) -> Hashable:
    assert raised.faults
    told = "\n".join([str(raised), *map(repr, raised.faults)])
    assert not _SECRET.search(told), "a fault tells a secret"
    return tuple(sorted({(fault.path.rstrip("0123456789]"), fault.remedy[:20]) for fault in raised.faults}))[:3]


def _of_snapshot(snapshot: Snapshot) -> Hashable:
    assert _INSIDE not in repr(snapshot)
    assert snapshot.listen.is_loopback or snapshot.policy.anonymous is None, "open to others without callers"
    return "snapshot", len(snapshot.callers), len(snapshot.routes), len(snapshot.credentials), len(snapshot.upstreams)


def _read_key(source: Source, environ: Mapping[str, str]) -> Secret:
    """No command of a mutated text is ever run, and no file read."""
    return Secret(KEY)


def targets() -> tuple[Target, ...]:
    made = _Configurations()
    return (Target("configurations", made.run, _seeds(), (*_WORDS, KEY.encode(), b"\n  ", b"\n"), made.folder.cleanup),)

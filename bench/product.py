"""Our proxy as a target: with everything on, and for `--features` with one thing less or more. No figures here."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import build, contract
from bench.peers import Place, Target
from bench.processes import Launch

Configuration = dict[str, Any]
Change = Callable[[Configuration], None]


def configuration(place: Place) -> Configuration:
    """A caller's token, grants, a JSON log; metrics are always on."""
    upstream: Configuration = {"url": place.url}
    if place.ca:
        upstream["ca"] = str(place.ca)
    digest = hashlib.sha256(contract.TOKEN.encode()).hexdigest()
    return {
        "listen": f"127.0.0.1:{place.port}",
        "admin": "127.0.0.1:0",
        "upstreams": {"inworld": upstream},
        "credentials": {"default": {"kind": "api-key", "secret": "env:INWORLD_API_KEY"}},
        "callers": {"bench": {"token": f"sha256:{digest}", "allow": ["tts.*", "voices.*", "stt.*", "router.*"]}},
        "log": {"format": "json", "level": "all"},
    }


def _launch(place: Place, *, words: list[str], folder: Path, change: Change) -> Launch:
    written = copy.deepcopy(configuration(place))
    change(written)
    place.file(".yaml").write_text(json.dumps(written), encoding="utf-8")  # JSON is YAML
    command = [*words, "serve", "--config", str(place.file(".yaml"))]
    key = place.injected.partition(" ")[2]
    # The request log is its standard output, and is written to a file as it would be in earnest.
    return Launch(command, place.file(".log"), {"INWORLD_API_KEY": key}, folder, place.file(".errors"))


def as_it_is(_: Configuration) -> None:
    """Everything on."""


def product(name: str = "product", what: str = "", change: Change = as_it_is) -> Target:
    """This checkout, compiled if it can be; or what is in a folder (``python -m proxy`` there); or a command."""
    if not what:
        words, folder = [sys.executable, "-m", "proxy"], build.folder()
    elif Path(what).is_dir():
        words, folder = [sys.executable, "-m", "proxy"], Path(what).resolve()
    else:
        words, folder = shlex.split(what), Path.cwd()
    launch = functools.partial(_launch, words=words, folder=folder, change=change)
    return Target(name, _version(words, folder), launch, "metrics: ")


def _version(words: list[str], folder: Path) -> str:
    command = [*words, "--version"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    said = done.stdout.partition("version ")[2].strip()
    return said if done.returncode == 0 and said else "unknown"


# -- what its features cost -------------------------------------------------------------------------------------------


def no_log(written: Configuration) -> None:
    """Without the request log."""
    written["log"] = {"format": "off"}


def no_inspector(written: Configuration) -> None:
    """Without the last requests kept for the inspector."""
    written["inspector"] = {"enabled": False}


def _anyone(written: Configuration) -> None:
    del written["callers"]


def limits(written: Configuration) -> None:
    """With a rate that is never reached."""
    written["callers"]["bench"]["limits"] = {"requests": "1000000/s"}


ALL_ON = "as it is"

FEATURES: dict[str, tuple[Change, str, int]] = {
    "log": (no_log, "one JSON line for each request, to a file", -1),
    "inspector": (no_inspector, "the last requests are kept with their heads, to be looked at", -1),
    "callers": (_anyone, "a token is asked for, recognised and its grants are looked up", -1),
    "limits": (limits, "requests are counted against a rate that is never reached", 1),
}
"""By name: the change to the configuration, what is done for it, and whether the change adds (1) or removes it (-1)."""


def feature_targets() -> list[Target]:
    """Everything on, and a target for each feature."""
    return [product(ALL_ON), *(product(name, change=change) for name, (change, _, _) in FEATURES.items())]

"""Clients on Node through the proxy: ``@inworld/tts`` and ``ws``. Each is a script that tells in JSON what it saw."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.clients.processes import (
    ANYTHING,
    BETWEEN,
    PATIENCE,
    READER,
    STRANGER,
    STUDIO,
    Proxy,
    Sandbox,
    environment,
    fields_of,
    missing,
    needed_program,
)

FOLDER = Path(__file__).parent / "node"
NODE = needed_program("node")
PACKAGES = ("ws", "openai", "@inworld/tts")
if not all((FOLDER / "node_modules" / package).is_dir() for package in PACKAGES):
    missing("the packages for Node are not installed: run scripts/node-packages.sh")

TEXT = "One two three four five six."
VOICE = {"voiceId": "Ashley", "modelId": "inworld-tts-1.5-max"}
AUDIO = {"audioEncoding": "PCM", "sampleRateHertz": 8000}


def told_by(script: str, *, environ: Mapping[str, str] = MappingProxyType({}), **options: Any) -> Any:
    """Runs a script with these options, and more in its environment, and returns what it printed."""
    command = [NODE, str(FOLDER / script), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=2 * PATIENCE, env=environment(**environ))
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode(errors="replace")
    return json.loads(done.stdout)


def spoken_by(sandbox: Sandbox) -> str:
    """The SHA-256 of the speech as the sandbox sends it without the proxy."""
    answer = sandbox.ask("POST", "/tts/v1/voice", {"text": TEXT, **VOICE, "audioConfig": AUDIO})
    return hashlib.sha256(base64.b64decode(answer.json()["audioContent"])).hexdigest()


# What the package calls a key goes out as Basic, what it calls a token as Bearer.
@pytest.mark.parametrize("kind", ["apiKey", "token"])
def test_inworlds_own_package_speaks_streams_lists_voices_and_reads_refusals(
    proxy: Proxy, sandbox: Sandbox, kind: str
) -> None:
    spoken = {"text": TEXT, "voice": "Ashley", "model": VOICE["modelId"], "encoding": "PCM", "sampleRate": 8000}
    told = told_by(
        "tts.mjs", baseUrl=proxy.url, kind=kind, token=STUDIO, reader=READER, stranger=STRANGER, spoken=spoken
    )
    assert told["whole"] == told["streamed"] == spoken_by(sandbox)
    arrivals = told["arrivals"]
    planned = BETWEEN * (len(arrivals) - 1)
    assert planned > 0.3
    assert arrivals[0] < arrivals[-1] - planned / 2
    assert "Ashley" in told["voices"]

    denied, streamed, unknown = told["denied"], told["deniedStream"], told["unknown"]
    assert (denied["isApiError"], denied["code"]) == (True, 403)
    assert denied["message"].startswith("The caller 'reader' is not granted tts.synthesize;")
    assert denied["details"]["details"][0]["reason"] == "operation_not_granted"
    # The body of a streaming method is inside {"error": …}, as the API itself wraps it; the package shows it whole.
    assert (streamed["isApiError"], streamed["code"]) == (True, 403)
    assert streamed["details"]["error"]["details"][0]["reason"] == "operation_not_granted"
    assert "is not granted tts.synthesize_stream" in streamed["message"]
    assert (unknown["isApiError"], unknown["code"]) == (True, 401)
    assert "belongs to no caller of this proxy" in unknown["message"]

    operations = [seen["operation"] for seen in sandbox.seen()]
    assert operations == ["tts.synthesize", "tts.synthesize_stream", "voices.list"]


def test_inworlds_own_package_needs_no_key_of_its_own_where_there_are_no_callers(
    open_proxy: Proxy, sandbox: Sandbox
) -> None:
    spoken = {"text": TEXT, "voice": "Ashley", "model": VOICE["modelId"], "encoding": "PCM", "sampleRate": 8000}
    told = told_by(
        "tts.mjs", baseUrl=open_proxy.url, kind="apiKey", token=ANYTHING, reader=ANYTHING, stranger=ANYTHING,
        spoken=spoken,
    )  # fmt: skip
    assert told["whole"] == told["streamed"] == spoken_by(sandbox)
    assert told["denied"] is told["deniedStream"] is told["unknown"] is None


def test_ws_speaks_echoes_offers_a_browsers_token_and_reads_refused_handshakes(proxy: Proxy, sandbox: Sandbox) -> None:
    gate = sandbox.new_gate()
    create = {**VOICE, "audioConfig": AUDIO, "sandbox": {"between": 0, "gate": gate}}
    gates = f"{sandbox.url}/_sandbox/gates/{gate}"
    told = told_by("sockets.mjs", ws=proxy.ws, gates=gates, token=STUDIO, reader=READER, create=create, text=TEXT)

    assert told["speech"]["sha256"] == spoken_by(sandbox)
    assert told["speech"]["chunks"] > 4
    assert told["speech"]["closed"] == 1000
    assert told["echo"] == {"same": [True] * 5, "protocol": f"bearer_{STUDIO}"}
    assert (told["denied"]["status"], told["nobody"]["status"]) == (403, 401)
    assert told["denied"]["proxyStatus"].endswith('; details="operation_not_granted"')
    assert told["nobody"]["proxyStatus"].endswith('; details="caller_required"')
    assert told["denied"]["body"]["details"][0]["reason"] == "operation_not_granted"
    assert told["nobody"]["body"]["error"]["code"] == "caller_required"

    speech, echo = sandbox.seen()
    assert (speech["operation"], speech["outcome"], speech["closeCode"]) == ("tts.synthesize_ws", "finished", 1000)
    assert (echo["operation"], echo["outcome"], echo["closeCode"]) == ("realtime.session", "finished", 4002)
    assert "sec-websocket-protocol" not in fields_of(echo)

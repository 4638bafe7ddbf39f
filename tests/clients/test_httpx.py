"""``httpx`` through the proxy: NDJSON, server-sent events, uploads and downloads, byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.processes import ANYTHING, BETWEEN, DIRECT, PATIENCE, STUDIO, Proxy, Sandbox, fields_of, needed

httpx = needed("httpx")

SPOKEN: dict[str, Any] = {
    "text": "One two three four five.",
    "voiceId": "Ashley",
    "modelId": "inworld-tts-1.5-max",
    "audioConfig": {"audioEncoding": "LINEAR16", "sampleRateHertz": 8000},
}
AT_ONCE = {"sandbox": {"between": 0}}
CHAT: dict[str, Any] = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "One two three four."}]}
BULK = 5_000_001


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Any]:
    headers = {"Authorization": f"Bearer {STUDIO}"}
    with httpx.Client(base_url=proxy.url, headers=headers, timeout=PATIENCE) as made:
        yield made


def test_every_line_of_streamed_speech_arrives_before_the_next_is_sent(client: Any, sandbox: Sandbox) -> None:
    gate = sandbox.new_gate()
    received = b""
    lines = 0
    with client.stream("POST", "/tts/v1/voice:stream", json={**SPOKEN, "sandbox": {"between": 0, "gate": gate}}) as got:
        for piece in got.iter_raw():
            received += piece
            while received.count(b"\n") > lines:
                lines += 1
                sandbox.open_gate(gate)
    direct = sandbox.ask("POST", "/tts/v1/voice:stream", {**SPOKEN, **AT_ONCE})
    assert received == direct.body
    assert lines > 4
    assert got.headers["content-type"] == direct.headers["content-type"]
    assert all("audioContent" in json.loads(line)["result"] for line in received.splitlines())


def test_streamed_lines_arrive_as_far_apart_as_they_were_sent(client: Any) -> None:
    with client.stream("POST", "/tts/v1/voice:stream", json=SPOKEN) as got:
        arrivals = [time.monotonic() for line in got.iter_lines() if line]
    planned = BETWEEN * (len(arrivals) - 1)
    assert planned > 0.3
    assert arrivals[0] < arrivals[-1] - planned / 2


def test_every_server_sent_event_arrives_before_the_next_is_sent(client: Any, sandbox: Sandbox) -> None:
    gate = sandbox.new_gate()
    events: list[str] = []
    asked = {**CHAT, "stream": True, "sandbox": {"between": 0, "gate": gate}}
    with client.stream("POST", "/v1/chat/completions", json=asked) as got:
        assert got.headers["content-type"].startswith("text/event-stream")
        assert got.headers["cache-control"] == "no-cache"
        for line in got.iter_lines():
            if line:
                events.append(line)
                sandbox.open_gate(gate)
    assert events[-1] == "data: [DONE]"
    direct = sandbox.ask("POST", "/v1/chat/completions", {**CHAT, "stream": True, **AT_ONCE}).body.decode()
    assert [deltas(line) for line in events[:-1]] == [deltas(line) for line in direct.split("\n\n")[:-2]]


def deltas(line: str) -> Any:
    return json.loads(line.removeprefix("data: "))["choices"]


def test_an_answer_in_one_piece_is_the_same_with_its_head(client: Any, sandbox: Sandbox) -> None:
    through = client.post("/tts/v1/voice", json=SPOKEN)
    direct = sandbox.ask("POST", "/tts/v1/voice", SPOKEN)
    assert through.content == direct.body
    for name in ("content-type", "content-length", "server", "via"):
        assert through.headers[name] == direct.headers[name]
    assert through.headers["x-inworld-request-id"]
    assert "proxy-status" not in through.headers


@pytest.mark.parametrize("chunked", [False, True], ids=["known-length", "chunked"])
def test_five_megabytes_come_through_unchanged(client: Any, chunked: bool) -> None:
    asked = {"sandbox": {"bytes": BULK, "chunked": chunked, "between": 0}}
    got = client.post("/v1/audio/speech", json=asked)
    assert ("content-length" in got.headers) is not chunked
    assert len(got.content) == BULK
    assert hashlib.sha256(got.content).digest() == hashlib.sha256((bytes(range(256)) * 19_532)[:BULK]).digest()


def test_an_upload_is_streamed_to_the_sandbox_byte_for_byte_and_transcribed(client: Any, sandbox: Sandbox) -> None:
    asked = {"model": "m", "voice": "Ashley", "input": "What I said.", "response_format": "wav", **AT_ONCE}
    recording = sandbox.ask("POST", "/v1/audio/speech", asked).body + bytes(3_000_000)
    parts = {
        "transcribeConfig": (None, json.dumps({"modelId": "inworld/inworld-stt-1"}), "application/json"),
        "file": ("said.wav", recording, "audio/wav"),
    }
    request = client.build_request("POST", "/stt/v1/transcribe:async", files=parts)
    operation = client.send(request).json()
    seen = sandbox.only()
    assert seen["bodySha256"] == hashlib.sha256(b"".join(request.stream)).hexdigest()
    assert seen["upload"] == {"fileBytes": len(recording), "fileSha256": hashlib.sha256(recording).hexdigest()}
    assert fields_of(seen)["content-type"] == [request.headers["content-type"]]

    # The name of the operation has slashes, and the link to its result needs no credential and no proxy.
    name = operation["name"]
    polls = [client.get(f"/lro/v1alpha/{name}").json() for _ in range(2)]
    assert [poll["done"] for poll in polls] == [False, True]
    link = polls[1]["response"]["resultUri"]
    assert link.startswith(sandbox.url)
    with httpx.Client(timeout=PATIENCE) as anyone:
        result = anyone.get(link, headers={DIRECT: "yes"}).json()
    assert result["transcript"] == "What I said."


def test_an_upload_of_unknown_length_goes_out_in_chunks(client: Any, sandbox: Sandbox) -> None:
    body = json.dumps({**SPOKEN, **AT_ONCE}).encode()
    headers = {"Content-Type": "application/json"}
    got = client.post("/tts/v1/voice", content=(body[at : at + 7] for at in range(0, len(body), 7)), headers=headers)
    assert got.status_code == 200
    seen = sandbox.only()
    assert (seen["bodyBytes"], seen["bodySha256"]) == (len(body), hashlib.sha256(body).hexdigest())
    assert fields_of(seen)["transfer-encoding"] == ["chunked"]


def test_a_client_that_leaves_in_the_middle_of_a_stream_ends_it_at_the_sandbox(client: Any, sandbox: Sandbox) -> None:
    gate = sandbox.new_gate()
    with client.stream("POST", "/tts/v1/voice:stream", json={**SPOKEN, "sandbox": {"gate": gate}}) as got:
        assert next(got.iter_lines())
        assert got.status_code == 200
    client.close()
    assert sandbox.only()["outcome"] == "aborted"


def test_one_connection_serves_many_requests(proxy: Proxy, sandbox: Sandbox) -> None:
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    headers = {"X-Api-Key": STUDIO}
    with httpx.Client(base_url=proxy.url, headers=headers, timeout=PATIENCE, limits=limits) as client:
        for _ in range(5):
            assert client.get("/voices/v1/voices").status_code == 200
            assert client.get("/no/such/path").status_code == 404
            assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
    assert len(sandbox.seen()) == 10


async def test_requests_at_the_same_time_do_not_get_mixed_up(open_proxy: Proxy, sandbox: Sandbox) -> None:
    headers = {"Authorization": f"Bearer {ANYTHING}"}
    async with httpx.AsyncClient(base_url=open_proxy.url, headers=headers, timeout=PATIENCE) as client:

        async def chat(number: int) -> str:
            messages = [{"role": "user", "content": f"number {number}"}]
            asked = {"model": "openai/gpt-4o-mini", "messages": messages, **AT_ONCE, "stream": number % 2 == 0}
            return str((await client.post("/v1/chat/completions", json=asked)).text)

        answers = await asyncio.gather(*(chat(number) for number in range(40)))
    for number, answer in enumerate(answers):
        assert str(number) in answer
    assert len(sandbox.seen()) == 40


@pytest.mark.parametrize("form", ["sdp", "json", "multipart"])
def test_an_sdp_offer_is_answered_in_each_of_the_three_forms(client: Any, sandbox: Sandbox, form: str) -> None:
    lines = ["v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0",
             "m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0", "a=sendrecv", "a=rtpmap:111 opus/48000/2", ""]  # fmt: skip
    offer = "\r\n".join(lines)
    sent: dict[str, Any] = {
        "sdp": {"content": offer, "headers": {"Content-Type": "application/sdp"}},
        "json": {"json": {"sdp": offer, "session": {"model": "m"}}},
        "multipart": {"files": {"sdp": (None, offer, "application/sdp"), "session": (None, "{}", "application/json")}},
    }[form]
    got = client.post("/v1/realtime/calls", **sent)
    if form == "json":
        answer = got.json()["sdp"]
        assert got.json()["ice_servers"]
    else:
        answer = got.text
        assert got.headers["content-type"].startswith("application/sdp")
        assert got.headers["location"].startswith("/v1/realtime/calls/")
    assert answer.startswith("v=0\r\n")
    seen = sandbox.only()
    assert (seen["operation"], seen["credential"]) == ("realtime.calls", "realtime-only")


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": f"Bearer {STUDIO}"}, {"Authorization": f"Basic {STUDIO}"}, {"X-Api-Key": STUDIO}],
    ids=["bearer", "basic", "x-api-key"],
)
def test_a_caller_token_is_recognised_wherever_a_client_puts_its_key(
    proxy: Proxy, sandbox: Sandbox, headers: dict[str, str]
) -> None:
    with httpx.Client(base_url=proxy.url, headers=headers, timeout=PATIENCE) as client:
        assert client.get("/voices/v1/voices").status_code == 200
    assert sandbox.only()["credential"] == "full"


def test_a_caller_token_as_the_password_of_basic_authentication_is_recognised(proxy: Proxy, sandbox: Sandbox) -> None:
    with httpx.Client(base_url=proxy.url, auth=("studio", STUDIO), timeout=PATIENCE) as client:
        assert client.get("/voices/v1/voices").status_code == 200
    assert sandbox.only()["credential"] == "full"

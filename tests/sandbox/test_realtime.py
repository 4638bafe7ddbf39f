"""The Realtime socket and WebRTC signalling, in the events and bodies that published clients use."""

from __future__ import annotations

import base64
import json
from typing import Any

import aiohttp
import pytest

from proxy.sandbox.sound import Instrument, compose, read_texts
from tests.sandbox.conftest import KEYS, Running

PATH = "/api/v1/realtime/session?key=my-session&protocol=realtime"
OFFER = "\r\n".join(
    [
        "v=0", "o=- 1 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63", "a=mid:0", "a=sendrecv", "a=rtpmap:111 opus/48000/2",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:1", "a=sctp-port:5000", "",
    ]
)  # fmt: skip
Socket = aiohttp.ClientWebSocketResponse


async def until(socket: Socket, last: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != last:
        events.append(await socket.receive_json(timeout=60))
    return events


async def opened(sandbox: Running, **session: Any) -> Socket:
    socket: Socket = await sandbox.socket(PATH, "realtime-only")
    created = await socket.receive_json()
    assert (created["type"], created["session"]["id"]) == ("session.created", "my-session")
    await socket.send_json({"type": "session.update", "session": {"type": "realtime"} | session})
    assert (await socket.receive_json())["type"] == "session.updated"
    return socket


async def say(socket: Socket, text: str) -> None:
    content = [{"type": "input_text", "text": text}]
    await socket.send_json(
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": content}}
    )
    assert (await until(socket, "conversation.item.done"))[0]["type"] == "conversation.item.added"


@pytest.mark.parametrize("query", ["", "?key=x", "?protocol=realtime", "?key=x&protocol=other"])
async def test_both_query_parameters_are_required(sandbox: Running, query: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await sandbox.socket(f"/api/v1/realtime/session{query}")
    assert refused.value.status == 400


async def test_settings_are_merged_and_shown(sandbox: Running) -> None:
    socket = await opened(sandbox)
    changes = {"audio": {"output": {"voice": "Dennis"}, "input": {"turn_detection": None}}}
    await socket.send_json({"type": "session.update", "session": changes})
    session = (await socket.receive_json())["session"]
    assert session["audio"]["output"]["voice"] == "Dennis"
    assert session["audio"]["output"]["model"] == "inworld-tts-2"
    assert session["audio"]["input"]["turn_detection"] is None
    await socket.close()


async def test_a_text_answer_comes_in_deltas(sandbox: Running) -> None:
    socket = await opened(sandbox, output_modalities=["text"])
    await say(socket, "hello")
    await socket.send_json({"type": "response.create"})
    events = await until(socket, "response.done")
    kinds = list(dict.fromkeys(event["type"] for event in events))
    assert kinds == [
        "response.created", "response.output_item.added", "conversation.item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "conversation.item.done", "response.done",
    ]  # fmt: skip
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert text == 'Hello from the sandbox. You said "hello", which is 1 word.'
    done = events[-1]["response"]
    assert (done["status"], done["output"][0]["content"][0]["text"]) == ("completed", text)
    assert len({event["event_id"] for event in events}) == len(events)
    await socket.close()


async def test_a_spoken_answer_comes_as_audio_with_its_transcript(sandbox: Running) -> None:
    socket = await opened(sandbox, output_modalities=["audio", "text"])
    await say(socket, "speak")
    await socket.send_json({"type": "response.create"})
    events = await until(socket, "response.done")
    audio = b"".join(base64.b64decode(e["delta"]) for e in events if e["type"] == "response.output_audio.delta")
    transcript = next(e["transcript"] for e in events if e["type"] == "response.output_audio_transcript.done")
    deltas = "".join(e["delta"] for e in events if e["type"] == "response.output_audio_transcript.delta")
    assert read_texts(audio) == [transcript]
    assert deltas.split() == transcript.split()
    await socket.close()


async def test_committed_audio_is_transcribed_into_the_conversation(sandbox: Running) -> None:
    socket = await opened(sandbox, output_modalities=["text"], audio={"input": {"turn_detection": None}})
    audio = b"".join(Instrument().play(compose("what I said", voice="x", rate=24_000)))
    await socket.send_json({"type": "input_audio_buffer.append", "audio": base64.b64encode(audio).decode()})
    await socket.send_json({"type": "input_audio_buffer.commit"})
    events = await until(socket, "conversation.item.input_audio_transcription.completed")
    assert events[0]["type"] == "input_audio_buffer.committed"
    assert events[-1]["transcript"] == "what I said"
    assert events[-1]["item_id"] == events[0]["item_id"]
    await socket.send_json({"type": "response.create"})
    done = (await until(socket, "response.done"))[-1]["response"]
    assert '"what I said"' in done["output"][0]["content"][0]["text"]
    await socket.close()


async def test_silence_after_speech_ends_the_turn_and_brings_an_answer(sandbox: Running) -> None:
    socket = await opened(sandbox, output_modalities=["text"])
    audio = b"".join(Instrument().play(compose("over to you", voice="x", rate=24_000))) + bytes(24_000)
    for at in range(0, len(audio), 4_800):
        chunk = base64.b64encode(audio[at : at + 4_800]).decode()
        await socket.send_json({"type": "input_audio_buffer.append", "audio": chunk})
    kinds = [event["type"] for event in await until(socket, "response.done")]
    assert kinds[:3] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
    ]
    await socket.close()


async def test_a_response_can_be_cancelled_in_the_middle(sandbox: Running) -> None:
    socket = await opened(sandbox, output_modalities=["text"])
    await socket.send_json({"type": "response.create", "sandbox": {"gate": "never"}})
    await until(socket, "response.output_text.delta")
    await socket.send_json({"type": "response.create"})
    assert "active response" in (await until(socket, "error"))[-1]["error"]["message"]
    await socket.send_json({"type": "response.cancel"})
    assert (await until(socket, "response.done"))[-1]["response"]["status"] == "cancelled"
    await socket.send_json({"type": "response.cancel", "event_id": "mine"})
    assert (await until(socket, "error"))[-1]["error"]["event_id"] == "mine"
    await socket.close()


async def test_an_event_that_makes_no_sense_is_answered_with_an_error_event(sandbox: Running) -> None:
    socket = await opened(sandbox)
    for event in (
        {"type": "input_audio_buffer.commit"},
        {"type": "conversation.item.create", "item": {"type": "poem"}},
        {"type": "conversation.item.delete", "item_id": "none"},
        {"type": "input_audio_buffer.append", "audio": "%%"},
    ):
        await socket.send_json(event)
        assert (await socket.receive_json())["error"]["type"] == "invalid_request_error"
    await socket.send_json({"type": "input_audio_buffer.clear"})
    assert (await socket.receive_json())["type"] == "input_audio_buffer.cleared"
    await socket.close()


def check_answer(sdp: str) -> None:
    assert sdp.startswith("v=0\r\n")
    assert sdp.count("m=") == 2
    assert "a=group:BUNDLE 0 1" in sdp
    assert "a=rtpmap:111 opus/48000/2" in sdp
    assert "a=setup:passive" in sdp


async def test_an_offer_as_plain_sdp_is_answered_as_plain_sdp(sandbox: Running) -> None:
    headers = {"Content-Type": "application/sdp"}
    response = await sandbox.ask("POST", "/v1/realtime/calls", "realtime-only", data=OFFER, headers=headers)
    assert (response.status, response.content_type) == (201, "application/sdp")
    assert response.headers["Location"].startswith("/v1/realtime/calls/rtc_")
    check_answer(await response.text())


async def test_an_offer_in_json_is_answered_in_json_with_ice_servers(sandbox: Running) -> None:
    answer = await sandbox.json("POST", "/v1/realtime/calls", {"sdp": OFFER, "session": {"model": "m"}})
    check_answer(answer["sdp"])
    assert answer["id"].startswith("rtc_")
    assert answer["ice_servers"] == (await sandbox.json("GET", "/v1/realtime/ice-servers"))["ice_servers"]


async def test_an_offer_in_a_form_is_answered_as_plain_sdp(sandbox: Running) -> None:
    form = aiohttp.MultipartWriter("form-data")
    for name, value, kind in (("sdp", OFFER, "application/sdp"), ("session", json.dumps({}), "application/json")):
        part = form.append(value, {"Content-Type": kind})
        part.set_content_disposition("form-data", name=name)
    response = await sandbox.ask("POST", "/v1/realtime/calls", data=form)
    assert response.content_type == "application/sdp"
    check_answer(await response.text())


@pytest.mark.parametrize("body", ["", "hello", "{}"])
async def test_an_offer_that_is_none_is_refused(sandbox: Running, body: str) -> None:
    headers = {"Content-Type": "application/json" if body == "{}" else "application/sdp"}
    assert (await sandbox.ask("POST", "/v1/realtime/calls", data=body, headers=headers)).status == 400


async def test_ice_servers_come_with_turn_credentials(sandbox: Running) -> None:
    servers = (await sandbox.json("GET", "/v1/realtime/ice-servers", key="realtime-only"))["ice_servers"]
    assert {"urls", "username", "credential"} <= set(servers[1])
    assert KEYS["realtime-only"].secret not in json.dumps(servers)

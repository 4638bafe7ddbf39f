"""WebRTC signalling: an SDP answer in the three forms that clients ask for it, and ICE servers.

What belongs here: the two routes under ``/v1/realtime``. What does not: media. Nobody listens at the address in the
answer.
"""

from __future__ import annotations

import json
import secrets

from aiohttp import web

from proxy.sandbox.answers import json_answer
from proxy.sandbox.body import read_body
from proxy.sandbox.endpoint import Admission, Endpoint
from proxy.sandbox.errors import invalid
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.multipart import MultipartScanner
from proxy.sandbox.shapes import JsonObject, Malformed, new_id, object_of, text_of

MAX_OFFER = 1024 * 1024
_SDP = "application/sdp"


async def create_call(exchange: Exchange) -> web.Response:
    """``POST /v1/realtime/calls``: plain SDP, JSON ``{sdp, session}``, or the form that OpenAI's clients send."""
    body = await read_body(exchange, limit=MAX_OFFER)
    identifier = new_id("rtc_")
    match exchange.request.content_type:
        case "application/json":
            offer = _json_offer(body)
            answer: JsonObject = {"id": identifier, "sdp": answer_to(offer), "ice_servers": _ice_servers()}
            return json_answer(answer)
        case "multipart/form-data":
            offer = _form_offer(body, exchange.request.headers["Content-Type"])
        case _:
            offer = body.decode(errors="replace")
    # Invented: 201 and Location, after OpenAI's API; the vendor's reference says only what the body is.
    headers = {"Location": f"/v1/realtime/calls/{identifier}"}
    return web.Response(status=201, text=answer_to(offer), content_type=_SDP, headers=headers)


def _json_offer(body: bytes) -> str:
    try:
        message = object_of({"body": json.loads(body)}, "body")
    except Malformed:
        raise
    except ValueError as exc:
        raise invalid("request body is not valid JSON") from exc
    object_of(message, "session")
    return text_of(message, "sdp")


def _form_offer(body: bytes, content_type: str) -> str:
    boundary = content_type.partition("boundary=")[2].partition(";")[0].strip('"')
    if not boundary:
        raise invalid("multipart/form-data needs a boundary")
    fields: dict[str, bytes] = {}
    for part, piece in MultipartScanner(boundary).feed(body):
        fields[part.name] = fields.get(part.name, b"") + piece
    return fields.get("sdp", b"").decode(errors="replace")


def answer_to(offer: str) -> str:
    """An answer that accepts every section of the offer, with credentials of its own; raises ``Refusal``.

    Invented: the address and fingerprint in it lead nowhere.
    """
    lines = offer.replace("\r\n", "\n").split("\n")
    if not lines[0].startswith("v=0"):
        raise invalid("sdp must be a session description that begins with v=0")
    sections: list[list[str]] = []
    for line in lines:
        if line.startswith("m="):
            sections.append([])
        if sections:
            sections[-1].append(line)
    mids = [_attribute(section, "mid") or str(index) for index, section in enumerate(sections)]
    session = [
        "v=0",
        f"o=- {secrets.randbelow(2**62)} 2 IN IP4 127.0.0.1",
        "s=inworld-sandbox",
        "t=0 0",
        f"a=group:BUNDLE {' '.join(mids)}",
        "a=ice-lite",
    ]
    answered = [line for section, mid in zip(sections, mids, strict=True) for line in _answered(section, mid)]
    return "\r\n".join([*session, *answered, ""])


def _answered(section: list[str], mid: str) -> list[str]:
    kind, _port, protocol, *formats = section[0].removeprefix("m=").split()
    chosen = formats[:1]
    kept = [line for line in section if line.startswith("a=rtpmap:") and line[9:].split()[0] in chosen]
    directions = {"sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}
    direction = next((answer for asked, answer in directions.items() if f"a={asked}" in section), "sendrecv")
    own = [f"a={direction}", "a=rtcp-mux"] if kind == "audio" else ["a=sctp-port:5000"]
    return [
        f"m={kind} 9 {protocol} {' '.join(chosen)}",
        "c=IN IP4 0.0.0.0",
        f"a=mid:{mid}",
        "a=ice-ufrag:sandbox0",
        "a=ice-pwd:sandbox0sandbox0sandbox0",
        f"a=fingerprint:sha-256 {':'.join(['00'] * 32)}",
        "a=setup:passive",
        *own,
        *kept,
        "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host",
        "a=end-of-candidates",
    ]


def _attribute(section: list[str], name: str) -> str:
    return next((line.partition(":")[2] for line in section if line.startswith(f"a={name}:")), "")


def _ice_servers() -> list[JsonObject]:
    # Names that exist nowhere (RFC 2606), and a credential that is none.
    return [
        {"urls": ["stun:stun.sandbox.invalid:3478"]},
        {
            "urls": ["turn:turn.sandbox.invalid:3478?transport=udp", "turns:turn.sandbox.invalid:5349?transport=tcp"],
            "username": "sandbox",
            "credential": "not-a-credential",
        },
    ]


async def ice_servers(_exchange: Exchange) -> web.Response:
    """``GET /v1/realtime/ice-servers``."""
    return json_answer({"ice_servers": _ice_servers()})


# Invented: that these answer in the gateway's shape.
ENDPOINTS = (
    Endpoint("realtime.calls", "POST", "/v1/realtime/calls", create_call, admission=Admission.REALTIME),
    Endpoint("realtime.ice_servers", "GET", "/v1/realtime/ice-servers", ice_servers, admission=Admission.REALTIME),
)

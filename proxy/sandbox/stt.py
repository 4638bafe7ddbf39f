"""Transcription over HTTP: in one piece, and as a job from JSON or from a streamed upload.

What belongs here: the routes. What does not: hearing (``hearing.py``), the socket (``stt_socket.py``).
"""

from __future__ import annotations

import hashlib
import json

from aiohttp import web

from proxy.sandbox.answers import json_answer
from proxy.sandbox.body import bytes_of, read_message
from proxy.sandbox.endpoint import Endpoint
from proxy.sandbox.errors import Refusal, invalid
from proxy.sandbox.exchange import Exchange
from proxy.sandbox.hearing import Listener, word_timestamps
from proxy.sandbox.multipart import MultipartScanner, Part
from proxy.sandbox.operations import keep_json
from proxy.sandbox.pacing import computed
from proxy.sandbox.shapes import JsonObject, camel, number_of, object_of, rfc3339, text_of

MAX_AUDIO = 16 * 1024 * 1024
"""Documented for a synchronous request, as "about 16 MB"."""
MAX_UPLOAD = 512 * 1024 * 1024
"""Documented for an upload."""
MAX_CONFIG = 1024 * 1024
RESULT_LIFETIME = 24 * 3600.0
"""Documented: a result link expires 24 hours after completion."""

_COMPRESSED = frozenset({"MP3", "OGG_OPUS", "FLAC"})
_CONFIG_PARTS = frozenset({"transcribeConfig", "transcribe_config"})


def listener_for(config: JsonObject, *, turns: bool = False) -> Listener:
    """A listener for audio as this configuration describes it; raises ``Refusal``."""
    if not text_of(config, "modelId"):
        raise invalid("transcribeConfig.modelId is required")
    return Listener(
        rate=int(number_of(config, "sampleRateHertz", 0)),
        channels=int(number_of(config, "numberOfChannels", 0)),
        compressed=text_of(config, "audioEncoding") in _COMPRESSED,
        turns=turns,
    )


def transcription(listener: Listener, config: JsonObject, *, final: bool = True) -> JsonObject:
    """What was heard, as the API writes it."""
    said = listener.transcript()
    result: JsonObject = {"transcript": said, "isFinal": final, "wordTimestamps": []}
    if config.get("includeWordTimestamps") is True:
        result["wordTimestamps"] = word_timestamps(said, listener.milliseconds)
    if object_of(config, "voiceProfileConfig").get("enableVoiceProfile") is True:
        # Invented: the labels. Every speaker sounds the same here.
        result["voiceProfile"] = {"emotion": [{"label": "calm", "confidence": 1.0}]}
    return result


def usage_of(listener: Listener, config: JsonObject) -> JsonObject:
    """What hearing it cost, as the API writes it."""
    return {"transcribedAudioMs": listener.milliseconds, "modelId": text_of(config, "modelId")}


async def transcribe(exchange: Exchange) -> web.Response:
    """``POST /stt/v1/transcribe``: audio in base64."""
    message = await read_message(exchange)
    # The current form nests the configuration; the vendor's older examples do not.
    config = object_of(message, "transcribeConfig") or message
    listener = _heard(message, config)
    answer: JsonObject = {
        "transcription": transcription(listener, config),
        "usage": usage_of(listener, config),
    }
    return await computed(exchange, message, answer)


def _heard(message: JsonObject, config: JsonObject) -> Listener:
    listener = listener_for(config)
    audio = bytes_of(object_of(message, "audioData"), "content")
    if not audio:
        raise invalid("audioData.content is required")
    if len(audio) > MAX_AUDIO:
        raise invalid(f"audio is larger than {MAX_AUDIO} bytes")
    listener.hear(audio)
    return listener


async def transcribe_async(exchange: Exchange) -> web.Response:
    """``POST /stt/v1/transcribe:async``: JSON, or a multipart upload that is never held."""
    if exchange.request.content_type == "multipart/form-data":
        config, listener = await _upload(exchange)
        return _job(exchange, listener, config)
    message = await read_message(exchange)
    config = object_of(message, "transcribeConfig")
    if text_of(message, "audioUri"):
        # Invented: the sandbox fetches nothing, and says so in place of a transcript.
        return _job(exchange, listener_for(config), config, "The sandbox does not fetch recordings.")
    return _job(exchange, _heard(message, config), config)


class _Upload:
    """The parts of an upload as they pass by."""

    def __init__(self) -> None:
        self.config: JsonObject = {}
        self.listener: Listener | None = None
        self.file_bytes = 0
        self._config_text = bytearray()
        self._digest = hashlib.sha256()

    def took(self, part: Part, piece: bytes) -> None:
        """A piece of a part; raises ``Refusal`` for audio that comes before its configuration."""
        if part.name in _CONFIG_PARTS:
            self._config_text += piece
            if len(self._config_text) > MAX_CONFIG:
                raise invalid("transcribeConfig is too large")
        elif part.name == "file":
            if self.listener is None:
                self.listener = self._configured()
            self.file_bytes += len(piece)
            self._digest.update(piece)
            self.listener.hear(piece)

    def _configured(self) -> Listener:
        # Documented: the form is read as a stream, so a configuration that arrives after the audio is found too late.
        if not self._config_text:
            raise invalid("transcribeConfig must come before file")
        try:
            config = json.loads(self._config_text)
        except ValueError as exc:
            raise invalid("transcribeConfig is not valid JSON") from exc
        self.config = camel(object_of({"transcribeConfig": config}, "transcribeConfig"))
        return listener_for(self.config)

    def as_json(self) -> JsonObject:
        """For the record of what was seen."""
        return {"fileBytes": self.file_bytes, "fileSha256": self._digest.hexdigest()}


async def _upload(exchange: Exchange) -> tuple[JsonObject, Listener]:
    boundary = _boundary(exchange)
    scanner, upload = MultipartScanner(boundary), _Upload()
    async for chunk in exchange.request.content.iter_any():
        exchange.record.took(chunk)
        for part, piece in scanner.feed(chunk):
            upload.took(part, piece)
        if upload.file_bytes > MAX_UPLOAD:
            raise Refusal(413, f"the recording is larger than {MAX_UPLOAD} bytes")
    exchange.record.upload = upload.as_json()
    if upload.listener is None or not scanner.finished:
        raise invalid("the form needs a transcribeConfig part and then a file part, and an end")
    return upload.config, upload.listener


def _boundary(exchange: Exchange) -> str:
    header = exchange.request.headers.get("Content-Type", "")
    for parameter in header.split(";")[1:]:
        name, _, value = parameter.strip().partition("=")
        if name.lower() == "boundary" and value:
            return value.strip('"')
    raise invalid("multipart/form-data needs a boundary")


def _job(exchange: Exchange, listener: Listener, config: JsonObject, said: str | None = None) -> web.Response:
    said = listener.transcript() if said is None else said
    segment: JsonObject = {
        # 64-bit integers, which protobuf's JSON writes as strings.
        "startTimeMs": "0",
        "endTimeMs": str(listener.milliseconds),
        "transcript": said,
    }
    document: JsonObject = {
        "transcript": said,
        "segments": [segment],
        "language": text_of(config, "language", "en-US"),
        "usage": usage_of(listener, config),
    }
    expires = rfc3339(exchange.sandbox.options.clock() + RESULT_LIFETIME)
    response: JsonObject = {"resultUri": keep_json(exchange, document), "expireTime": expires}
    # Invented: the collection in the operation's name.
    return json_answer(exchange.sandbox.operations.start(exchange.workspace, "sttAsyncJobs", response))


ENDPOINTS = (
    Endpoint("stt.transcribe", "POST", "/stt/v1/transcribe", transcribe),
    Endpoint("stt.transcribe_async", "POST", "/stt/v1/transcribe:async", transcribe_async),
)

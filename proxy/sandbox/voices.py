"""The Voice API: list, get, update, delete, clone, design, publish, and copying to another workspace.

What belongs here: the routes, in both spellings of their paths. What does not: what is remembered (``voice_store.py``).
"""

from __future__ import annotations

import base64
import re

from aiohttp import web

from proxy.sandbox.answers import json_answer
from proxy.sandbox.body import bytes_of, read_message
from proxy.sandbox.endpoint import Endpoint, Governed, reads, writes
from proxy.sandbox.errors import Refusal, invalid
from proxy.sandbox.exchange import Exchange, workspace_of
from proxy.sandbox.paging import page
from proxy.sandbox.shapes import JsonObject, camel, list_of, number_of, object_of, text_of, texts_of
from proxy.sandbox.sound import compose, read_texts
from proxy.sandbox.speech import whole
from proxy.sandbox.voice_store import Voice

MAX_PAGE_SIZE = 2_000
PROMPT_LENGTH = range(30, 251)
MAX_PREVIEWS = 3
_PREVIEW_RATE = 24_000

# Invented: the grammar of ``filter``, of which the public reference shows only ``language=en``.
_TERM = re.compile(r"""\s*(\w+)\s*=\s*(?:"([^"]*)"|'([^']*)'|(\S+))\s*""")


async def list_voices(exchange: Exchange) -> web.Response:
    """``GET …/voices?languages=&filter=&pageSize=&pageToken=``."""
    query = exchange.request.query
    languages = [*query.getall("languages", []), *query.getall("lang_code", []), *query.getall("langCode", [])]
    terms = _terms(query.get("filter", ""))
    voices = [
        voice
        for voice in exchange.sandbox.voices.visible(workspace_of(exchange))
        if _speaks(voice, languages) and all(_has(voice, name, value) for name, value in terms)
    ]
    shown, next_token = page(voices, query, longest=MAX_PAGE_SIZE)
    answer: JsonObject = {"voices": [voice.as_json() for voice in shown]}
    if next_token:
        answer["nextPageToken"] = next_token
    return json_answer(answer)


def _speaks(voice: Voice, languages: list[str]) -> bool:
    # Documented: en-US, en_US and the prefix en all name EN_US.
    wanted = {language.replace("-", "_").upper() for language in languages}
    return not wanted or voice.lang_code in wanted or voice.language.upper() in wanted


def _terms(text: str) -> list[tuple[str, str]]:
    terms = []
    for part in re.split(r"\s+AND\s+", text) if text.strip() else []:
        match = _TERM.fullmatch(part)
        if match is None:
            raise invalid(f"filter is malformed near {part!r}")
        terms.append((match[1], match[2] or match[3] or match[4] or ""))
    return terms


def _has(voice: Voice, name: str, value: str) -> bool:
    match name:
        case "language" | "lang_code" | "langCode":
            return _speaks(voice, [value])
        case "source":
            return voice.source == value.upper()
        case "tags" | "tag":
            return value in voice.tags
        case "display_name" | "displayName":
            return voice.display_name == value
        case _:
            raise invalid(f"filter has an unknown field: {name}")


async def get_voice(exchange: Exchange) -> web.Response:
    """``GET …/voices/{voice}``."""
    return json_answer(exchange.sandbox.voices.get(workspace_of(exchange), voice_id(exchange)).as_json())


async def update_voice(exchange: Exchange) -> web.Response:
    """``PATCH …/voices/{voice}``: the fields that are present, or those that ``updateMask`` names."""
    message = await read_message(exchange)
    voice = exchange.sandbox.voices.own(workspace_of(exchange), voice_id(exchange))
    changed = _changed(exchange, voice, message)
    return json_answer(changed.as_json())


async def delete_voice(exchange: Exchange) -> web.Response:
    """``DELETE …/voices/{voice}``."""
    exchange.sandbox.voices.delete(exchange.sandbox.voices.own(workspace_of(exchange), voice_id(exchange)))
    return json_answer({})


async def clone_voice(exchange: Exchange) -> web.Response:
    """``POST …/voices:clone``."""
    message = await read_message(exchange)
    name, language = text_of(message, "displayName"), text_of(message, "langCode", "EN_US")
    samples = [object_of({"voiceSamples": sample}, "voiceSamples") for sample in list_of(message, "voiceSamples")]
    if not name or not samples:
        raise invalid("displayName and voiceSamples are required")
    validated: list[JsonObject] = []
    for sample in samples:
        audio = bytes_of(sample, "audioData")
        if not audio:
            raise invalid("a voice sample must not be empty")
        spoken = text_of(sample, "transcription") or " ".join(read_texts(audio))
        validated.append({"langCode": language, "warnings": [], "errors": [], "transcription": spoken})
    voice = exchange.sandbox.voices.add(workspace_of(exchange), name, language)
    voice = _changed(exchange, voice, message)
    return json_answer({"voice": voice.as_json(), "audioSamplesValidated": validated})


async def design_voice(exchange: Exchange) -> web.Response:
    """``POST …/voices:design``: drafts to listen to, which ``:publish`` makes into voices."""
    message = await read_message(exchange)
    prompt, preview = text_of(message, "designPrompt"), text_of(message, "previewText")
    language = text_of(message, "langCode", "EN_US")
    if len(prompt) not in PROMPT_LENGTH:
        raise invalid("designPrompt must be 30 to 250 characters long")
    if not preview.strip():
        raise invalid("previewText is required")
    count = int(number_of(object_of(message, "voiceDesignConfig"), "numberOfSamples", 1))
    if not 1 <= count <= MAX_PREVIEWS:
        raise invalid(f"numberOfSamples must be in [1, {MAX_PREVIEWS}]")
    previews: list[JsonObject] = []
    for _ in range(count):
        voice = exchange.sandbox.voices.add(workspace_of(exchange), "designed", language, draft=True)
        tune = compose(preview, voice=voice.voice_id, rate=_PREVIEW_RATE)
        audio = whole(exchange.sandbox.instrument, tune, raw=False)
        encoded = base64.b64encode(audio).decode()
        previews.append({"voiceId": voice.voice_id, "previewText": preview, "previewAudio": encoded})
    return json_answer({"langCode": language, "previewVoices": previews})


async def publish_voice(exchange: Exchange) -> web.Response:
    """``POST …/voices/{voice}:publish``."""
    message = await read_message(exchange)
    voice = exchange.sandbox.voices.own(workspace_of(exchange), voice_id(exchange))
    if not voice.draft:
        # Invented: what publishing twice answers.
        raise Refusal(400, "voice is already published", code=9)
    return json_answer(_changed(exchange, voice, message).as_json())


async def issue_copy_token(exchange: Exchange) -> web.Response:
    """``POST …/voices/{voice}:issueCopyToken``: whitespace trimmed, blanks and duplicates dropped, as documented."""
    message = await read_message(exchange)
    voice = exchange.sandbox.voices.own(workspace_of(exchange), voice_id(exchange))
    named = (workspace.strip() for workspace in texts_of(message, "allowedWorkspaces"))
    allowed = tuple(dict.fromkeys(workspace for workspace in named if workspace))
    if not allowed:
        raise invalid("allowedWorkspaces must name at least one workspace")
    return json_answer(exchange.sandbox.voices.issue_copy_token(voice, workspace_of(exchange), allowed))


async def redeem_copy_token(exchange: Exchange) -> web.Response:
    """``POST …/voices:redeemCopyToken``."""
    message = await read_message(exchange)
    # Invented: the member that holds the token; the reference says only that the last segment of its name is shared.
    names = ("voiceCopyToken", "copyToken", "token", "name")
    token = next((text_of(message, name) for name in names if message.get(name)), "")
    if not token:
        raise invalid("voiceCopyToken is required")
    return json_answer(exchange.sandbox.voices.redeem(workspace_of(exchange), token.rpartition("/")[2]).as_json())


def voice_id(exchange: Exchange) -> str:
    """The voice that the path names. In the older spelling it may lack the workspace's prefix, which the path has."""
    named = exchange.match("voice")
    if "workspace" in exchange.request.match_info and "__" not in named:
        return f"{workspace_of(exchange)}__{named}"
    return named


def _changed(exchange: Exchange, voice: Voice, message: JsonObject) -> Voice:
    mask = exchange.request.query.get("updateMask") or exchange.request.query.get("update_mask") or ""
    present = set(camel({name.strip(): None for name in mask.split(",")})) if mask else set(message)
    return exchange.sandbox.voices.replace(
        voice,
        display_name=text_of(message, "displayName") if "displayName" in present else None,
        description=text_of(message, "description") if "description" in present else None,
        tags=tuple(texts_of(message, "tags")) if "tags" in present else None,
    )


_MODERN = "/voices/v1/voices"
_OLDER = "/voices/v1/workspaces/{workspace}/voices"
_ONE = "/{voice:[^/:]+}"
_VOICES = Governed.VOICES


def _rows(prefix: str, collection: str) -> tuple[Endpoint, ...]:
    return (
        reads(f"{prefix}list", collection, list_voices, _VOICES),
        reads(f"{prefix}get", collection + _ONE, get_voice, _VOICES),
        writes(f"{prefix}update", "PATCH", collection + _ONE, update_voice, _VOICES),
        writes(f"{prefix}delete", "DELETE", collection + _ONE, delete_voice, _VOICES),
        writes(f"{prefix}clone", "POST", collection + ":clone", clone_voice, _VOICES),
        writes(f"{prefix}design", "POST", collection + ":design", design_voice, _VOICES),
        writes(f"{prefix}publish", "POST", collection + _ONE + ":publish", publish_voice, _VOICES),
    )


ENDPOINTS = (
    *_rows("voices.", _MODERN),
    *_rows("voices.workspace_", _OLDER),
    writes("voices.issue_copy_token", "POST", _MODERN + _ONE + ":issueCopyToken", issue_copy_token, _VOICES),
    writes("voices.redeem_copy_token", "POST", _MODERN + ":redeemCopyToken", redeem_copy_token, _VOICES),
)

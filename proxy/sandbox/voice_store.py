"""The voices of all workspaces: the system's, the custom ones, drafts of designed ones, and tokens to copy them.

What belongs here: what is remembered about voices, and the rules about it. What does not: HTTP (``voices.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from proxy.sandbox.errors import Refusal, invalid, not_found
from proxy.sandbox.shapes import JsonObject, new_uuid, rfc3339

LANGUAGES = (
    "EN_US", "ZH_CN", "KO_KR", "JA_JP", "RU_RU", "AUTO", "IT_IT", "ES_ES",
    "PT_BR", "DE_DE", "FR_FR", "AR_SA", "PL_PL", "NL_NL", "HI_IN", "HE_IL",
)  # fmt: skip
SYSTEM = "SYSTEM"
CLONED = "IVC"
COPY_TOKEN_LIFETIME = 7 * 24 * 3600.0
MAX_CUSTOM_VOICES = 1_000
"""Invented: the documented limit depends on the plan."""

_NOT_IN_IDS = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Voice:
    """One voice. ``workspace`` is None for the system's, which everybody sees."""

    voice_id: str
    workspace: str | None
    display_name: str
    lang_code: str = "EN_US"
    description: str = ""
    tags: tuple[str, ...] = ()
    source: str = CLONED
    draft: bool = False
    """Designed and not yet published."""

    @property
    def language(self) -> str:
        """The two-letter language, as the older list writes it."""
        return self.lang_code.partition("_")[0].lower()

    def as_json(self) -> JsonObject:
        """The voice as the Voice API writes it."""
        owner = self.workspace or "inworld"
        return {
            "voiceId": self.voice_id,
            "langCode": self.lang_code,
            "displayName": self.display_name,
            "description": self.description,
            "tags": list(self.tags),
            "name": f"workspaces/{owner}/voices/{self.voice_id.rpartition('__')[2]}",
            "source": self.source,
        }


def _system(name: str, description: str, *tags: str, lang: str = "EN_US") -> Voice:
    return Voice(name, None, name, lang, description, tags, SYSTEM)


# Names that published clients use as defaults. Invented: their descriptions and tags.
SYSTEM_VOICES = (
    _system("Alex", "An even, friendly voice.", "male", "conversational"),
    _system("Ashley", "A warm, natural voice.", "female", "conversational"),
    _system("Craig", "An older, deliberate voice.", "male", "narration"),
    _system("Dennis", "A smooth, calm voice.", "male", "narration"),
    _system("Edward", "A fast, emphatic voice.", "male", "energetic"),
    _system("Hades", "A commanding, low voice.", "male", "character"),
    _system("Olivia", "A bright, upbeat voice.", "female", "conversational"),
    _system("Sarah", "A quick, curious voice.", "female", "conversational"),
    _system("Timothy", "A lively, casual voice.", "male", "conversational"),
    _system("Diego", "Una voz serena.", "male", "narration", lang="ES_ES"),
    _system("Hélène", "Une voix posée.", "female", "narration", lang="FR_FR"),
    _system("Johanna", "Eine ruhige Stimme.", "female", "narration", lang="DE_DE"),
    _system("Asuka", "落ち着いた声。", "female", "conversational", lang="JA_JP"),
)


@dataclass(frozen=True, slots=True)
class CopyToken:
    """Lets the listed workspaces copy one voice."""

    identifier: str
    workspace: str
    voice: Voice
    allowed: tuple[str, ...]
    expires: float


class VoiceStore:
    """Every voice there is."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._voices: dict[str, Voice] = {voice.voice_id: voice for voice in SYSTEM_VOICES}
        self._copy_tokens: dict[str, CopyToken] = {}
        self._made = 0

    def visible(self, workspace: str) -> list[Voice]:
        """The voices a workspace may list: the system's and its own published ones."""
        return [voice for voice in self._voices.values() if voice.workspace in (None, workspace) and not voice.draft]

    def may_speak(self, workspace: str, voice_id: str) -> bool:
        """True if the workspace may synthesize with this voice; a draft too, to try it."""
        voice = self._voices.get(voice_id)
        return voice is not None and voice.workspace in (None, workspace)

    def get(self, workspace: str, voice_id: str) -> Voice:
        """The voice; raises ``Refusal`` if the workspace cannot see it."""
        voice = self._voices.get(voice_id)
        if voice is None or voice.workspace not in (None, workspace):
            raise not_found(f"voice not found: {voice_id}")
        return voice

    def own(self, workspace: str, voice_id: str) -> Voice:
        """The voice, if it is the workspace's to change; raises ``Refusal``."""
        voice = self.get(workspace, voice_id)
        if voice.workspace is None:
            # Invented: the status and the sentence.
            raise Refusal(403, "system voices cannot be changed")
        return voice

    def add(self, workspace: str, display_name: str, lang_code: str, *, draft: bool = False) -> Voice:
        """A new voice of a workspace, under an id made from its name and the time, as the real ones are."""
        if len(self._voices) - len(SYSTEM_VOICES) >= MAX_CUSTOM_VOICES:
            raise Refusal(429, "the workspace has reached its limit of custom voices")
        if lang_code not in LANGUAGES:
            raise invalid(f"invalid value for enum field langCode: {lang_code!r}")
        self._made += 1
        stem = _NOT_IN_IDS.sub("_", display_name.lower()).strip("_") or "voice"
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%d_%H%M%Sz")
        voice = Voice(f"{workspace}__{stem}_{stamp}_{self._made}", workspace, display_name, lang_code, draft=draft)
        self._voices[voice.voice_id] = voice
        return voice

    def replace(
        self,
        voice: Voice,
        *,
        display_name: str | None,
        description: str | None,
        tags: tuple[str, ...] | None,
        draft: bool = False,
    ) -> Voice:
        """The voice with some of its fields changed; None leaves one as it is."""
        changed = replace(
            voice,
            display_name=voice.display_name if display_name is None else display_name,
            description=voice.description if description is None else description,
            tags=voice.tags if tags is None else tags,
            draft=draft,
        )
        self._voices[voice.voice_id] = changed
        return changed

    def delete(self, voice: Voice) -> None:
        """Forgets a voice."""
        del self._voices[voice.voice_id]

    def issue_copy_token(self, voice: Voice, workspace: str, allowed: tuple[str, ...]) -> JsonObject:
        """A token for seven days."""
        now = self._clock()
        token = CopyToken(new_uuid(), workspace, voice, allowed, now + COPY_TOKEN_LIFETIME)
        self._copy_tokens[token.identifier] = token
        return {
            "name": f"workspaces/{workspace}/voiceCopyTokens/{token.identifier}",
            "allowedWorkspaces": list(allowed),
            "createTime": rfc3339(now),
            "expireTime": rfc3339(token.expires),
        }

    def redeem(self, workspace: str, identifier: str) -> Voice:
        """A copy of the voice in another workspace; raises ``Refusal``."""
        token = self._copy_tokens.get(identifier)
        if token is None or token.expires <= self._clock():
            raise not_found("voice copy token not found or expired")
        if workspace not in token.allowed:
            raise Refusal(403, "this workspace may not redeem the voice copy token")
        copy = self.add(workspace, token.voice.display_name, token.voice.lang_code)
        return self.replace(copy, display_name=None, description=token.voice.description, tags=token.voice.tags)

"""The Voice API: it remembers, in both spellings of its paths, and copies between workspaces."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.sandbox.conftest import Running

SAMPLE = {"audioData": base64.b64encode(b"RIFF....").decode(), "transcription": "my voice"}
CLONE: dict[str, Any] = {"displayName": "Narrator One", "langCode": "EN_US", "voiceSamples": [SAMPLE]}
OLDER = "/voices/v1/workspaces/sandbox-demo/voices"


async def ids(sandbox: Running, query: str = "", key: str = "full") -> list[str]:
    return [voice["voiceId"] for voice in (await sandbox.json("GET", f"/voices/v1/voices{query}", key=key))["voices"]]


async def cloned(sandbox: Running, **change: Any) -> dict[str, Any]:
    answer = await sandbox.json("POST", "/voices/v1/voices:clone", CLONE | change)
    return dict(answer["voice"])


async def test_a_cloned_voice_is_listed_spoken_with_changed_and_deleted(sandbox: Running) -> None:
    voice = await cloned(sandbox, tags=["deep"], description="As recorded.")
    assert voice["voiceId"].startswith("sandbox-demo__narrator_one_")
    assert voice["name"] == f"workspaces/sandbox-demo/voices/{voice['voiceId'].removeprefix('sandbox-demo__')}"
    assert (voice["source"], voice["tags"], voice["description"]) == ("IVC", ["deep"], "As recorded.")
    path = f"/voices/v1/voices/{voice['voiceId']}"
    assert await sandbox.json("GET", path) == voice
    synthesis = {"text": "hi", "voiceId": voice["voiceId"], "modelId": "m"}
    assert (await sandbox.ask("POST", "/tts/v1/voice", json=synthesis)).status == 200
    changed = await sandbox.json("PATCH", path, {"displayName": "Renamed"})
    assert changed == voice | {"displayName": "Renamed"}
    masked = await sandbox.json("PATCH", f"{path}?updateMask=tags", {"displayName": "Ignored", "tags": []})
    assert masked == changed | {"tags": []}
    assert await sandbox.json("DELETE", path) == {}
    assert (await sandbox.ask("GET", path)).status == 404
    assert voice["voiceId"] not in await ids(sandbox)
    assert (await sandbox.ask("POST", "/tts/v1/voice", json=synthesis)).status == 404


async def test_a_clone_answers_for_each_sample_and_wants_at_least_one(sandbox: Running) -> None:
    answer = await sandbox.json("POST", "/voices/v1/voices:clone", CLONE)
    assert answer["audioSamplesValidated"][0]["transcription"] == "my voice"
    wrong: list[dict[str, Any]] = [{"voiceSamples": []}, {"displayName": ""}, {"langCode": "XX"}]
    for change in [*wrong, {"voiceSamples": [{"audioData": "%"}]}]:
        assert (await sandbox.ask("POST", "/voices/v1/voices:clone", json=CLONE | change)).status == 400


async def test_the_older_paths_are_the_same_voices(sandbox: Running) -> None:
    voice = (await sandbox.json("POST", f"{OLDER}:clone", CLONE))["voice"]
    short = voice["voiceId"].removeprefix("sandbox-demo__")
    assert await sandbox.json("GET", f"{OLDER}/{short}") == voice
    assert await sandbox.json("GET", f"{OLDER}/{voice['voiceId']}") == voice
    assert await sandbox.json("GET", OLDER) == await sandbox.json("GET", "/voices/v1/voices")
    assert (await sandbox.json("PATCH", f"{OLDER}/{short}", {"displayName": "N"}))["displayName"] == "N"
    assert (await sandbox.ask("POST", f"{OLDER}:design", json={})).status == 400
    assert (await sandbox.ask("POST", f"{OLDER}/{short}:publish", json={})).status == 400
    assert await sandbox.json("DELETE", f"{OLDER}/{short}") == {}


async def test_a_designed_voice_is_a_draft_until_it_is_published(sandbox: Running) -> None:
    body = {
        "designPrompt": "A calm, deep and patient narrator.",
        "previewText": "Listen to me.",
        "langCode": "EN_US",
        "voiceDesignConfig": {"numberOfSamples": 2},
    }
    previews = (await sandbox.json("POST", "/voices/v1/voices:design", body))["previewVoices"]
    assert len(previews) == 2
    assert base64.b64decode(previews[0]["previewAudio"]).startswith(b"RIFF")
    chosen = previews[0]["voiceId"]
    assert chosen not in await ids(sandbox)
    published = await sandbox.json("POST", f"/voices/v1/voices/{chosen}:publish", {"displayName": "Patience"})
    assert published["displayName"] == "Patience"
    assert chosen in await ids(sandbox)
    assert (await sandbox.ask("POST", f"/voices/v1/voices/{chosen}:publish", json={})).status == 400
    for change in ({"designPrompt": "short"}, {"previewText": ""}, {"voiceDesignConfig": {"numberOfSamples": 4}}):
        assert (await sandbox.ask("POST", "/voices/v1/voices:design", json=body | change)).status == 400


async def test_the_list_is_filtered_and_paged(sandbox: Running) -> None:
    every = await ids(sandbox)
    assert await ids(sandbox, "?languages=es") == await ids(sandbox, "?languages=ES_ES") == ["Diego"]
    assert await ids(sandbox, "?languages=es&languages=fr-FR") == ["Diego", "Hélène"]
    assert await ids(sandbox, "?filter=language=de") == ["Johanna"]
    mine = (await cloned(sandbox, tags=["deep"]))["voiceId"]
    assert await ids(sandbox, '?filter=source = "IVC" AND tags=deep') == [mine]
    pages, token = [], ""
    while True:
        page = await sandbox.json("GET", f"/voices/v1/voices?pageSize=5&pageToken={token}")
        pages.append(len(page["voices"]))
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert sum(pages) == len(every) + 1
    assert max(pages) == 5
    for query in ("?pageSize=2001", "?pageSize=x", "?pageToken=!", "?filter=nonsense", "?filter=shoe=42"):
        assert (await sandbox.ask("GET", f"/voices/v1/voices{query}")).status == 400


@pytest.mark.parametrize(("method", "suffix"), [("PATCH", ""), ("DELETE", ""), ("POST", ":issueCopyToken")])
async def test_a_system_voice_cannot_be_changed(sandbox: Running, method: str, suffix: str) -> None:
    assert (await sandbox.ask(method, f"/voices/v1/voices/Ashley{suffix}", json={})).status == 403


async def test_a_voice_is_copied_to_the_workspaces_that_its_token_names(sandbox: Running) -> None:
    voice = await cloned(sandbox)
    issue = f"/voices/v1/voices/{voice['voiceId']}:issueCopyToken"
    token = await sandbox.json("POST", issue, {"allowedWorkspaces": [" sandbox-other", "", "sandbox-other"]})
    assert token["allowedWorkspaces"] == ["sandbox-other"]
    short = token["name"].rpartition("/")[2]
    redeem = "/voices/v1/voices:redeemCopyToken"
    copy = await sandbox.json("POST", redeem, {"voiceCopyToken": short}, key="other-workspace")
    assert copy["voiceId"].startswith("sandbox-other__")
    assert copy["voiceId"] in await ids(sandbox, key="other-workspace")
    assert voice["voiceId"] not in await ids(sandbox, key="other-workspace")
    assert (await sandbox.ask("POST", redeem, "full", json={"voiceCopyToken": short})).status == 403
    sandbox.clock.now += 7 * 24 * 3600
    assert (await sandbox.ask("POST", redeem, "other-workspace", json={"voiceCopyToken": short})).status == 404


async def test_voices_belong_to_their_workspace(sandbox: Running) -> None:
    voice = await cloned(sandbox)
    assert (await sandbox.ask("GET", f"/voices/v1/voices/{voice['voiceId']}", "other-workspace")).status == 404


async def test_an_encoded_voice_id_is_the_same_id(sandbox: Running) -> None:
    from yarl import URL

    from tests.sandbox.conftest import KEYS

    voice = await cloned(sandbox)
    target = sandbox.url + "/voices/v1/voices/" + voice["voiceId"].replace("__", "%5F%5F")
    headers = {"Authorization": f"Basic {KEYS['full'].basic}"}
    response = await sandbox.session.get(URL(target, encoded=True), headers=headers)
    assert (await response.json()) == voice
    assert "%5F%5F" in (await sandbox.seen())[-1]["target"]

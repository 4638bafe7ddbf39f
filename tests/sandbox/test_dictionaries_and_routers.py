"""The Pronunciation and Router APIs: they remember, and a stale writer is told so."""

from __future__ import annotations

from typing import Any

from tests.sandbox.conftest import Running

ALL = "/pronunciations/v1/workspaces/sandbox-demo/pronunciationDictionaries"
ENTRY = {"text": "Inworld", "phonemes": "ˈɪnwɜːld"}
ROUTER: dict[str, Any] = {
    "name": "quick",
    "display_name": "Quick",
    "default_route": {
        "route_id": "default",
        "variants": [
            {"variant": {"variant_id": "a", "model_id": "openai/small"}, "weight": 30},
            {"variant": {"variant_id": "b", "model_id": "openai/large"}, "weight": 70},
        ],
    },
}


async def created(sandbox: Running, name: str = "Names") -> dict[str, Any]:
    return dict(await sandbox.json("POST", ALL, {"displayName": name, "pronunciations": [ENTRY]}))


def path_of(dictionary: dict[str, Any]) -> str:
    return f"/pronunciations/v1/{dictionary['name']}"


async def test_a_dictionary_is_created_read_and_listed(sandbox: Running) -> None:
    dictionary = await created(sandbox)
    assert dictionary["pronunciations"] == [ENTRY]
    assert await sandbox.json("GET", path_of(dictionary), key="standard-read") == dictionary
    assert (await sandbox.json("GET", ALL))["pronunciationDictionaries"] == [dictionary]


async def test_creating_twice_makes_two(sandbox: Running) -> None:
    await created(sandbox)
    await created(sandbox)
    page = await sandbox.json("GET", f"{ALL}?pageSize=1")
    assert len(page["pronunciationDictionaries"]) == 1
    assert page["nextPageToken"]


async def test_an_update_with_a_stale_etag_is_409_and_changes_nothing(sandbox: Running) -> None:
    old = await created(sandbox)
    path = path_of(old)
    new = await sandbox.json("PATCH", f"{path}?updateMask=displayName", {"etag": old["etag"], "displayName": "New"})
    assert (new["displayName"], new["pronunciations"]) == ("New", [ENTRY])
    assert new["etag"] != old["etag"]
    stale = await sandbox.ask("PATCH", path, json={"etag": old["etag"], "pronunciations": []})
    assert (stale.status, (await stale.json())["code"]) == (409, 10)
    assert await sandbox.json("GET", path) == new
    emptied = await sandbox.json("PATCH", path, {"etag": new["etag"], "pronunciations": []})
    assert emptied["pronunciations"] == []
    assert (await sandbox.ask("PATCH", f"{path}?updateMask=etag", json={"etag": emptied["etag"]})).status == 400


async def test_deleting_needs_the_current_etag_and_may_allow_a_missing_one(sandbox: Running) -> None:
    dictionary = await created(sandbox)
    path, etag = path_of(dictionary), dictionary["etag"]
    assert (await sandbox.ask("DELETE", path)).status == 400
    assert (await sandbox.ask("DELETE", f"{path}?etag=stale")).status == 409
    assert await sandbox.json("DELETE", f"{path}?etag={etag}") == {}
    assert (await sandbox.ask("DELETE", f"{path}?etag={etag}")).status == 404
    assert await sandbox.json("DELETE", f"{path}?etag={etag}&allowMissing=true") == {}
    assert (await sandbox.ask("DELETE", f"{path}?allowMissing=true")).status == 400


async def test_a_dictionary_is_validated_whole(sandbox: Running) -> None:
    for body in (
        {"displayName": " "},
        {"displayName": "x" * 65},
        {"displayName": "x", "pronunciations": [ENTRY, ENTRY | {"text": "INWORLD"}]},
        {"displayName": "x", "pronunciations": ["no"]},
    ):
        assert (await sandbox.ask("POST", ALL, json=body)).status == 400
    assert (await sandbox.json("GET", ALL))["pronunciationDictionaries"] == []


async def test_a_router_is_created_by_an_operation_and_used_as_a_model(sandbox: Running) -> None:
    operation = await sandbox.json("POST", "/router/v1/routers", ROUTER)
    assert operation["done"] is False
    await sandbox.json("GET", f"/lro/v1alpha/{operation['name']}")
    done = await sandbox.json("GET", f"/lro/v1alpha/{operation['name']}")
    assert done["response"]["defaultRoute"]["variants"][1]["weight"] == 70
    assert (await sandbox.json("GET", "/router/v1/routers/quick"))["displayName"] == "Quick"
    chat = {"model": "inworld/quick", "messages": [{"role": "user", "content": "x"}]}
    assert (await sandbox.json("POST", "/v1/chat/completions", chat))["model"] == "openai/large"


async def test_a_router_is_changed_listed_and_deleted(sandbox: Running) -> None:
    await sandbox.json("POST", "/router/v1/routers", ROUTER)
    change = {"display_name": "Renamed", "default_route": {}}
    await sandbox.json("PATCH", "/router/v1/routers/quick?update_mask=displayName", change)
    router = (await sandbox.json("GET", "/router/v1/routers?page_size=10"))["routers"][0]
    assert (router["displayName"], len(router["defaultRoute"]["variants"])) == ("Renamed", 2)
    assert await sandbox.json("DELETE", "/router/v1/routers/quick") == {}
    assert (await sandbox.ask("GET", "/router/v1/routers/quick")).status == 404
    assert (await sandbox.ask("DELETE", "/router/v1/routers/quick")).status == 404


async def test_a_router_is_refused_for_its_name_its_weights_or_being_there_already(sandbox: Running) -> None:
    await sandbox.json("POST", "/router/v1/routers", ROUTER)
    assert (await sandbox.ask("POST", "/router/v1/routers", json=ROUTER)).status == 409
    assert (await sandbox.ask("POST", "/router/v1/routers", json=ROUTER | {"name": "No Spaces"})).status == 400
    light = {"name": "light", "default_route": {"variants": [{"weight": 99}]}}
    assert (await sandbox.ask("POST", "/router/v1/routers", json=light)).status == 400

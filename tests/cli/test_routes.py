"""``inworld-proxy routes`` lists the catalogue, and with a configuration what serves each operation and for whom."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.catalogue.load import load_built_in
from proxy.cli.routes import command
from proxy.cli.table import align

Routes = Callable[..., Result]
CONFIG = """
upstreams:
  inworld: {}
  europe: {url: "https://api.eu.example.com"}
credentials:
  workspace: {kind: api-key, secret: env:SOME_KEY, permissions: {voices: read, router: none}}
  live: {kind: session-token, secret: env:OTHER_KEY, type: realtime-only}
routes:
  - {operations: "realtime.*", credential: live, upstream: inworld}
  - {operations: "stt.*", credential: workspace, upstream: europe}
  - {operations: ["tts.*", "voices.*"], credential: workspace, upstream: inworld}
callers:
  storefront: {token: "sha256:%s", allow: ["tts.*", "proxy.token"]}
  studio: {token: "sha256:%s", allow: "*"}
tokens: {realtime: {}}
""" % ("7" * 64, "8" * 64)  # noqa: UP031 - braces are YAML's here


@pytest.fixture
def routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Routes:
    monkeypatch.delenv("INWORLD_API_KEY", raising=False)

    def run(*words: str, config: str | None = None) -> Result:
        if config is not None:
            (tmp_path / "proxy.yaml").write_text(config)
            words = (*words, "--config", str(tmp_path / "proxy.yaml"))
        return CliRunner().invoke(command, list(words))

    return run


def names(result: Result) -> list[str]:
    return [line.split()[0] for line in result.stdout.splitlines()[1:]]


def row(result: Result, name: str) -> list[str]:
    """The cells of an operation."""
    (line,) = [line for line in result.stdout.splitlines() if line.startswith(f"{name} ")]
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_the_whole_catalogue_is_listed_in_its_order(routes: Routes) -> None:
    result = routes()
    assert result.exit_code == 0
    assert names(result) == [each.name for each in load_built_in("inworld").operations]
    assert result.stdout.splitlines()[0].split() == ["OPERATION", "METHODS", "PATH", "KIND", "NEEDS"]
    assert row(result, "voices.list") == ["voices.list", "GET, HEAD", "/voices/v1/voices", "http", "voices read"]
    assert row(result, "router.create")[-1] == "router write"
    assert row(result, "tts.synthesize_ws")[-2:] == ["websocket", "-"]
    assert row(result, "realtime.calls")[-1] == "realtime"
    assert row(result, "auth.create_one_time_token")[-1] == "mint"


def test_columns_stand_under_their_headings(routes: Routes) -> None:
    first, *others = routes("models", "operations").stdout.splitlines()
    for heading in ("METHODS", "PATH", "KIND"):
        place = first.index(heading)
        assert all(line[place - 1] == " " and line[place] != " " for line in others)


@pytest.mark.parametrize(
    ("filters", "chosen"),
    [
        (["models.list"], ["models.list"]),
        (["stt.*"], ["stt.transcribe", "stt.transcribe_async", "stt.transcribe_ws"]),
        (["stt"], ["stt.transcribe", "stt.transcribe_async", "stt.transcribe_ws"]),
        (["*.get", "delete"], []),
        (["DELETE", "voices"], ["voices.delete", "voices.workspace_delete"]),
        (["patch", "/router/*"], ["router.update"]),
        (["/v1/audio/speech"], ["tts.openai_speech"]),
        (["/voices/v1/voices/mine"], ["voices.get", "voices.update", "voices.delete"]),
        (["models", "operations"], ["operations.get", "models.list"]),
    ],
)
def test_filters_of_one_sort_add_up_and_of_different_sorts_narrow(
    routes: Routes, filters: list[str], chosen: list[str]
) -> None:
    result = routes(*filters)
    assert names(result) == chosen
    assert result.exit_code == (0 if chosen else 1)


def test_no_operation_is_said_on_standard_error(routes: Routes) -> None:
    result = routes("tts.sythesize")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "No operation is tts.sythesize.\n"


def test_a_configuration_adds_the_key_whether_it_may_and_for_whom(routes: Routes) -> None:
    result = routes(config=CONFIG)
    assert result.exit_code == 0
    assert row(result, "tts.synthesize")[-4:] == ["workspace", "inworld", "ok", "storefront, studio"]
    assert row(result, "stt.transcribe")[-3:] == ["europe", "ok", "studio"]
    assert row(result, "voices.clone")[-2:] == ["write_not_permitted", "studio"]
    assert row(result, "models.list")[-4:] == ["-", "-", "no_route", "studio"]
    assert "token_mint_refused" in row(result, "auth.create_one_time_token")
    assert row(result, "realtime.session")[-4] == "live"
    assert row(result, "proxy.token")[-5:] == ["-", "-", "-", "ok", "storefront"]


def test_a_caller_s_verdict_is_that_of_decide(routes: Routes) -> None:
    result = routes("--as", "storefront", config=CONFIG)
    assert "ok" in row(result, "tts.synthesize")
    assert "ok" in row(result, "tts.synthesize_ws")
    assert "ok" in row(result, "proxy.token")
    assert "operation_not_granted" in row(result, "stt.transcribe")
    assert "operation_not_granted" in row(result, "voices.clone")
    audited = routes("stt.transcribe", "--as", "storefront", config=CONFIG + "mode: audit\n")
    assert "ok, audited: operation_not_granted" in row(audited, "stt.transcribe")


def test_what_depends_on_the_method_is_said_for_each(routes: Routes, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "name: own\nurl: https://own.example\nfamilies: {own: {permission: voices, errors: openai}}\n"
        "operations:\n  own.thing: {methods: [GET, POST], path: '/thing/{id}'}\n"
    )
    result = routes(config="upstreams: {own: {catalogue: ./own.yaml}}\n")
    cells = row(result, "own.thing")
    assert cells[-3:] == ["voices read or write", "default", "GET ok, POST write_not_permitted"]
    assert "UPSTREAM" not in result.stdout
    assert "CALLERS" not in result.stdout


def test_json_has_all_of_it(routes: Routes) -> None:
    (told,) = json.loads(routes("voices.list", "--json", config=CONFIG).stdout)
    assert told == {
        "operation": "voices.list",
        "family": "voices",
        "methods": ["GET", "HEAD"],
        "path": "/voices/v1/voices",
        "kind": "http",
        "permission": "voices",
        "needs": "voices read",
        "route": "routes[2]",
        "credential": "workspace",
        "upstream": "inworld",
        "verdict": {"GET": "ok", "HEAD": "ok"},
        "callers": ["studio"],
    }
    (told,) = json.loads(routes("models.list", "--json").stdout)
    assert "verdict" not in told
    assert json.loads(routes("nothing", "--json").stdout) == []


@pytest.mark.parametrize(
    ("words", "config", "says"),
    [
        (["--as", "studio"], None, "say which with --config"),
        (["--as", "studo"], CONFIG, "Did you mean studio?"),
        (["--as", "studio"], "mode: enforce\n", "No callers are declared"),
        ([], "lisen: 1\n", "write `listen`"),
    ],
)
def test_a_fault_of_the_command_line_or_the_configuration_is_status_2(
    routes: Routes, words: list[str], config: str | None, says: str
) -> None:
    result = routes(*words, config=config)
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_narrow_terminal_cuts_the_longest_columns_and_never_a_name() -> None:
    rows = [["NAME", "PATH", "CALLERS"], ["tts.synthesize", "/" + "p" * 60, "c" * 40], ["a.b", "/x", "-"]]
    wide = align(rows, width=None, cut=[1, 2])
    assert wide[1] == "  ".join(rows[1])
    fitting = align(rows, width=100, cut=[1, 2])
    assert len(fitting[1]) == 100
    assert fitting[1].startswith("tts.synthesize  /ppp")
    assert fitting[1].endswith("…  " + "c" * 40)
    narrow = align(rows, width=20, cut=[1, 2])
    assert narrow[1].startswith("tts.synthesize  /pppppppppp…  ccccccccccc…")

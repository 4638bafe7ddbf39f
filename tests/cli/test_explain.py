"""``inworld-proxy explain`` says what would be decided, by which rule and with which key, offline and without a key."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.explain import command

Explain = Callable[..., Result]
CONFIG = """
upstreams:
  inworld: {url: "https://api.eu.example.com"}
credentials:
  workspace: {kind: api-key, secret: env:SOME_KEY, permissions: {voices: write, router: none}}
  live: {kind: api-key, secret: env:OTHER_KEY, type: realtime-only}
routes:
  - {operations: "realtime.*", credential: live}
  - {operations: ["tts.*", "voices.*"], credential: workspace}
callers:
  storefront: {token: "sha256:%s", allow: ["tts.*", "realtime.*"]}
  studio: {token: "sha256:%s", allow: "*"}
""" % ("7" * 64, "8" * 64)  # noqa: UP031 - braces are YAML's here


@pytest.fixture
def explain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Explain:
    monkeypatch.delenv("INWORLD_API_KEY", raising=False)

    def run(*words: str, config: str | None = None) -> Result:
        if config is not None:
            (tmp_path / "proxy.yaml").write_text(config)
            words = (*words, "--config", str(tmp_path / "proxy.yaml"))
        return CliRunner().invoke(command, list(words))

    return run


def lines(result: Result) -> dict[str, str]:
    """The facts by their first word; what has no such word (the decision and its sentence) is left out."""
    pairs = (line.partition("  ") for line in result.stdout.splitlines() if line[:1].isalpha() and "  " in line)
    return {first: rest.strip() for first, _, rest in pairs}


def test_without_configuration_and_without_a_key_the_defaults_are_explained(explain: Explain) -> None:
    result = explain("GET", "/voices/v1/voices?pageSize=5&token=x")
    assert result.exit_code == 0
    assert result.stdout.startswith("allowed\n")
    said = lines(result)
    assert said["caller"] == "anonymous"
    assert said["operation"] == "voices.list: GET, HEAD /voices/v1/voices (family voices)"
    assert said["needs"] == "voices read"
    assert said["upstream"] == "inworld, https://api.inworld.ai"
    assert said["credential"] == "default, a standard key with voices read, router read"
    assert said["sends"] == "GET /voices/v1/voices?pageSize=5 to api.inworld.ai"
    assert "voices read and router read" in said["note"]


def test_a_refusal_says_its_code_status_and_sentence_and_the_rule(explain: Explain) -> None:
    result = explain("POST", "/voices/v1/voices:clone")
    assert result.exit_code == 1
    first, sentence = result.stdout.splitlines()[:2]
    assert first == "refused: write_not_permitted (403)"
    assert "needs write permission on the Voice API, and the key 'default'" in sentence
    said = lines(result)
    assert said["operation"] == "voices.clone: POST /voices/v1/voices:clone (family voices)"
    assert said["needs"] == "voices write"
    assert said["route"] == "default"
    assert "sends" not in said


def test_a_websocket_is_explained_as_its_client_would_ask_for_it(explain: Explain) -> None:
    result = explain("GET", "/api/v1/realtime/session?key=session-1&protocol=realtime")
    assert result.exit_code == 0
    target = "/api/v1/realtime/session?key=session-1&protocol=realtime"
    assert lines(result)["sends"] == f"GET {target} to api.inworld.ai, as a WebSocket handshake"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("POST", "/auth/v1/tokens", "token_mint_refused (403)"),
        ("GET", "/v1/models", "no_operation (404)"),
        ("PUT", "/voices/v1/voices/v", "method_not_allowed (405)"),
        ("TRACE", "/voices/v1/voices/v", "method_not_allowed (405)"),
        ("post", "/tts/v1/voice", "method_not_allowed (405)"),
        ("POST", "/voices/v1/voices%3Aclone", "ambiguous_target (400)"),
        ("POST", "https://api.inworld.ai/tts/v1/voice", "ambiguous_target (400)"),
        ("POST", "", "ambiguous_target (400)"),
    ],
)
def test_what_no_key_may_do_is_explained_too(explain: Explain, method: str, path: str, code: str) -> None:
    result = explain(method, path)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == f"refused: {code}"


def test_the_operations_that_may_have_been_meant_are_named(explain: Explain) -> None:
    here = explain("PUT", "/router/v1/routers").stdout
    assert "instead     GET, HEAD /router/v1/routers is router.list" in here
    assert "instead     POST /router/v1/routers is router.create" in here
    assert "/voices/v1/voices:clone is voices.clone" in explain("POST", "/voices/v1/voice:clone").stdout
    assert "\ninstead " not in explain("POST", "/auth/v1/tokens").stdout


def test_each_caller_has_its_own_answer_and_each_operation_its_own_key(explain: Explain) -> None:
    clone = ("POST", "/voices/v1/voices:clone")
    refused = explain(*clone, "--as", "storefront", config=CONFIG)
    assert refused.exit_code == 1
    assert "operation_not_granted" in refused.stdout
    assert "callers.storefront.allow" in refused.stdout
    allowed = explain(*clone, "--as", "studio", config=CONFIG)
    assert allowed.exit_code == 0
    said = lines(allowed)
    assert (said["caller"], said["route"]) == ("studio", "routes[1]")
    assert said["credential"] == "workspace, a standard key with voices write, router none"
    assert said["sends"] == "POST /voices/v1/voices:clone to api.eu.example.com"
    realtime = explain("POST", "/v1/realtime/calls", "--as", "storefront", config=CONFIG)
    assert lines(realtime)["credential"] == "live, a realtime-only key"
    assert "note" not in lines(realtime)


def test_an_operation_without_a_route_is_said_to_have_none(explain: Explain) -> None:
    result = explain("POST", "/v1/chat/completions", "--as", "studio", config=CONFIG)
    assert result.exit_code == 1
    assert result.stdout.startswith("refused: no_route (404)")
    assert "credential" not in lines(result)


def test_audit_mode_says_what_enforce_would_refuse(explain: Explain) -> None:
    result = explain("POST", "/voices/v1/voices:clone", "--as", "storefront", config=f"mode: audit\n{CONFIG}")
    assert result.exit_code == 0
    assert "enforce would refuse it with operation_not_granted" in result.stdout


def test_with_callers_declared_one_has_to_be_named(explain: Explain) -> None:
    result = explain("POST", "/tts/v1/voice", config=CONFIG)
    assert result.exit_code == 2
    assert "--as: storefront, studio." in result.stderr


def test_an_unknown_caller_is_answered_with_the_nearest_name(explain: Explain) -> None:
    result = explain("POST", "/tts/v1/voice", "--as", "storfront", config=CONFIG)
    assert result.exit_code == 2
    assert "Did you mean storefront?" in result.stderr
    far = explain("POST", "/tts/v1/voice", "--as", "zzz", config=CONFIG)
    assert "There are storefront, studio." in far.stderr


def test_a_caller_named_where_none_is_declared_is_a_fault(explain: Explain) -> None:
    result = explain("POST", "/tts/v1/voice", "--as", "storefront")
    assert result.exit_code == 2
    assert "leave out --as" in result.stderr


def test_faults_of_the_configuration_are_printed_and_end_it_with_2(explain: Explain, tmp_path: Path) -> None:
    for text in ("mode: audits\n", "credentials: [", "callers: 7\n"):
        result = explain("POST", "/tts/v1/voice", config=text)
        assert result.exit_code == 2
        assert "proxy.yaml:1" in result.stderr
        assert result.stdout == ""
    missing = explain("POST", "/tts/v1/voice", "--config", str(tmp_path / "none.yaml"))
    assert missing.exit_code == 2
    assert "does not exist" in missing.stderr


def test_no_key_is_needed_read_or_shown(explain: Explain, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("s3cr3t that is no key at all", "a2V5OnMzY3IzdA=="):
        for name in ("INWORLD_API_KEY", "SOME_KEY", "OTHER_KEY"):
            monkeypatch.setenv(name, key)
        for result in (
            explain("POST", "/tts/v1/voice"),
            explain("POST", "/tts/v1/voice", "--as", "studio", config=CONFIG),
            explain("POST", "/tts/v1/voice", "--as", "studio", "--json", config=CONFIG),
        ):
            assert result.exit_code == 0
            assert key not in result.output
            assert "Basic" not in result.output


def test_json_has_the_same_facts(explain: Explain) -> None:
    allowed = explain("POST", "/voices/v1/voices:clone", "--as", "studio", "--json", config=CONFIG)
    assert allowed.exit_code == 0
    assert json.loads(allowed.stdout) == {
        "decision": "allow",
        "code": None,
        "status": None,
        "message": None,
        "caller": "studio",
        "operation": {
            "name": "voices.clone",
            "family": "voices",
            "methods": ["POST"],
            "path": "/voices/v1/voices:clone",
            "kind": "http",
            "permission": "voices",
        },
        "needs": "voices write",
        "route": {
            "name": "routes[1]",
            "upstream": {"name": "inworld", "url": "https://api.eu.example.com"},
            "credential": {
                "name": "workspace",
                "kind": "api-key",
                "type": "standard",
                "voices": "write",
                "router": "none",
                "has": "a standard key with voices write, router none",
            },
        },
        "sends": {
            "method": "POST",
            "target": "/voices/v1/voices:clone",
            "host": "api.eu.example.com",
            "websocket": False,
        },
        "audited": None,
        "instead": None,
        "notes": [],
    }
    denied = json.loads(explain("GET", "/v1/models", "--json").stdout)
    assert (denied["decision"], denied["code"], denied["status"]) == ("deny", "no_operation", 404)
    assert denied["operation"] is denied["route"] is denied["sends"] is None
    audited = explain(
        "POST", "/voices/v1/voices:clone", "--as", "storefront", "--json", config=f"mode: audit\n{CONFIG}"
    )
    assert json.loads(audited.stdout)["audited"]["code"] == "operation_not_granted"


def test_a_method_or_a_path_that_is_left_out_is_a_usage_fault(explain: Explain) -> None:
    assert explain("POST").exit_code == 2
    assert explain().exit_code == 2


def test_a_token_is_handed_out_by_the_proxy_itself(explain: Explain) -> None:
    config = CONFIG.replace("live: {kind: api-key", "live: {kind: session-token") + "tokens: {realtime: {}}\n"
    config = config.replace('"realtime.*"]}', '"realtime.*", "proxy.token"]}')
    result = explain("POST", "/token", "--as", "storefront", config=config)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("allowed\n")
    said = lines(result)
    assert said["operation"] == "proxy.token: POST /token (family proxy)"
    assert said["needs"] == "no key of the caller's: it is minted from the key of `tokens`"
    assert said["sends"] == "nothing: answered by the proxy itself"
    assert not {"route", "upstream", "credential"} & set(said)
    refused = explain("POST", "/token", "--as", "storefront", config=config.replace(', "proxy.token"', ""))
    assert (refused.exit_code, refused.stdout.splitlines()[0]) == (1, "refused: operation_not_granted (403)")
    assert "sends" not in lines(refused)


# -- callers known by user --------------------------------------------------------------------------------------------

USERS = f"listen: unix:/run/inworld-proxy/proxy.sock\n{CONFIG}  batch: {{uid: 4001, allow: 'voices.list'}}\n"


def test_a_user_is_explained_by_the_code_that_recognises_it(explain: Explain) -> None:
    result = explain("GET", "/voices/v1/voices", "--uid", "4001", config=USERS)
    assert result.exit_code == 0
    assert lines(result)["caller"] == "batch"
    refused = explain("POST", "/tts/v1/voice", "--uid", "4001", config=USERS)
    assert refused.exit_code == 1
    assert "operation_not_granted" in refused.stdout
    by_name = explain("GET", "/voices/v1/voices", "--uid", "root", config=USERS.replace("4001", "0"))
    assert lines(by_name)["caller"] == "batch"


def test_a_user_who_is_no_caller_is_explained_as_nobody(explain: Explain) -> None:
    result = explain("GET", "/voices/v1/voices", "--uid", "4002", config=USERS)
    assert result.exit_code == 1
    assert result.stdout.startswith("refused: caller_required (401)")
    assert "The user who connected, 4002, is none of them" in result.stdout
    assert lines(result)["caller"] == "nobody that is known"
    as_json = json.loads(explain("GET", "/voices/v1/voices", "--uid", "4002", "--json", config=USERS).stdout)
    assert as_json["caller"] is as_json["route"] is None


@pytest.mark.parametrize(
    ("words", "config", "says"),
    [
        (("--uid", "4001", "--as", "batch"), USERS, "not both"),
        (("--uid", "4001"), None, "leave out --uid"),
        (("--uid", "nobody-knows-this-one"), USERS, "no user nobody-knows-this-one"),
        (("--uid", "-1"), USERS, "number of a user"),
        (("--uid", "²"), USERS, "number of a user"),
    ],
)
def test_a_user_that_cannot_be_asked_about_is_a_usage_fault(
    explain: Explain, words: tuple[str, ...], config: str | None, says: str
) -> None:
    result = explain("GET", "/voices/v1/voices", *words, config=config)
    assert result.exit_code == 2
    assert says in result.stderr

"""``inworld-proxy suggest``: what callers did becomes the rules that let through exactly that."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socketserver
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from proxy.catalogue.load import load_built_in
from proxy.cli.explain import make_head
from proxy.cli.suggest import command
from proxy.cli.suggest_cover import grantable
from proxy.cli.suggest_kept import kept_of
from proxy.cli.suggest_seen import AFTER_DECISION
from proxy.core.errors import Code
from proxy.core.model import Allow, Local, Snapshot
from proxy.core.policy import decide
from proxy.observe.families import registry_of
from proxy.observe.metrics import Metrics
from proxy.settings.load import SettingsError, load_settings
from tests.cli.test_serve import serving

KEY = base64.b64encode(b"id:secret").decode()
ENVIRON = {"INWORLD_API_KEY": KEY}
BUILT_IN = {each.name: each for each in load_built_in("inworld").operations}
Suggest = Callable[..., Result]

TOP = """
listen: 127.0.0.1:0
credentials:
  workspace: {kind: api-key, secret: "env:INWORLD_API_KEY", permissions: {voices: write, router: write}}
"""
CALLERS = """\
callers:
  storefront:  # the shop
    token:
      - sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08    # the one of May
      # the next
      - sha256:4a0b6d9d1c3f5e7a8b2c4d6e8f0a1b3c5d7e9f1a2b4c6d8e0f2a3b5c7d9e1f30
    allow: ["tts.*", "llm.*"]
    limits: {requests: 50/s, concurrent: 20}  # enough
  studio:
    allow:
    - voices.*
    jwt:
      jwks: https://id.example.com/keys
      issuer: https://id.example.com
      audience: inworld-proxy
      claims: {team: review,
               role: [a, b]}
  batch: {token: "sha256:3d5c7b9a1f2e4d6c8b0a2f3e5d7c9b1a3f4e6d8c0b2a4f5e7d9c1b3a5f6e8da0", allow: [stt.*],
    limits: {requests: 5/s}}
"""


def line(operation: str | None = "tts.synthesize", caller: str | None = "storefront", **more: object) -> str:
    fields: dict[str, object] = {
        "time": "2026-05-28T20:26:40.123Z",
        "method": "POST",
        "path": "/tts/v1/voice",
        "operation": operation,
        "caller": caller,
        "status": 200,
        "ending": "answered",
        "duration_ms": 1.5,
        "request_bytes": 1,
        "response_bytes": 1,
        "peer": "127.0.0.1",
        **more,
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None}) + "\n"


def refused(code: str, operation: str | None, caller: str | None = "storefront", **more: object) -> str:
    return line(operation, caller, status=403, ending="refused", code=code, **more)


@pytest.fixture
def suggest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suggest:
    monkeypatch.delenv("INWORLD_API_KEY", raising=False)

    def run(*words: str, log: str = "", config: str | None = None) -> Result:
        if config is not None:
            (tmp_path / "proxy.yaml").write_text(config)
            words = (*words, "--config", str(tmp_path / "proxy.yaml"))
        return CliRunner().invoke(command, ["-", *words] if log else [*words], input=log)

    return run


def allowed(text: str) -> dict[str, list[str]]:
    return {name: caller["allow"] for name, caller in yaml.safe_load(text)["callers"].items()}


def load(text: str) -> Snapshot:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "proxy.yaml").write_text(text)
        return load_settings(Path(folder) / "proxy.yaml", ENVIRON)


def let_through(snapshot: Snapshot, name: str) -> set[str]:
    """The operations that ``decide()`` allows this caller, each asked for as its client would."""
    found = set()
    for operation in snapshot.policy.operations.values():
        for method in operation.methods:
            path = operation.template.replace("{", "").replace("}", "").replace("=**", "")
            head = make_head(snapshot.policy, method, path)
            decision = decide(snapshot.policy, head, time.time(), caller=snapshot.callers[name])
            if isinstance(decision, Allow | Local):
                assert decision.operation is operation
                found.add(operation.name)
    return found


# -- from a log -------------------------------------------------------------------------------------------------------


def test_what_was_let_through_is_granted_with_counts_and_times(suggest: Suggest) -> None:
    log = line() + line(time="2026-05-29T08:00:00.000Z") + line("models.list", would_refuse="operation_not_granted")
    result = suggest(log=log)
    assert result.exit_code == 0
    assert allowed(result.stdout) == {"storefront": ["tts.synthesize", "models.list"]}
    assert "- tts.synthesize    # 2, 2026-05-28T20:26:40Z to 2026-05-29T08:00:00Z\n" in result.stdout
    assert "- models.list    # 1, 1 would_refuse, 2026-05-28T20:26:40Z\n" in result.stdout
    assert "# 1 of them were let through by `mode: audit` alone" in result.stdout
    assert result.stderr == ""


def test_a_family_that_was_seen_whole_is_one_line_with_its_operations_below(suggest: Suggest) -> None:
    log = "".join(line(name) for name in BUILT_IN if name.startswith("stt."))
    result = suggest(log=log)
    assert allowed(result.stdout) == {"storefront": ["stt.*"]}
    assert "    # stt.transcribe_ws     1, " in result.stdout
    named = allowed(suggest("--exact", log=log).stdout)
    assert named == {"storefront": ["stt.transcribe", "stt.transcribe_async", "stt.transcribe_ws"]}


@pytest.mark.parametrize(
    "code", ["write_not_permitted", "token_mint_refused", "operation_not_granted", "a_code_of_tomorrow", "bad_request"]
)
def test_what_was_refused_is_a_comment_and_no_grant(suggest: Suggest, code: str) -> None:
    result = suggest(log=line() + refused(code, "voices.clone") * 3)
    assert allowed(result.stdout) == {"storefront": ["tts.synthesize"]}
    assert f"#         3  {code:<24}  storefront  voices.clone\n" in result.stdout


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("rate_limited", "refused"),
        ("upstream_connect_failed", "failed"),
        ("body_timeout", "refused"),
        ("tunnel_stalled", "aborted"),
        (None, "caller_gone"),
    ],
)
def test_what_was_allowed_and_came_to_nothing_is_granted(suggest: Suggest, code: str | None, ending: str) -> None:
    result = suggest(log=line("stt.transcribe", status=503, ending=ending, code=code))
    assert allowed(result.stdout) == {"storefront": ["stt.transcribe"]}


def test_no_code_with_which_a_decision_refuses_counts_as_let_through() -> None:
    core = Path(__file__).parents[2] / "proxy" / "core"
    deciding = "".join((core / f"{name}.py").read_text() for name in ("policy", "recognition", "browser", "cors"))
    said = {Code[name].value for name in re.findall(r"\bCode\.([A-Z_]+)", deciding)}
    assert len(said) > 15
    assert not said & AFTER_DECISION


def test_unknown_callers_and_unknown_operations_are_comments(suggest: Suggest) -> None:
    log = (
        line()
        + refused("unknown_caller", None, None, path="/v1/messages")
        + refused("no_operation", None, path="/v2/new", method="PUT")
    )
    result = suggest(log=log)
    assert "1  unknown_caller            -  POST /v1/messages\n" in result.stdout
    assert "1  no_operation              storefront  PUT /v2/new\n" in result.stdout


def test_a_path_cannot_write_a_line_of_the_block(suggest: Suggest) -> None:
    log = line() + refused("no_operation", None, path='/x\ncallers: {evil: {allow: "*"}}\u2028\x1b[2J')
    result = suggest(log=log)
    assert allowed(result.stdout) == {"storefront": ["tts.synthesize"]}
    assert "/x?callers:?{evil:" in result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(("operation", "caller"), [("*", "storefront"), ("tts.synthesize", "x: {}\n"), ("auth.x", "a")])
def test_a_forged_line_grants_nothing(suggest: Suggest, operation: str, caller: str) -> None:
    result = suggest(log=line(operation, caller))
    assert result.exit_code == 1
    assert "callers:" not in result.stdout


def test_a_mint_that_a_log_says_was_let_through_is_not_granted(suggest: Suggest) -> None:
    result = suggest(log=line() + line("auth.create_one_time_token"))
    assert allowed(result.stdout) == {"storefront": ["tts.synthesize"]}
    assert "auth.create_one_time_token of storefront\n" in result.stdout


def test_many_different_refusals_are_summed_up(suggest: Suggest) -> None:
    log = line() + "".join(refused("no_operation", None, path=f"/scan/{number}") for number in range(3000))
    result = suggest(log=log)
    assert result.stdout.count("/scan/") == 39
    assert "1000  no_operation              storefront  other paths\n" in result.stdout
    assert "1961  in 1961 more such lines\n" in result.stdout


def test_lines_that_are_not_ours_are_counted_and_passed_over(suggest: Suggest) -> None:
    log = 'not json\n{"time": 1, "path": "/"}\n[]\n\n' + "proxy-1  | " + line()
    result = suggest(log=log)
    assert allowed(result.stdout) == {"storefront": ["tts.synthesize"]}
    assert result.stderr == "3 lines skipped: not JSON, or no request of this proxy.\n"


def test_a_log_for_people_is_told_apart(suggest: Suggest) -> None:
    result = suggest(log="20:26:40 200 POST /tts/v1/voice tts.synthesize storefront 3.1 ms 24 B\n")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == ("1 line skipped: written for people. Set `log.format: json`.\nNo request was seen.\n")


@pytest.mark.parametrize(
    ("text", "lacking"),
    [
        (line(caller=None), "caller"),
        (line(operation=None), "operation"),
        (line(status=403, ending="refused"), "code"),
        (line(status=500, ending=None), "ending"),
    ],
)
def test_a_field_that_the_log_omits_is_named(suggest: Suggest, text: str, lacking: str) -> None:
    result = suggest(log=text)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"1 line skipped: without `{lacking}`. Take it out of `log.omit`.\n")


def test_fields_that_rules_do_not_need_may_be_omitted(suggest: Suggest) -> None:
    result = suggest(log=line(time=None, peer=None, ending=None))
    assert "- tts.synthesize    # 1\n" in result.stdout
    assert result.stderr == ""


def test_a_preflight_is_nobody_s_request(suggest: Suggest) -> None:
    preflight = line(operation=None, caller=None, method="OPTIONS", status=204)
    assert suggest(log=line() + preflight).stderr == ""


def test_only_refusals_are_listed_and_the_exit_status_is_1(suggest: Suggest) -> None:
    result = suggest(log=refused("operation_not_granted", "tts.synthesize"))
    assert result.exit_code == 1
    assert yaml.safe_load(result.stdout) is None
    assert "operation_not_granted" in result.stdout
    assert "Nothing was let through, only refused" in result.stderr


def test_several_files_are_read(suggest: Suggest, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(line())
    result = suggest(str(tmp_path / "one"), str(tmp_path / "two"))
    assert "# What 2 requests needed" in result.stdout


# -- without a configuration, and with one ----------------------------------------------------------------------------


def test_without_a_configuration_the_block_opens_nothing(suggest: Suggest) -> None:
    result = suggest(log=line())
    with pytest.raises(SettingsError) as caught:
        load(TOP + result.stdout)
    (fault,) = caught.value.faults
    assert fault.path == "callers.storefront.token"
    assert "`inworld-proxy token` makes one" in fault.remedy


def test_everyone_becomes_one_caller_whose_name_is_to_be_chosen(suggest: Suggest) -> None:
    for config in (None, TOP):
        result = suggest(log=line(caller="anonymous"), config=config)
        assert allowed(result.stdout) == {"choose-a-name": ["tts.synthesize"]}
        assert "of everyone: no callers were declared" in result.stdout


def test_what_the_configuration_says_of_each_caller_stays_as_it_is_written(suggest: Suggest) -> None:
    log = line() + line("voices.list", "studio") + line("stt.transcribe", "batch")
    result = suggest(log=log, config=TOP + CALLERS)
    block = result.stdout
    assert "# the one of May\n      # the next\n      - sha256:4a0b" in block
    assert "    limits: {requests: 50/s, concurrent: 20}  # enough\n" in block
    before, after = yaml.safe_load(CALLERS)["callers"], yaml.safe_load(block)["callers"]
    assert [*after] == [*before]
    for name in before:
        assert {**after[name], "allow": 0} == {**before[name], "allow": 0}
    assert load(TOP + block).callers["storefront"].limits == load(TOP + CALLERS).callers["storefront"].limits


def test_an_alias_of_yaml_is_written_out() -> None:
    text = "callers:\n  a:\n    allow: x\n    limits: &l {requests: 1/s}\n  b: {limits: *l, allow: [y]}\n"
    assert kept_of(text)["a"]["limits"] == "    limits: &l {requests: 1/s}"
    assert kept_of(text)["b"] == {"limits": '    limits: {"requests": "1/s"}', "allow": "    allow: [y]"}


def test_callers_that_were_not_seen_or_are_not_declared_are_comments(suggest: Suggest) -> None:
    result = suggest(log=line() + line("stt.transcribe", "gone"), config=TOP + CALLERS)
    assert allowed(result.stdout) == {"storefront": ["tts.synthesize"]}
    left_out = "nothing seen that can be granted, so it is left out, and its requests will be refused."
    assert f"\n# batch: {left_out}\n# To keep it as it was:\n#  batch:\n" in result.stdout
    assert (
        "# gone: 1 request, and no such caller in the configuration. It would need:\n#     allow: [stt.transcribe]\n"
        in (result.stdout)
    )
    kept = result.stdout.partition("\n#  studio:\n")[2].partition("\n\n")[0]
    studio = yaml.safe_load("\n".join(text.removeprefix("#") for text in kept.splitlines()))
    assert studio == yaml.safe_load(CALLERS)["callers"]["studio"]


def test_operations_of_other_catalogues_need_the_configuration(suggest: Suggest, tmp_path: Path) -> None:
    result = suggest(log=line() + line("own.thing"))
    assert "no operation of the built-in catalogue (--config names another) that can be granted:" in result.stdout
    (tmp_path / "own.yaml").write_text(
        "name: own\nurl: https://own.example\nfamilies: {own: {permission: none, errors: openai}}\n"
        "operations:\n  own.thing: {methods: [POST], path: /thing}\n  own.other: {methods: [POST], path: /other}\n"
    )
    config = f"{TOP}upstreams: {{own: {{catalogue: ./own.yaml}}}}\n{CALLERS}".replace('"tts.*", "llm.*"', '"*"')
    config = config.replace("voices.*", "own.*").replace("stt.*", "own.*")
    assert allowed(suggest(log=line("own.thing"), config=config).stdout) == {"storefront": ["own.thing"]}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_enforced_the_block_lets_through_exactly_what_was_seen(data: st.DataObject) -> None:
    some = st.sets(st.sampled_from(sorted(grantable(BUILT_IN))), min_size=1)
    families = st.sets(st.sampled_from(sorted({each.family for each in BUILT_IN.values()} - {"auth"})))
    seen: dict[str, set[str]] = {}
    for name in ("storefront", "studio", "batch"):
        whole = data.draw(families)
        seen[name] = data.draw(some) | {each.name for each in BUILT_IN.values() if each.family in whole}
    log = "".join(line(operation, name) for name, names in seen.items() for operation in sorted(names))
    log += refused("write_not_permitted", "voices.clone") + refused("operation_not_granted", "tts.synthesize", "batch")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "proxy.yaml"
        file.write_text(TOP + CALLERS)
        result = CliRunner().invoke(command, ["-", "--config", str(file)], input=log)
    assert result.exit_code == 0
    snapshot = load(TOP + result.stdout)
    assert {name: let_through(snapshot, name) for name in seen} == seen


# -- from a process that runs -----------------------------------------------------------------------------------------


class _Unix(socketserver.ThreadingUnixStreamServer):
    def get_request(self) -> tuple[Any, Any]:
        return super().get_request()[0], ("unix", 0)


@contextmanager
def answering(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def page(text: bytes, status: int = 200) -> type[BaseHTTPRequestHandler]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments: object) -> None:
            """Nothing of it is wanted."""

    return Page


def test_a_process_that_runs_and_its_log_say_the_same(suggest: Suggest, tmp_path: Path) -> None:
    config = (
        f"{TOP}mode: audit\nupstreams: {{inworld: {{url: 'http://127.0.0.1:1'}}}}\nlog: {{format: json}}\n{CALLERS}"
    )
    (tmp_path / "proxy.yaml").write_text(config)
    asked = ["/tts/v1/voices", "/llm/v1alpha/models", "/llm/v1alpha/models", "/nowhere", "/auth/v1/tokens"]
    with serving("--config", str(tmp_path / "proxy.yaml"), environ=ENVIRON) as (process, data, admin):
        connection = http.client.HTTPConnection(data, timeout=100)
        for path in asked:
            connection.request("POST" if "auth" in path else "GET", path, headers={"Authorization": "Bearer test"})
            connection.getresponse().read()
        connection.close()
        live = suggest("--live", f"http://{admin}", config=config)
        assert process.stdout is not None
        log = "".join(process.stdout.readline() for _ in asked)
    assert live.exit_code == 0, live.output
    assert allowed(live.stdout) == {"storefront": ["tts.list_voices_legacy", "models.list"]}
    assert "- models.list    # 2, 2 would_refuse\n" in live.stdout
    assert "Note: counted since the process started, 20" in live.stdout
    assert allowed(suggest(log=log, config=config).stdout) == allowed(live.stdout)
    for text in (live.stdout, suggest(log=log).stdout):
        assert "1  token_mint_refused        storefront  auth.create_one_time_token\n" in text
        assert "1  no_operation              storefront  " in text


def test_an_admin_socket_is_asked_and_open_websockets_are_said(suggest: Suggest, tmp_path: Path) -> None:
    snapshot = load(TOP + CALLERS)
    metrics = Metrics(lambda: snapshot)
    metrics.on_tunnel("realtime.session", 2)
    server = _Unix(str(tmp_path / "admin.sock"), page(generate_latest(registry_of(metrics))))
    with answering(server):
        result = suggest("--live", f"unix:{tmp_path}/admin.sock")
    assert result.exit_code == 1
    assert "No request was seen." in result.stderr
    assert "2 WebSockets of realtime.session are open now" in result.output


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        (b"up 1\n", 200, "is no inworld-proxy"),
        (b"inworld_proxy_requests_total{ 1\n", 200, "cannot be read"),
        (b"", 401, "answers 401"),
    ],
)
def test_what_is_no_admin_address_is_said(suggest: Suggest, text: bytes, status: int, says: str) -> None:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), page(text, status))
    with answering(server):
        result = suggest("--live", f"127.0.0.1:{server.server_address[1]}")
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://[::1", "unix:/does/not/exist", "http://127.0.0.1:1"])
def test_an_address_that_cannot_be_asked_is_a_usage_error(suggest: Suggest, url: str) -> None:
    result = suggest("--live", url)
    assert result.exit_code == 2
    assert "--live: " in result.stderr


@pytest.mark.parametrize("words", [[], ["-", "--live"], ["absent.log"]])
def test_a_command_line_that_names_no_source_or_two_is_a_usage_error(words: list[str]) -> None:
    assert CliRunner().invoke(command, words).exit_code == 2


def test_a_configuration_with_a_fault_is_said_as_check_says_it(suggest: Suggest) -> None:
    result = suggest(log=line(), config="lisen: 1\n")
    assert result.exit_code == 2
    assert "write `listen`" in result.stderr

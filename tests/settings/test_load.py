"""What a configuration means: the Snapshot that comes out of a file, the environment and the command line."""

import base64
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from proxy.core.model import (
    Address,
    CallerLimits,
    KeyPower,
    KeyType,
    Level,
    Limits,
    LogFormat,
    LogLevel,
    LogSettings,
    Mode,
    Presented,
    SharedLimits,
    SizeLimits,
    Snapshot,
    TimeLimits,
)
from proxy.document import Fault
from proxy.settings.load import Overrides, SettingsError, load_settings

Load = Callable[..., Snapshot]
FaultsOf = Callable[..., tuple[Fault, ...]]

KEY = base64.b64encode(b"keyId:s3cr3t").decode()
ENVIRON = {"INWORLD_API_KEY": KEY}
ONE = "sha256:" + "1" * 64


def test_the_api_key_in_the_environment_is_enough() -> None:
    snapshot = load_settings(None, ENVIRON)
    assert (str(snapshot.listen), str(snapshot.admin)) == ("127.0.0.1:8080", "127.0.0.1:9464")
    assert snapshot.source == "environment"
    (upstream,) = snapshot.upstreams.values()
    assert (upstream.name, upstream.scheme, upstream.host, upstream.port) == ("inworld", "https", "api.inworld.ai", 443)
    assert upstream.authority == "api.inworld.ai"
    (credential,) = snapshot.credentials.values()
    assert (credential.name, credential.kind) == ("default", "api-key")
    assert credential.power == KeyPower(KeyType.STANDARD, Level.READ, Level.READ)
    assert credential.authorization() == f"Authorization: Basic {KEY}\r\n".encode()
    assert (snapshot.time, snapshot.size, snapshot.log) == (TimeLimits(), SizeLimits(), LogSettings())


def test_without_callers_everyone_is_anonymous_and_granted_everything() -> None:
    snapshot = load_settings(None, ENVIRON)
    anonymous = snapshot.policy.anonymous
    assert anonymous is not None
    assert (anonymous.name, anonymous.operations) == ("anonymous", None)
    assert set(anonymous.routes) == set(snapshot.policy.operations)
    assert snapshot.policy.recognisers == ()


def test_without_anything_the_fault_says_what_to_do() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(None, {})
    (fault,) = raised.value.faults
    assert str(fault) == (
        "environment: the environment variable INWORLD_API_KEY is not set; set it to the key that the Portal's Base64 "
        "copy action gives, or name a configuration file with --config"
    )


def test_a_key_in_the_environment_of_the_wrong_form_is_a_fault_with_its_own_remedy() -> None:
    with pytest.raises(SettingsError, match="encode it once"):
        load_settings(None, {"INWORLD_API_KEY": "id:hunter2"})


def test_an_empty_file_is_the_same_as_none(load: Load) -> None:
    snapshot = load("# nothing yet\n")
    assert list(snapshot.credentials) == ["default"]
    assert snapshot.source.endswith("proxy.yaml")


def test_a_missing_file_and_a_file_that_is_no_text_are_faults(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(tmp_path / "none.yaml", ENVIRON)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path, ENVIRON)
    (tmp_path / "proxy.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load_settings(tmp_path / "proxy.yaml", ENVIRON)


COMPLETE = f"""\
listen: 0.0.0.0:8443
admin: "[::1]:9999"
mode: audit
hosts: [proxy.internal, "[fd00::1]"]
origins: ["https://app.example.com"]
upstreams:
  us: {{url: "https://api.inworld.ai", proxy: "http://me:pa%3Ass@egress.corp:3128"}}
  eu: {{url: "https://api.eu.inworld.ai:8443"}}
credentials:
  workspace: {{kind: api-key, secret: env:INWORLD_API_KEY, permissions: {{voices: write, router: none}}}}
  live: {{kind: api-key, secret: env:INWORLD_API_KEY, type: realtime-only}}
routes:
  - {{operations: "realtime.*", credential: live, upstream: eu}}
  - {{operations: [tts.synthesize, "stt.*"], credential: workspace, upstream: eu}}
  - {{operations: "*", credential: workspace, upstream: us}}
callers:
  storefront:
    token: {ONE}
    allow: [tts.*, realtime.session]
time: {{head: 3s, tls: 7s, total: 1h, tunnel_idle: 30m, drain: 5}}
limits: {{connections: 500, connections_per_address: none, in_flight: 90, tunnels: 40, shared: "redis://:pw@r:6379/0",
          shared_failure: closed}}
admin_token: {ONE}
inspector: {{enabled: true, keep: 70}}
size: {{line: 4KiB, head: 16KiB, body: 512MB}}
log: {{format: off, level: refused, omit: [path, peer]}}
"""


def test_everything_that_can_be_said_arrives_in_the_snapshot(load: Load) -> None:
    snapshot = load(COMPLETE)
    assert (snapshot.listen, snapshot.admin) == (Address("0.0.0.0", 8443), Address("::1", 9999))
    policy = snapshot.policy
    assert policy.mode is Mode.AUDIT
    assert policy.hosts == {"127.0.0.1", "[::1]", "localhost", "proxy.internal", "[fd00::1]"}
    assert policy.origins == {"https://app.example.com"}
    assert policy.anonymous is None
    assert snapshot.upstreams["eu"].authority == "api.eu.inworld.ai:8443"
    us = snapshot.upstreams["us"]
    assert us.connect_proxy == ("egress.corp", 3128)
    assert us.connect_proxy_authorization == "Basic " + base64.b64encode(b"me:pa:ss").decode()
    assert snapshot.credentials["workspace"].power == KeyPower(KeyType.STANDARD, Level.WRITE, Level.NONE)
    assert snapshot.credentials["live"].power == KeyPower(KeyType.REALTIME_ONLY, Level.NONE, Level.NONE)
    assert snapshot.time == TimeLimits(head=3, tls=7, total=3600, tunnel_idle=1800, drain=5)
    assert snapshot.limits == Limits(connections=500, in_flight=90, tunnels=40)
    assert snapshot.shared_limits == SharedLimits("redis://:pw@r:6379/0", fail_open=False)
    assert "pw" not in repr(snapshot)
    assert snapshot.admin_token == bytes.fromhex(ONE.removeprefix("sha256:"))
    assert snapshot.inspector == 70
    assert [Path(file).name for file in snapshot.files] == ["proxy.yaml"]
    assert snapshot.size == SizeLimits(line=4096, head=16384, body=512_000_000)
    assert snapshot.log == LogSettings(LogFormat.OFF, LogLevel.REFUSED, frozenset({"path", "peer"}))


@pytest.mark.parametrize(
    ("text", "keeps"),
    [
        ("", 500),
        ("admin: 127.0.0.1:0", 500),
        ("admin: unix:/run/admin.sock", 500),
        ("admin: 0.0.0.0:9464", 0),
        ("admin: 10.1.2.3:9464\ninspector: {keep: 9}", 0),
        ("inspector: {enabled: false}", 0),
        ("inspector: {keep: 9}", 9),
        (f"admin: 0.0.0.0:9464\nadmin_token: {ONE}", 0),
        (f"admin: 0.0.0.0:9464\nadmin_token: {ONE}\ninspector: {{enabled: true}}", 500),
    ],
)
def test_the_inspector_is_on_where_nobody_else_reaches_it_or_where_it_asks_for_a_token(
    load: Load, text: str, keeps: int
) -> None:
    assert load(text + "\nmode: enforce\n").inspector == keeps


def test_the_first_route_that_matches_wins(load: Load) -> None:
    snapshot = load(COMPLETE)
    routes = snapshot.callers["storefront"].routes
    chosen = {name: (routes[name].name, routes[name].credential.name, routes[name].upstream.name) for name in routes}
    assert chosen["realtime.session"] == ("routes[0]", "live", "eu")
    assert chosen["tts.synthesize"] == ("routes[1]", "workspace", "eu")
    assert chosen["tts.synthesize_stream"] == ("routes[2]", "workspace", "us")
    assert chosen["voices.clone"] == ("routes[2]", "workspace", "us")
    assert [route.name for route in snapshot.routes] == ["routes[0]", "routes[1]", "routes[2]"]


def test_an_operation_that_no_route_names_has_none(load: Load) -> None:
    snapshot = load('routes: [{operations: "tts.*", credential: default}]')
    anonymous = snapshot.policy.anonymous
    assert anonymous is not None
    assert {name.partition(".")[0] for name in anonymous.routes} == {"tts"}


def test_a_caller_is_granted_what_its_wildcards_match_and_is_recognised_by_its_token(load: Load) -> None:
    digest = "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"  # of b"content"
    snapshot = load(COMPLETE.replace(ONE, digest))
    caller = snapshot.callers["storefront"]
    assert caller.operations is not None
    assert {name for name in caller.operations if not name.startswith("tts.")} == {"realtime.session"}
    (recognise,) = snapshot.policy.recognisers
    assert recognise(Presented("authorization", b"content"), 0.0) is caller
    assert recognise(Presented("authorization", b"other"), 0.0) is None


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("{requests: 50/s, concurrent: 20, queue: 2s}", CallerLimits(50.0, 20, 2.0)),
        ("{requests: 600/m}", CallerLimits(10.0)),
        ("{concurrent: 1}", CallerLimits(None, 1)),
        ("{concurrent: 1, queue: 500ms}", CallerLimits(None, 1, 0.5)),
    ],
)
def test_a_caller_has_the_limits_that_its_section_says(load: Load, text: str, limits: CallerLimits) -> None:
    callers = load(f"callers:\n  a:\n    token: {ONE}\n    allow: '*'\n    limits: {text}\n").callers
    assert callers["a"].limits == limits


def test_a_caller_without_limits_has_none(load: Load) -> None:
    assert {caller.limits for caller in load(COMPLETE).callers.values()} == {None}


def test_a_realtime_only_key_alone_gets_every_operation_so_that_refusals_name_it(load: Load) -> None:
    snapshot = load("credentials: {live: {kind: api-key, secret: env:INWORLD_API_KEY, type: realtime-only}}")
    anonymous = snapshot.policy.anonymous
    assert anonymous is not None
    assert anonymous.routes["tts.synthesize"].credential.name == "live"
    assert anonymous.routes["tts.synthesize"].name == "default"


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("listen: 127.0.0.1:1", {"127.0.0.1", "[::1]", "localhost"}),
        ("listen: 127.0.0.9:1", {"127.0.0.1", "[::1]", "localhost", "127.0.0.9"}),
        ("listen: '[::1]:1'\nhosts: [dev.test]", {"127.0.0.1", "[::1]", "localhost", "dev.test"}),
        (f"listen: 0.0.0.0:1\ncallers: {{a: {{token: '{ONE}', allow: '*'}}}}", None),
        (
            f"listen: '[fd00::7]:1'\nhosts: [a.test]\ncallers: {{a: {{token: '{ONE}', allow: '*'}}}}",
            {"127.0.0.1", "[::1]", "localhost", "[fd00::7]", "a.test"},
        ),
    ],
)
def test_host_names_are_limited_on_loopback_and_wherever_names_are_configured(
    load: Load, text: str, hosts: set[str] | None
) -> None:
    assert load(text).policy.hosts == hosts


def test_the_command_line_stands_before_the_environment() -> None:
    overrides = Overrides(
        listen="127.0.0.1:0",
        admin="127.0.0.1:0",
        upstream_url="http://127.0.0.1:9",
        voices="write",
        router="none",
        log_format="text",
    )
    snapshot = load_settings(None, ENVIRON, overrides)
    assert (snapshot.listen.port, snapshot.admin.port) == (0, 0)
    assert snapshot.upstreams["inworld"].authority == "127.0.0.1:9"
    assert snapshot.credentials["default"].power == KeyPower(KeyType.STANDARD, Level.WRITE, Level.NONE)
    assert snapshot.log.format is LogFormat.TEXT
    live = load_settings(None, ENVIRON, Overrides(key_type="realtime-only"))
    assert live.credentials["default"].power.type is KeyType.REALTIME_ONLY


def test_the_command_line_stands_before_the_file(load: Load) -> None:
    text = """
listen: 127.0.0.1:1
upstreams: {here: {url: "https://a.example"}}
credentials: {key: {kind: api-key, secret: env:INWORLD_API_KEY, permissions: {voices: none, router: write}}}
log: {level: failed, format: json}
"""
    overrides = Overrides(listen="127.0.0.1:2", upstream_url="https://b.example", voices="read", log_format="text")
    snapshot = load(text, overrides=overrides)
    assert snapshot.listen.port == 2
    assert snapshot.upstreams["here"].host == "b.example"
    assert snapshot.credentials["key"].power == KeyPower(KeyType.STANDARD, Level.READ, Level.WRITE)
    assert snapshot.log == LogSettings(LogFormat.TEXT, LogLevel.FAILED)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (Overrides(listen="8080"), "command line: --listen: `8080`; write an IP address and a port"),
        (Overrides(listen="0.0.0.0:80"), "command line: --listen: `0.0.0.0:80`, which others can reach"),
        (Overrides(admin="127.0.0.1:8080"), "command line: --admin: `127.0.0.1:8080`, where `listen` is already"),
        (Overrides(upstream_url="http://a.example"), "command line: --upstream: `http://a.example`, which would send"),
        (Overrides(voices="rw"), "command line: --voices: `rw`; write one of `none`, `read`, `write`"),
        (Overrides(router="writ"), "command line: --router: `writ`; write `write`"),
        (Overrides(key_type="live"), "command line: --key-type: `live`; write one of"),
        (Overrides(log_format="yaml"), "command line: --log-format: `yaml`; write one of"),
        (Overrides(ca="/nonexistent/ca.pem"), "command line: --ca: `/nonexistent/ca.pem`, which does not exist"),
    ],
)
def test_a_fault_of_the_command_line_names_the_option(faults_of: FaultsOf, overrides: Overrides, said: str) -> None:
    (fault,) = faults_of("mode: enforce", overrides=overrides)
    assert str(fault).startswith(said)
    with pytest.raises(SettingsError) as raised:
        load_settings(None, ENVIRON, overrides)
    assert str(raised.value.faults[0]).startswith(said)


def test_an_option_for_one_of_several_is_a_fault(faults_of: FaultsOf) -> None:
    faults = faults_of(COMPLETE, overrides=Overrides(upstream_url="https://a.example", voices="write"))
    assert [(fault.path, fault.found) for fault in faults] == [
        ("--upstream", "an option for one of 2 upstreams"),
        ("--voices", "an option for one of 2 credentials"),
    ]


@pytest.mark.parametrize(
    "url",
    ["redis://h", "rediss://user:p%40ss@h:6380/3", "redis://[::1]:6379", "unix:///run/redis.sock?db=1"],
)
def test_a_redis_server_is_named_directly_or_by_a_variable_or_a_file(load: Load, tmp_path: Path, url: str) -> None:
    (tmp_path / "url").write_text(url + "\n")
    (tmp_path / "url").chmod(0o600)
    for said in (url, "env:REDIS", f"file:{tmp_path}/url"):
        snapshot = load(f"limits: {{shared: '{said}'}}", environ={**ENVIRON, "REDIS": url})
        assert snapshot.shared_limits == SharedLimits(url, fail_open=True)


def test_a_redis_server_without_the_client_for_it_is_a_fault(
    faults_of: FaultsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (fault,) = faults_of("limits: {shared: redis://h}")
    assert "inworld-proxy[redis]" in fault.remedy


def test_all_files_that_were_read_are_known_but_for_secrets(load: Load, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "corp.pem"))
    (tmp_path / "own.yaml").write_text(
        f"{OWN}  tts.own: {{methods: [POST], path: /x, permission: none, errors: grpc}}\n"
    )
    snapshot = load("upstreams: {a: {catalogue: own.yaml, url: 'https://a.example', ca: corp.pem}}")
    assert {Path(file).name for file in snapshot.files} == {"proxy.yaml", "own.yaml", "corp.pem"}
    before = snapshot.upstreams["a"]
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "corp.pem"))
    again = load("upstreams: {a: {catalogue: own.yaml, url: 'https://a.example', ca: corp.pem}}")
    assert again.upstreams["a"] != before


def test_a_ca_file_is_found_from_the_folder_of_the_configuration(load: Load, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "corp.pem")
    snapshot = load("upstreams: {inworld: {ca: corp.pem}}")
    assert snapshot.upstreams["inworld"].ca_file == str(tmp_path / "corp.pem")


def test_a_connect_proxy_may_come_from_the_environment(load: Load) -> None:
    environ = {**ENVIRON, "EGRESS": "http://me:secret@egress.corp:3128"}
    snapshot = load("upstreams: {inworld: {proxy: env:EGRESS}}", environ=environ)
    assert snapshot.upstreams["inworld"].connect_proxy == ("egress.corp", 3128)


OWN = """\
name: own
url: https://own.example
families: {shop: {permission: none, errors: grpc}}
operations:
  shop.buy: {methods: [POST], path: /shop/buy}
"""


def test_a_catalogue_of_ones_own_is_found_from_the_folder_of_the_configuration(load: Load, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    snapshot = load("upstreams: {shop: {catalogue: own.yaml}}")
    assert set(snapshot.policy.operations) == {"shop.buy"}
    assert snapshot.upstreams["shop"].host == "own.example"


def test_upstreams_with_different_catalogues_each_serve_their_own(load: Load, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    text = """
upstreams: {shop: {catalogue: own.yaml}, inworld: {}}
routes:
  - {operations: "*", credential: default, upstream: shop}
  - {operations: "*", credential: default, upstream: inworld}
"""
    snapshot = load(text)
    anonymous = snapshot.policy.anonymous
    assert anonymous is not None
    assert anonymous.routes["shop.buy"].upstream.name == "shop"
    assert anonymous.routes["tts.synthesize"].upstream.name == "inworld"


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ("tts.synthesize: {methods: [POST], path: /other, permission: none, errors: grpc}", "says something else"),
        ("tts.other: {methods: [POST], path: /tts/v1/voice, permission: none, errors: grpc}", "do not fit together"),
    ],
)
def test_catalogues_that_contradict_each_other_are_a_fault(
    faults_of: FaultsOf, tmp_path: Path, row: str, found: str
) -> None:
    (tmp_path / "own.yaml").write_text(f"{OWN}  {row}\n")
    text = """
upstreams: {inworld: {}, shop: {catalogue: own.yaml}}
routes:
  - {operations: "*", credential: default, upstream: shop}
  - {operations: "*", credential: default, upstream: inworld}
"""
    (fault,) = faults_of(text)
    assert found in fault.found
    assert fault.line == 2


def test_faults_of_a_catalogue_file_name_that_file(faults_of: FaultsOf, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN + "  shop.sell: {methods: [SELL], path: /shop/sell}\n")
    (fault,) = faults_of("upstreams: {shop: {catalogue: own.yaml}}")
    assert (fault.file, fault.line) == (str(tmp_path / "own.yaml"), 6)


def test_a_snapshot_cannot_be_changed_and_shows_no_secret(load: Load) -> None:
    snapshot = load(COMPLETE)
    assert KEY not in repr(snapshot)
    assert "pa:ss" not in repr(snapshot)
    with pytest.raises(TypeError):
        snapshot.upstreams["x"] = None  # type: ignore[index]
    with pytest.raises(TypeError):
        snapshot.callers["storefront"].routes["x"] = None  # type: ignore[index]
    with pytest.raises(TypeError):
        pickle.dumps(snapshot.credentials["workspace"])

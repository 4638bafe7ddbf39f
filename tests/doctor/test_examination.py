"""``inworld-proxy doctor``: every check finds nothing where nothing is wrong, and the fault where there is one."""

from __future__ import annotations

import asyncio
import datetime as dt
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from proxy.doctor.finding import Finding, State, exit_code, within
from tests.certificates import Certificates
from tests.doctor.conftest import KEYS, Examine, Serve
from tests.proxies import Proxies
from tests.redis_server import RedisServer
from tests.snapshots import make_snapshot, upstream_at

NOWHERE = "http://127.0.0.1:9"
DAY = dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)


def check(found: Finding, state: State, *says: str) -> None:
    assert found.state is state, found
    text = f"{found.detail} -> {found.remedy}"
    assert all(word in text for word in says), found
    assert bool(found.remedy) is (state in (State.WARN, State.FAIL)), found


async def test_nothing_is_wrong_with_what_works(serve: Serve, find: Examine) -> None:
    found = await find(await serve())
    assert {name for name, each in found.items() if each.state is not State.OK} == {"mint workspace"}
    assert list(found) == [
        "configuration", "secret workspace", "dns inworld", "tcp inworld", "tls inworld", "clock workspace",
        "read workspace", "mint workspace", "websocket workspace", "listen", "admin", "descriptors",
    ]  # fmt: skip
    assert exit_code([*found.values()]) == 0
    assert found["configuration"].detail.endswith(": 1 upstream, 1 credential, no callers declared")
    check(found["read workspace"], State.OK, "/voices/v1/voices: 200")
    check(found["websocket workspace"], State.OK, "101")


# -- the configuration and its secrets --------------------------------------------------------------------------------


async def test_a_fault_of_the_configuration_is_said_with_its_place_and_the_rest_is_skipped(find: Examine) -> None:
    found = await find(NOWHERE, listne="127.0.0.1:0")
    check(found["configuration"], State.FAIL, "proxy.yaml:", "listen")
    assert found["upstreams"].state is State.SKIP
    assert "tcp inworld" not in found


async def test_a_secret_that_is_not_there_is_said_and_the_way_is_still_looked_at(serve: Serve, find: Examine) -> None:
    found = await find(await serve(), credential={"secret": "env:NOT_SET"})
    check(found["secret workspace"], State.FAIL, "NOT_SET is not set", "set it")
    assert found["tcp inworld"].state is State.OK
    assert found["read workspace"].state is State.SKIP
    assert "secret of workspace" in found["read workspace"].detail


async def test_a_key_of_the_wrong_form_is_said_without_being_shown(serve: Serve, find: Examine) -> None:
    found = await find(await serve(), environ={"THE_KEY": "Basic " + KEYS["full"].basic})
    check(found["secret workspace"], State.FAIL, "prefix")
    assert KEYS["full"].basic not in str(found)


@pytest.mark.parametrize(("accepted", "state"), [(False, State.FAIL), (True, State.WARN)])
async def test_a_file_that_others_can_read_is_refused_or_warned_about(
    serve: Serve, find: Examine, tmp_path: Path, accepted: bool, state: State
) -> None:
    key = tmp_path / "key"
    key.write_text(KEYS["full"].basic)
    key.chmod(0o644)
    found = await find(await serve(), credential={"secret": f"file:{key}", "allow_readable": accepted})
    check(found["secret workspace"], state, "everyone on this machine", "chmod 600")
    key.chmod(0o600)
    found = await find(await serve(), credential={"secret": f"file:{key}"})
    check(found["secret workspace"], State.OK)


# -- the way there ----------------------------------------------------------------------------------------------------


async def test_a_name_that_nobody_has_is_said_and_nothing_after_it_is_tried(find: Examine) -> None:
    found = await find("https://no-such-host.invalid")
    check(found["dns inworld"], State.FAIL, "no-such-host.invalid has no address", "resolv.conf", "HTTPS_PROXY")
    assert {found[name].state for name in ("tcp inworld", "tls inworld", "read workspace")} == {State.SKIP}
    assert exit_code([*found.values()]) == 2


async def test_a_closed_port_is_said(find: Examine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    found = await find(f"http://127.0.0.1:{port}")
    check(found["tcp inworld"], State.FAIL, f"127.0.0.1:{port} refuses the connection", "firewall")
    assert found["tls inworld"].state is State.SKIP


async def test_a_connect_proxy_that_refuses_is_said_as_such(serve: Serve, find: Examine) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = f"http://user:a-password-of-the-proxy@127.0.0.1:{port}"
    found = await find(await serve(), upstream={"proxy": proxy})
    check(found["dns inworld"], State.OK, "the CONNECT proxy")
    check(found["tcp inworld"], State.FAIL, "CONNECT proxy", "let CONNECT")
    assert "a-password-of-the-proxy" not in str(found)
    server.close()


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_a_good_certificate_is_described_and_one_that_ends_soon_warned_about(
    serve: Serve, find: Examine, certificates: Certificates
) -> None:
    url = await serve(certificates.issue(ends=30 * DAY + dt.timedelta(hours=1)), host="localhost")
    found = await find(url, upstream={"ca": certificates.ca_file})
    check(found["tls inworld"], State.OK, "TLSv1.3", "localhost", "issued by", "30 days left")
    assert found["read workspace"].state is State.OK
    found = await find(
        await serve(certificates.issue(ends=3 * DAY), host="localhost"), upstream={"ca": certificates.ca_file}
    )
    check(found["tls inworld"], State.WARN, "3 days left", "renew")
    assert found["read workspace"].state is State.OK
    assert exit_code([*found.values()]) == 1


REFUSED = {
    "another name": (lambda made: made.good("elsewhere.example"), "is for elsewhere.example and not for localhost"),
    "no name": (lambda made: made.issue(()), "is for no name at all"),
    "a stranger": (lambda made: made.by_stranger("localhost"), "who is not trusted on this machine, nor in"),
    "itself": (lambda made: made.issue(self_signed=True), "issued by CN=localhost, who is not trusted"),
    "over": (lambda made: made.issue(begins=-9 * DAY, ends=-5 * DAY), "the certificate ended on 20"),
    "not yet": (lambda made: made.issue(begins=DAY, ends=5 * DAY), "the certificate begins on 20"),
}


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
@pytest.mark.parametrize("name", REFUSED)
async def test_a_certificate_that_is_refused_is_explained(
    serve: Serve, find: Examine, certificates: Certificates, name: str
) -> None:
    make, says = REFUSED[name]
    found = await find(await serve(make(certificates), host="localhost"), upstream={"ca": certificates.ca_file})
    check(found["tls inworld"], State.FAIL, says)
    assert found["read workspace"].state is State.SKIP


async def test_an_authority_of_ones_own_is_to_be_named(serve: Serve, find: Examine, certificates: Certificates) -> None:
    found = await find(await serve(certificates.good("localhost"), host="localhost"))
    check(found["tls inworld"], State.FAIL, "not trusted on this machine", "upstreams.inworld.ca, or --ca FILE")


async def test_a_port_without_tls_is_said(serve: Serve, find: Examine) -> None:
    found = await find((await serve()).replace("http://127.0.0.1", "https://localhost"))
    check(found["tls inworld"], State.FAIL, "no TLS that is acceptable", "correct the port")


async def test_one_that_says_nothing_is_not_waited_for(find: Examine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://localhost:{silent.getsockname()[1]}"
        found = await find(url, limit=0.5)
    check(found["tls inworld"], State.FAIL, "silent")


# -- what the upstream says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "state", "says"),
    [
        (timedelta(), State.OK, "within 1 s"),
        (timedelta(minutes=5), State.WARN, "s behind the upstream's"),
        (timedelta(minutes=-5), State.WARN, "s ahead of the upstream's"),
        (timedelta(days=9), State.WARN, "more than 24 hours"),
    ],
)
async def test_a_clock_that_is_off_is_warned_about(
    serve: Serve, find: Examine, ahead: timedelta, state: State, says: str
) -> None:
    found = await find(await serve(ahead=ahead))
    check(found["clock workspace"], state, says)


@pytest.mark.parametrize(
    ("status", "state", "says"),
    [
        (401, State.FAIL, "does not know the key"),
        (403, State.FAIL, "credentials.workspace.permissions.voices: none"),
        (404, State.FAIL, "upstreams.inworld.url"),
        (429, State.WARN, "limit is used up"),
        (503, State.FAIL, "in trouble"),
        (302, State.FAIL, "no success"),
    ],
)
async def test_an_answer_that_is_no_success_is_explained(
    serve: Serve, find: Examine, status: int, state: State, says: str
) -> None:
    found = await find(await serve(statuses={"/voices/v1/voices": status}))
    check(found["read workspace"], state, str(status), says)
    assert found["websocket workspace"].state is State.OK


async def test_a_key_that_the_upstream_does_not_know_is_refused_at_the_read_and_at_the_socket(
    serve: Serve, find: Examine
) -> None:
    found = await find(await serve(), environ={"THE_KEY": "Z29uZTpkZWxldGVkLWxvbmctYWdv"})
    check(found["read workspace"], State.FAIL, "403", "does not know the key", "Portal")
    check(found["websocket workspace"], State.FAIL, "403", "Portal")


async def test_a_permission_that_the_key_does_not_have_is_told_from_a_key_that_is_not_known(
    serve: Serve, find: Examine
) -> None:
    found = await find(await serve(), environ={"THE_KEY": KEYS["no-permissions"].basic})
    check(found["read workspace"], State.FAIL, "no voices permission", "credentials.workspace.permissions.voices: none")
    assert found["websocket workspace"].state is State.OK


async def test_what_the_key_may_not_is_not_asked(serve: Serve, find: Examine) -> None:
    nothing = {"permissions": {"voices": "none", "router": "none"}}
    found = await find(await serve(), credential=nothing, environ={"THE_KEY": KEYS["no-permissions"].basic})
    check(found["read workspace"], State.OK, "200")
    found = await find(
        await serve(), credential={"type": "realtime-only"}, environ={"THE_KEY": KEYS["realtime-only"].basic}
    )
    check(found["read workspace"], State.OK, "ice-servers: 200")
    check(found["websocket workspace"], State.OK, "/api/v1/realtime/session: 101")


async def test_a_credential_that_serves_no_read_says_so(serve: Serve, find: Examine) -> None:
    url = await serve()
    found = await find(url, routes=[{"operations": ["realtime.session"], "credential": "workspace"}])
    assert found["read workspace"].state is State.SKIP
    assert found["websocket workspace"].state is State.OK
    found = await find(url, routes=[{"operations": ["voices.*"], "credential": "workspace"}])
    assert found["websocket workspace"].state is State.SKIP


SESSION_TOKEN = {"kind": "session-token"}


async def test_a_token_is_minted_and_not_shown(serve: Serve, find: Examine) -> None:
    found = await find(await serve(), credential=SESSION_TOKEN)
    check(found["mint workspace"], State.OK, "a token for", "minutes")
    assert found["read workspace"].state is found["websocket workspace"].state is State.OK
    assert "eyJ" not in str(found)


async def test_a_mint_that_fails_is_explained_and_what_needs_its_token_skipped(serve: Serve, find: Examine) -> None:
    found = await find(await serve(mint_failures=1.0), credential=SESSION_TOKEN)
    check(found["mint workspace"], State.FAIL, "503", "try again later")
    assert found["read workspace"].state is found["websocket workspace"].state is State.SKIP
    unknown = {"THE_KEY": "Z29uZTpkZWxldGVkLWxvbmctYWdv"}
    found = await find(await serve(), credential=SESSION_TOKEN, environ=unknown)
    check(found["mint workspace"], State.FAIL, "refuses the key or its signature", "credentials.workspace.secret")


async def test_tokens_that_are_over_at_once_are_said(serve: Serve, find: Examine) -> None:
    found = await find(await serve(token_lifetime=2.0), credential=SESSION_TOKEN)
    check(found["mint workspace"], State.FAIL, "over in")


async def test_a_socket_that_is_not_opened_is_said(serve: Serve, find: Examine) -> None:
    found = await find(await serve(statuses={"/api/v1/realtime/session": 403}))
    check(found["websocket workspace"], State.FAIL, "403", "credentials.workspace.secret")
    assert found["read workspace"].state is State.OK


async def test_each_credential_is_looked_at_on_its_own(serve: Serve, find: Examine) -> None:
    key = {"kind": "api-key", "secret": "env:THE_KEY"}
    found = await find(
        await serve(),
        callers={"one": {"token": f"sha256:{'7' * 64}", "allow": "*"}},
        credentials={"good": key, "gone": {**key, "secret": "env:GONE"}},
        routes=[{"operations": "voices.*", "credential": "gone"}, {"operations": "*", "credential": "good"}],
        environ={"GONE": "Z29uZTpkZWxldGVkLWxvbmctYWdv"},
    )
    check(found["configuration"], State.OK, ": 1 upstream, 2 credentials, 1 caller")
    check(found["read gone"], State.FAIL, "credentials.gone.secret")
    assert found["read good"].state is State.OK


# -- this machine -----------------------------------------------------------------------------------------------------


@contextmanager
def taken(answer: bytes) -> Iterator[str]:
    """An address at which somebody listens and says this."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    with socket.create_server(("127.0.0.1", 0)) as sock:
        task = asyncio.ensure_future(asyncio.start_server(say, sock=sock))
        yield f"127.0.0.1:{sock.getsockname()[1]}"
        task.result().close()


async def test_an_address_that_is_taken_is_said_with_who_has_it(serve: Serve, find: Examine) -> None:
    url = await serve()
    ours = b"HTTP/1.1 404 Not Found\r\nProxy-Status: inworld-proxy; error=http_request_denied\r\n\r\n"
    with taken(ours) as address:
        found = await find(url, listen=address)
        check(found["listen"], State.WARN, "an inworld-proxy listens there already")
        assert found["admin"].state is State.OK
        assert exit_code([*found.values()]) == 1
    with taken(b"HTTP/1.1 200 OK\r\n\r\n") as address:
        found = await find(url, admin=address)
        check(found["admin"], State.FAIL, "another program", "choose another address in `admin`")


async def test_a_proxy_that_speaks_tls_with_its_callers_is_known_by_its_refusal_of_plain_http(
    serve: Serve, find: Examine, proxies: Proxies, certificates: Certificates
) -> None:
    upstream = await proxies.upstream()
    snapshot = replace(make_snapshot(upstream_at(upstream.port)), tls=certificates.listener())
    running = await proxies.start(snapshot, upstream)
    found = await find(await serve(), listen=running.authority)
    check(found["listen"], State.WARN, "an inworld-proxy listens there already")


@pytest.mark.parametrize(
    ("begins", "ends", "state", "says"),
    [
        (-9 * DAY, 30 * DAY + HOUR, State.OK, ("localhost", "30 days left")),
        (-9 * DAY, 3 * DAY + HOUR, State.WARN, ("localhost", "3 days left", "renew tls.cert and tls.key")),
        (-9 * DAY, -HOUR, State.WARN, ("expired on 20", "clients refuse it", "renew tls.cert and tls.key")),
        (DAY, 30 * DAY, State.WARN, ("begins on 20", "clients refuse it until then", "clock")),
    ],
    ids=["good", "ends soon", "expired", "not yet"],
)
async def test_the_certificate_that_callers_are_shown_is_warned_about(
    serve: Serve, find: Examine, tmp_path: Path, begins: dt.timedelta, ends: dt.timedelta, state: State,
    says: tuple[str, ...],
) -> None:  # fmt: skip
    now = dt.datetime.now(dt.UTC)
    issued = trustme.CA().issue_cert("localhost", not_before=now + begins, not_after=now + ends)
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    key = tmp_path / "key.pem"
    key.touch(mode=0o600)
    issued.private_key_pem.write_to_path(str(key))
    found = await find(await serve(), tls={"cert": "cert.pem", "key": "key.pem"})
    check(found["certificate"], state, *says)
    assert exit_code([*found.values()]) == (1 if state is State.WARN else 0)


async def test_a_certificate_that_was_made_at_the_start_is_not_looked_at(serve: Serve, find: Examine) -> None:
    assert "certificate" not in await find(await serve(), tls={"self_signed": True})


async def test_an_address_of_another_machine_is_said(serve: Serve, find: Examine) -> None:
    caller = {"one": {"token": f"sha256:{'7' * 64}", "allow": "*"}}
    found = await find(await serve(), listen="192.0.2.1:8080", callers=caller)
    check(found["listen"], State.FAIL, "192.0.2.1:8080", "an address of this machine")


async def test_a_unix_socket_can_be_made_is_taken_or_is_in_no_folder(
    serve: Serve, find: Examine, tmp_path: Path
) -> None:
    url, path = await serve(), tmp_path / "s"
    check((await find(url, listen=f"unix:{path}"))["listen"], State.OK, "is free")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        check((await find(url, listen=f"unix:{path}"))["listen"], State.OK, "is free")  # nobody listens
        sock.listen()
    path.unlink()
    path.write_text("")
    check((await find(url, listen=f"unix:{path}"))["listen"], State.FAIL, "no socket", "take it away")
    check((await find(url, listen=f"unix:{path}s/s"))["listen"], State.FAIL, "no such folder", "make the folder")


@pytest.mark.parametrize(("failure", "state"), [("open", State.WARN), ("closed", State.FAIL)])
async def test_a_redis_server_that_is_not_there_is_said(
    serve: Serve, find: Examine, failure: str, state: State
) -> None:
    limits = {"shared": "redis://:a-password-of-redis@127.0.0.1:9/0", "shared_failure": failure}
    found = await find(await serve(), limits=limits)
    check(found["redis"], state, "Redis at 127.0.0.1:9: it refuses connections", "limits.shared")
    assert "a-password-of-redis" not in str(found)


async def test_a_redis_server_that_answers_is_ok(serve: Serve, find: Examine, redis_server: RedisServer) -> None:
    check((await find(await serve(), limits={"shared": redis_server.url}))["redis"], State.OK, "Redis at")


async def test_fewer_descriptors_than_are_wanted_are_warned_about(serve: Serve, find: Examine) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("there is no limit here")
    found = await find(await serve(), limits={"connections": hard})
    check(found["descriptors"], State.WARN, f"{hard} at most", "limits.connections", "ulimit")


# -- checks themselves ------------------------------------------------------------------------------------------------


async def test_a_check_that_hangs_or_breaks_is_a_failure_and_no_traceback() -> None:
    async def hang() -> Finding:
        await asyncio.Event().wait()
        raise AssertionError

    async def break_off() -> Finding:
        raise ValueError("with a-secret-in-its-text")

    check(await within(0.01, "slow", hang()), State.FAIL, "not over within 0.01 s", "--timeout")
    found = await within(1.0, "broken", break_off())
    check(found, State.FAIL, "ValueError")
    assert "a-secret" not in str(found)

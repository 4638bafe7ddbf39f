"""One line per request: what happened, never what was said; and no reader of the log can stop the traffic."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.core.errors import Code
from proxy.core.model import LOG_FIELDS, LogFormat, LogLevel, LogSettings
from proxy.observe.log import RequestLog
from proxy.observe.record import Ending, Record
from tests.proxies import Proxies
from tests.snapshots import KEY, TOKEN, make_snapshot, upstream_at
from tests.wires import OK, request

ROOT = Path(__file__).parents[2]


def _record(**changes: object) -> Record:
    record = Record(100.0, 1_700_000_000.25, "GET", "/things", "192.0.2.7")
    record.operation, record.caller, record.upstream, record.credential = (
        "things.any",
        "storefront",
        "inworld",
        "workspace",
    )
    record.status, record.sent, record.first_byte, record.ended = 200, 100.001, 100.002, 100.003
    for name, value in changes.items():
        setattr(record, name, value)
    return record


async def _written(capfd: pytest.CaptureFixture[str], settings: LogSettings, *records: Record) -> list[str]:
    log = RequestLog(settings, asyncio.get_running_loop(), lambda lines: pytest.fail(f"{lines} lines dropped"))
    for record in records:
        log.write(record)
    log.close()
    return capfd.readouterr().out.splitlines()


JSON = LogSettings(format=LogFormat.JSON)


async def test_a_line_is_json_with_known_fields_only(capfd: pytest.CaptureFixture[str]) -> None:
    full = _record(code=Code.UPSTREAM_CLOSED, would_refuse=Code.OPERATION_NOT_GRANTED, tunnel_opened=1.0, retried=True,
                   inworld_request_id="r-1", request_id="mine", trace_id="a" * 32, ending=Ending.ABORTED)  # fmt: skip
    (line,) = await _written(capfd, JSON, full)
    fields = json.loads(line)
    assert tuple(fields) == LOG_FIELDS
    assert fields["time"] == "2023-11-14T22:13:20.250Z"
    assert (fields["method"], fields["path"], fields["status"]) == ("GET", "/things", 200)
    assert (fields["ending"], fields["code"], fields["would_refuse"]) == (
        "aborted",
        "upstream_closed",
        "operation_not_granted",
    )
    assert fields["duration_ms"] == pytest.approx(3)
    assert fields["first_byte_ms"] == pytest.approx(2)
    assert fields["overhead_ms"] == pytest.approx(1)


async def test_what_is_not_known_is_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    record = Record(100.0, 1_700_000_000.0, "OTHER", "", "192.0.2.7")
    record.ended, record.status, record.code, record.ending = 100.0, 400, Code.BAD_REQUEST, Ending.REFUSED
    (line,) = await _written(capfd, JSON, record)
    assert not {"operation", "caller", "upstream", "first_byte_ms", "overhead_ms", "messages_in"} & set(
        json.loads(line)
    )


async def test_control_characters_cannot_forge_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    evil = _record(path='/a\r\n{"forged":1}\x1b[31m"\\', method="GE\nT", inworld_request_id='x"\n')
    for settings in (JSON, LogSettings(format=LogFormat.TEXT)):
        (line,) = await _written(capfd, settings, _record(path=evil.path, inworld_request_id=evil.inworld_request_id))
        assert "\x1b" not in line
    (line,) = await _written(capfd, JSON, evil)
    assert json.loads(line)["path"] == evil.path


async def test_fields_can_be_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    (line,) = await _written(capfd, replace(JSON, omit=frozenset({"peer", "path", "caller"})), _record())
    fields = json.loads(line)
    assert not {"peer", "path", "caller"} & set(fields)
    assert fields["status"] == 200


@pytest.mark.parametrize(
    ("level", "statuses"),
    [(LogLevel.ALL, [200, 403, 502, 200]), (LogLevel.REFUSED, [403, 502, 200]), (LogLevel.FAILED, [502, 200])],
)
async def test_the_level_says_which_requests_are_logged(
    capfd: pytest.CaptureFixture[str], level: LogLevel, statuses: list[int]
) -> None:
    records = [
        _record(),
        _record(status=403, ending=Ending.REFUSED),
        _record(status=502, ending=Ending.FAILED),
        _record(ending=Ending.ABORTED),
    ]
    lines = await _written(capfd, replace(JSON, level=level), *records)
    assert [json.loads(line)["status"] for line in lines] == statuses


async def test_the_trace_is_named_where_it_is_not_the_request(capfd: pytest.CaptureFixture[str]) -> None:
    records = _record(request_id="a" * 32, trace_id="a" * 32), _record(request_id="mine", trace_id="a" * 32)
    same, other = map(json.loads, await _written(capfd, JSON, *records))
    assert (same["request_id"], same.get("trace_id")) == ("a" * 32, None)
    assert (other["request_id"], other["trace_id"]) == ("mine", "a" * 32)


async def test_the_ids_can_be_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    refused = _record(request_id="mine", trace_id="a" * 32, status=403, code=Code.WRITE_NOT_PERMITTED)
    for format_ in (LogFormat.JSON, LogFormat.TEXT):
        settings = LogSettings(format=format_, omit=frozenset({"request_id", "trace_id"}))
        (line,) = await _written(capfd, settings, refused)
        assert "mine" not in line
        assert "a" * 32 not in line


async def test_the_readable_format_names_what_somebody_will_ask_about(capfd: pytest.CaptureFixture[str]) -> None:
    refused = _record(status=403, code=Code.WRITE_NOT_PERMITTED, ending=Ending.REFUSED, request_id="mine")
    passed_on = _record(status=429, request_id="mine")
    answered, *asked = await _written(
        capfd, LogSettings(format=LogFormat.TEXT), _record(request_id="mine"), refused, passed_on
    )
    assert "mine" not in answered
    assert [line.rpartition(" ")[2] for line in asked] == ["id=mine"] * 2


async def test_off_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert await _written(capfd, LogSettings(format=LogFormat.OFF), _record()) == []


async def test_auto_is_json_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    (line,) = await _written(capfd, LogSettings(), _record())
    assert json.loads(line)["operation"] == "things.any"


async def test_the_readable_format_says_the_same_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    refused = _record(status=403, code=Code.WRITE_NOT_PERMITTED, ending=Ending.REFUSED, caller="anonymous")
    answered, denied = await _written(capfd, LogSettings(format=LogFormat.TEXT), _record(), refused)
    assert re.fullmatch(r"\d\d:\d\d:\d\d 200 GET /things things\.any storefront 3\.0 ms 0 B", answered)
    assert re.fullmatch(r"\d\d:\d\d:\d\d 403 GET /things write_not_permitted 3\.0 ms 0 B", denied)


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.TEXT])
async def test_no_query_credential_or_body_is_ever_logged(
    proxies: Proxies, capfd: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    upstream = await proxies.upstream()
    upstream.always(OK.replace(b"ok", b"so"))
    snapshot = make_snapshot(upstream_at(upstream.port), tokens={"storefront": TOKEN})
    proxy = await proxies.start(replace(snapshot, log=LogSettings(format=log_format)), upstream)
    secret = "never-to-be-seen"
    bearer = f"Authorization: Bearer {TOKEN}"
    for raw in (
        request(f"POST /things?token={secret}&x={secret}", bearer, f"X-Own: {secret}", body=secret.encode()),
        request(f"GET /nothing?{secret}", bearer),
        request(f"GET /nothing;{secret}", bearer),
        request(f"GET /a%zz{secret}", bearer),
        request("GET /things", f"x-api-key: {secret}"),
        request(f"GET http://user:{secret}@h/things", bearer),
        request(f"GET //user:{secret}@h/things", bearer),
        f"GET /{secret} HTTP/9.9\r\n\r\n".encode(),
        f"{secret} \r\n\r\n".encode(),
    ):
        await proxy.ask(raw)
    await proxies.cleanup()
    out = capfd.readouterr().out
    assert len(out.splitlines()) == 9
    assert "things.any" in out
    for word in (secret, TOKEN, KEY, "key-secret", "Bearer", "Basic"):
        assert word not in out


# -- readers that do not read -----------------------------------------------------------------------------------------

WRITER = """
import asyncio, os, sys, time
from proxy.core.model import LogFormat, LogSettings
from proxy.observe.log import RequestLog
from tests.observe.test_log import _record

async def main():
    dropped = []
    log = RequestLog(LogSettings(format=LogFormat.JSON), asyncio.get_running_loop(), dropped.append)
    if sys.argv[1] == "closed":
        os.close(1)
    longest = 0.0
    for _ in range(300):
        for _ in range(100):
            log.write(_record())
        started = time.monotonic()
        log.flush()
        longest = max(longest, time.monotonic() - started)
        await asyncio.sleep(0)
    log.close()
    print(sum(dropped), longest, file=sys.stderr, flush=True)
    os._exit(0)

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["stuck", "closed", "broken"])
def test_a_log_that_nobody_reads_stops_nothing_and_what_is_lost_is_counted(how: str) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stderr is not None
    with child.stdout, child.stderr:
        if how == "broken":
            child.stdout.close()
        dropped, longest = child.stderr.read().split()  # standard output is never read
        child.wait(timeout=60)
    assert child.returncode == 0
    assert float(longest) < 5.0  # it waits for nobody; a busy machine may stop it for a moment
    if how == "stuck":
        assert 5_000 <= int(dropped) <= 30_000
    else:
        assert int(dropped) >= 5_000

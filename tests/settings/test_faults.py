"""Every kind of fault (``faults.yaml``): its line, what was found, and what to write instead."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from proxy.document import Fault

FaultsOf = Callable[..., tuple[Fault, ...]]

TABLE = yaml.safe_load(Path(__file__).with_name("faults.yaml").read_text(encoding="utf-8"))
CASES = [pytest.param(case, id=f"{group}-{case['name']}") for group, cases in TABLE.items() for case in cases]
ENVIRON = {"INWORLD_API_KEY": "aWQ6c2VjcmV0", "OTHER_KEY": "aWQ6c2VjcmV0", "RAW_KEY": "id:hunter2"}

CREDENTIALS = """\
credentials:
  workspace: {kind: api-key, secret: env:INWORLD_API_KEY}
  live: {kind: api-key, secret: env:OTHER_KEY, type: realtime-only}
  mute: {kind: api-key, secret: env:OTHER_KEY, permissions: {voices: none, router: none}}
"""
"""What the routes of the table choose from, unless they bring their own."""


@pytest.mark.parametrize("case", CASES)
def test_each_mistake_is_one_fault_with_its_line_and_a_remedy(faults_of: FaultsOf, case: dict[str, str]) -> None:
    text = case["text"]
    if "routes:" in text and "credential: default" not in text and "credentials:" not in text:
        text = CREDENTIALS + text
    faults = faults_of(text, environ=ENVIRON)
    assert len(faults) == 1, [str(fault) for fault in faults]
    fault = faults[0]
    assert case["found"] in fault.found, str(fault)
    assert case["remedy"] in fault.remedy, str(fault)
    assert fault.file.endswith("proxy.yaml")
    marked = [number for number, line in enumerate(text.splitlines(), 1) if line.endswith("# HERE")]
    if marked:
        assert fault.line == marked[0], str(fault)


def test_all_faults_are_said_at_once_in_the_order_of_the_file(faults_of: FaultsOf) -> None:
    text = """\
listen: nowhere
mode: off
upstreams:
  inworld: {url: "http://api.inworld.ai", ca: none.pem}
credentials:
  one: {kind: api-key, secret: env:NOPE, type: big}
  two: {kind: basic, secret: s3cr3t}
routes:
  - {operations: [tts.x, stt.*], credential: three}
  - {operations: 7, credential: one}
callers:
  a: {token: plain, allow: [xyz.*]}
  b: {token: plain}
time: {head: soon}
zzz: 1
"""
    faults = faults_of(text)
    assert [fault.path for fault in faults] == [
        "listen", "mode", "upstreams.inworld.url", "upstreams.inworld.ca", "credentials.one.secret",
        "credentials.one.type", "credentials.two.kind", "credentials.two.secret", "routes[0].operations[0]",
        "routes[0].credential", "routes[1].operations", "callers.a.token", "callers.a.allow[0]",
        "callers.b.allow", "callers.b.token", "time.head", "zzz",
    ]  # fmt: skip
    assert [fault.line for fault in faults] == sorted(fault.line or 0 for fault in faults)


def test_a_broken_section_does_not_make_others_look_broken(faults_of: FaultsOf) -> None:
    text = """\
credentials:
  workspace: {kind: api-key, secret: env:NOPE}
  live: {kind: api-key, secret: env:OTHER_KEY, type: realtme-only}
routes:
  - {operations: "realtime.*", credential: live}
  - {operations: "*", credential: workspace}
"""
    assert [fault.line for fault in faults_of(text)] == [2, 3]


def test_no_fault_quotes_what_may_be_a_secret(faults_of: FaultsOf) -> None:
    text = """\
upstreams:
  a: {url: "https://user:hunter2@a.example", proxy: "hunter2://x"}
  b: {url: "https://b.example", proxy: "http://u:hunter2@p"}
  c: hunter2
credentials:
  a: {kind: api-key, secret: hunter2}
  b: {kind: api-key, secret: env:HUNTER}
  c: {kind: api-key, secret: [hunter2]}
  d: hunter2
callers:
  a: {token: hunter2, allow: "*"}
  b: {token: {hunter: hunter2}, allow: "*"}
  c: hunter2
"""
    faults = faults_of(text, environ={"HUNTER": "hunter2"})
    assert len(faults) >= 10
    assert "hunter2" not in "".join(map(str, faults))

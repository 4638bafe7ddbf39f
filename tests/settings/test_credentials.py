"""What the section of a credential means: its source, and for a minted token where and how it is minted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.core.model import KeyType, Snapshot
from proxy.credentials.mint import SessionTokenMint
from proxy.credentials.session_token import SessionToken
from proxy.credentials.sources import ExecSource, FileSource
from proxy.document import Fault
from tests.settings.conftest import KEY

Load = Callable[..., Snapshot]
FaultsOf = Callable[..., tuple[Fault, ...]]


def mint_of(snapshot: Snapshot, name: str = "live") -> SessionTokenMint:
    credential = snapshot.credentials[name]
    assert isinstance(credential, SessionToken)
    assert isinstance(credential._mint, SessionTokenMint)
    return credential._mint


def source_of(snapshot: Snapshot) -> Any:
    (credential,) = snapshot.credentials.values()
    return credential.live._source  # type: ignore[attr-defined]


def test_a_session_token_needs_a_key_and_nothing_else(load: Load) -> None:
    snapshot = load("credentials: {live: {kind: session-token, secret: env:OTHER_KEY, type: realtime-only}}")
    credential = snapshot.credentials["live"]
    assert (credential.kind, credential.power.type, credential.renews) == ("session-token", KeyType.REALTIME_ONLY, True)
    assert credential.authorization() is None
    mint = mint_of(snapshot)
    assert (mint.variant.name, mint.workspace, mint.host) == ("documented", None, None)
    assert mint.endpoint.upstream == snapshot.upstreams["inworld"]
    assert mint.endpoint.tls is not None


def test_the_other_mint_names_a_workspace(load: Load) -> None:
    mint = mint_of(
        load("credentials: {live: {kind: session-token, secret: env:OTHER_KEY, mint: samples, workspace: my-workspace, "
             'signed_host: "api-engine.example:8443"}}')
    )  # fmt: skip
    assert (mint.variant.name, mint.workspace, mint.host) == ("samples", "my-workspace", "api-engine.example:8443")


def test_a_token_is_minted_at_the_upstream_of_its_routes(load: Load) -> None:
    snapshot = load("""\
upstreams:
  us: {url: "https://api.inworld.ai"}
  eu: {url: "https://api.eu.inworld.ai"}
credentials:
  live: {kind: session-token, secret: env:INWORLD_API_KEY, type: realtime-only}
  live-eu: {kind: session-token, secret: env:OTHER_KEY}
  workspace: {kind: api-key, secret: env:OTHER_KEY}
routes:
  - {operations: realtime.session, credential: live, upstream: us}
  - {operations: "realtime.*", credential: live, upstream: us}
  - {operations: "tts.*", credential: live-eu, upstream: eu}
  - {operations: "*", credential: workspace, upstream: us}
""")
    assert mint_of(snapshot).endpoint.upstream.name == "us"
    assert mint_of(snapshot, "live-eu").endpoint.upstream.name == "eu"


def test_a_command_may_be_a_text_or_have_options(load: Load) -> None:
    argv = ["/bin/echo", KEY]
    assert source_of(
        load(f"credentials:\n  a:\n    kind: api-key\n    secret: exec:{json.dumps(argv)}\n")
    ) == ExecSource(("/bin/echo", KEY), 3600.0, ())
    options = {"exec": argv, "every": "5m", "environment": ["VAULT_ADDR", "VAULT_TOKEN"]}
    assert source_of(load(f"credentials: {{a: {{kind: api-key, secret: {json.dumps(options)}}}}}")) == ExecSource(
        ("/bin/echo", KEY), 300.0, ("VAULT_ADDR", "VAULT_TOKEN")
    )


def test_a_key_file_that_everyone_can_read_is_a_fault_unless_it_is_allowed_for_this_credential(
    load: Load, faults_of: FaultsOf, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o644)
    text = f"credentials:\n  a:\n    kind: api-key\n    secret: file:{path}\n"
    (fault,) = faults_of(text)
    assert (fault.path, fault.line) == ("credentials.a.secret", 4)
    assert "everyone on this machine" in fault.found
    assert "`allow_readable: true`" in fault.remedy
    assert source_of(load(f"{text}    allow_readable: true\n")) == FileSource(path)
    path.chmod(0o600)
    assert source_of(load(text)) == FileSource(path, private=True)


def test_the_wrong_form_of_a_key_is_said_for_minted_tokens_too(faults_of: FaultsOf) -> None:
    (fault,) = faults_of("credentials: {a: {kind: session-token, secret: env:RAW}}", environ={"RAW": "id:hunter2"})
    assert "not encoded" in fault.found


@pytest.mark.parametrize(
    "what",
    [
        "hunter2",
        ["hunter2"],
        {"exec": "hunter2"},
        {"exec": ["hunter2/x"]},
        {"exec": ["/bin/false", "hunter2"]},
        {"hunter2": 1, "exec": ["/bin/true"]},
    ],
)
def test_what_may_be_a_secret_is_not_quoted(faults_of: FaultsOf, what: object) -> None:
    faults = faults_of(f"credentials: {{a: {{kind: api-key, secret: {json.dumps(what)}}}}}")
    assert len(faults) == 1
    assert "hunter2" not in str(faults[0])

"""Where tokens for browsers and apps are minted from: the key that can do least, or the one that was named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxy.core.model import KeyPower, KeyType, Kind, Level, Snapshot
from proxy.credentials.desk import Desk, OneTimeIssuer, SessionTokenIssuer
from proxy.document import Fault
from proxy.settings.tokens import TOKEN_OPERATION, breadth

Load = Callable[..., Snapshot]
FaultsOf = Callable[..., tuple[Fault, ...]]

CONFIGURATION = """\
credentials:
  wide: {kind: api-key, secret: env:INWORLD_API_KEY, permissions: {voices: write, router: write}}
  mute: {kind: api-key, secret: env:OTHER_KEY, permissions: {voices: none, router: read}}
  narrow: {kind: api-key, secret: env:OTHER_KEY, permissions: {voices: none, router: none}}
  live-key: {kind: api-key, secret: env:OTHER_KEY, type: realtime-only}    # narrower still, and serves no speech
  session: {kind: session-token, secret: env:OTHER_KEY}
  live: {kind: session-token, secret: env:OTHER_KEY, type: realtime-only}
routes:
  - {operations: realtime.session, credential: live}
  - {operations: "realtime.*", credential: session}
  - {operations: "tts.*", credential: narrow}
  - {operations: "router.*", credential: mute}
  - {operations: "*", credential: wide}
callers:
  page: {token: "sha256:%s", allow: ["realtime.*", "proxy.token"]}
  other: {token: "sha256:%s", allow: ["tts.*"]}
tokens: """ % ("1" * 64, "2" * 64)  # noqa: UP031 - braces are YAML's here


def desk_of(snapshot: Snapshot) -> Desk:
    assert isinstance(snapshot.desk, Desk)
    return snapshot.desk


def test_without_the_section_there_is_no_operation_and_no_desk(load: Load) -> None:
    snapshot = load(CONFIGURATION.replace("tokens: ", "").replace(', "proxy.token"', ""))
    assert snapshot.desk is None
    assert TOKEN_OPERATION.name not in snapshot.policy.operations
    assert snapshot.policy.tree.find("/token") is None


def test_the_narrowest_key_is_chosen_when_none_is_named(load: Load) -> None:
    snapshot = load(CONFIGURATION + "{realtime: {}, one_time: {}}")
    desk = desk_of(snapshot)
    assert desk.purposes == ("realtime", "one-time")
    realtime, once = desk._issuers["realtime"], desk._issuers["one-time"]
    assert isinstance(realtime, SessionTokenIssuer)
    assert realtime.credential is snapshot.credentials["live"]
    assert isinstance(once, OneTimeIssuer)
    assert once.mint._key == snapshot.credentials["narrow"].current  # type: ignore[attr-defined]
    assert once.seconds == 300


def test_a_key_may_be_named_and_a_life_said(load: Load) -> None:
    snapshot = load(
        CONFIGURATION
        + "{realtime: {credential: session}, one_time: {credential: wide, allow_write: true, lifetime: 1h}}"
    )
    realtime, once = desk_of(snapshot)._issuers["realtime"], desk_of(snapshot)._issuers["one-time"]
    assert isinstance(realtime, SessionTokenIssuer)
    assert realtime.credential is snapshot.credentials["session"]
    assert isinstance(once, OneTimeIssuer)
    assert once.mint._key == snapshot.credentials["wide"].current  # type: ignore[attr-defined]
    assert once.seconds == 3600


def test_the_operation_is_granted_like_any_other(load: Load) -> None:
    snapshot = load(CONFIGURATION + "{realtime: {}}")
    assert desk_of(snapshot).purposes == ("realtime",)
    operation = snapshot.policy.operations["proxy.token"]
    assert (operation.kind, operation.methods) == (Kind.LOCAL, {"POST"})
    assert "proxy.token" in (snapshot.callers["page"].operations or ())
    assert "proxy.token" not in (snapshot.callers["other"].operations or ())


@pytest.mark.parametrize(
    ("narrower", "wider"),
    [
        (KeyPower(KeyType.REALTIME_ONLY, Level.NONE, Level.NONE), KeyPower(KeyType.STANDARD, Level.NONE, Level.NONE)),
        (KeyPower(voices=Level.NONE, router=Level.NONE), KeyPower(voices=Level.NONE, router=Level.READ)),
        (KeyPower(voices=Level.READ, router=Level.READ), KeyPower(voices=Level.WRITE, router=Level.READ)),
        (KeyPower(voices=Level.READ, router=Level.READ), KeyPower(voices=Level.NONE, router=Level.WRITE)),
    ],
)
def test_which_of_two_keys_can_do_less(narrower: KeyPower, wider: KeyPower) -> None:
    assert breadth(narrower) < breadth(wider)


def test_a_key_that_may_write_does_not_stand_for_one_that_is_broken(faults_of: FaultsOf) -> None:
    """One mistake is one fault: what cannot be told because a credential cannot be read is not said."""
    text = """\
credentials:
  key: {kind: api-key, secret: env:NOPE}
  live: {kind: session-token, secret: env:NOPE}
routes:
  - {operations: "realtime.*", credential: live}
  - {operations: "*", credential: key}
callers:
  page: {token: "sha256:%s", allow: "*"}
tokens: {realtime: {}, one_time: {}}
""".replace("%s", "1" * 64)
    assert [fault.path for fault in faults_of(text)] == ["credentials.key.secret", "credentials.live.secret"]

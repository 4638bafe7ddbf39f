"""Callers that are users of this machine, and the socket that they connect to."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.core.model import Address, Snapshot
from proxy.document import Fault
from proxy.settings.load import Overrides, SettingsError, load_settings
from tests.settings.conftest import ENVIRON

Load = Callable[..., Snapshot]
SOCKET = "listen: unix:/run/inworld-proxy/proxy.sock\n"


def _caller(snapshot: Snapshot, uid: int) -> str | None:
    assert snapshot.policy.recognise_user is not None
    caller = snapshot.policy.recognise_user(uid)
    return None if caller is None else caller.name


def test_a_caller_is_one_user_or_several_by_number_or_by_name(load: Load) -> None:
    here = pwd.getpwuid(os.getuid())
    snapshot = load(
        f"{SOCKET}callers:\n  a: {{uid: [4001, {here.pw_name}], allow: 'tts.*'}}\n  b: {{uid: 4002, allow: '*'}}\n"
    )
    assert [_caller(snapshot, uid) for uid in (4001, here.pw_uid, 4002, 4003)] == ["a", "a", "b", None]
    assert snapshot.policy.anonymous is None
    assert snapshot.callers["a"].operations is not None


def test_without_such_callers_nobody_is_asked(load: Load) -> None:
    assert load(SOCKET).policy.recognise_user is None


def test_a_unix_socket_is_as_near_as_loopback(load: Load) -> None:
    snapshot = load(f"{SOCKET}admin: unix:/run/inworld-proxy/admin.sock\n")
    assert snapshot.listen == Address("", 0, "/run/inworld-proxy/proxy.sock")
    assert snapshot.listen.is_loopback
    assert str(snapshot.admin) == "unix:/run/inworld-proxy/admin.sock"
    assert snapshot.policy.anonymous is not None
    assert snapshot.policy.hosts == {"127.0.0.1", "[::1]", "localhost"}
    assert snapshot.listen_mode == 0o600
    assert load(f'{SOCKET}listen_mode: "0660"\nhosts: [proxy]\n').listen_mode == 0o660


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "unix:/run/x"])
def test_an_inherited_unix_socket_tells_users_whatever_the_file_says(load: Load, listen: str) -> None:
    text = f"listen: {listen}\ncallers:\n  a: {{uid: 4001, allow: '*'}}\n"
    # Beside it a TCP socket is inherited, which is what is judged as the address.
    snapshot = load(text, overrides=Overrides(listen="127.0.0.1:1", knows_users=True))
    assert _caller(snapshot, 4001) == "a"


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "unix:/run/x"])
def test_a_system_that_does_not_tell_users_is_a_fault(
    faults_of: Callable[..., tuple[Fault, ...]], monkeypatch: pytest.MonkeyPatch, listen: str
) -> None:
    monkeypatch.setattr(sys, "platform", "freebsd14")
    (fault,) = faults_of(f"listen: {listen}\ncallers:\n  a: {{uid: 4001, allow: '*'}}\n")
    assert "this system (freebsd14) does not tell" in fault.found


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        (SOCKET, "listen: unix:/run/inworld-proxy/other.sock\n", "listen"),
        (SOCKET, "listen: 127.0.0.1:1\n", "listen"),
        (SOCKET, f'{SOCKET}listen_mode: "0666"\n', "listen_mode"),
        (f'{SOCKET}listen_mode: "0666"\n', SOCKET, "listen_mode"),
        (SOCKET, f"{SOCKET}admin: unix:/run/a\n", "admin"),
    ],
)
def test_a_reload_does_not_move_the_socket(load: Load, tmp_path: Path, before: str, after: str, path: str) -> None:
    keep = load(before)
    (tmp_path / "proxy.yaml").write_text(after)
    with pytest.raises(SettingsError) as raised:
        load_settings(tmp_path / "proxy.yaml", ENVIRON, keep=keep)
    (fault,) = raised.value.faults
    assert (fault.path, "restart the proxy" in fault.remedy) == (path, True)
    (tmp_path / "proxy.yaml").write_text(before)
    load_settings(tmp_path / "proxy.yaml", ENVIRON, keep=keep)

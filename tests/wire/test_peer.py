"""Who is at the other end of a unix socket, as the kernel says it."""

from __future__ import annotations

import os
import socket
import struct
import sys

import pytest

from proxy.settings.user_callers import PLATFORMS
from proxy.wire import peer
from proxy.wire.peer import ASK, peer_user


def test_the_kernel_is_asked_wherever_the_configuration_says_that_it_can_be() -> None:
    assert set(ASK) == set(PLATFORMS)


@pytest.mark.skipif(sys.platform not in PLATFORMS, reason="this system does not say")
def test_it_is_the_user_of_the_process_at_the_other_end() -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_user(one) == peer_user(other) == os.getuid()


def test_a_connection_by_ip_has_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as caller:
        assert peer_user(caller) is None


def test_on_another_system_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert peer_user(one) is None


class _Answering:
    """Stands for the kernel of a system that the test does not run on."""

    family = socket.AF_UNIX

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        if not self.answer:
            raise OSError(57, "not connected")
        return self.answer[:size]


@pytest.mark.parametrize(
    ("answer", "uid"),
    [
        (struct.pack("IIhxx16I", 0, 501, 1, *range(16)), 501),
        (struct.pack("IIhxx16I", 1, 501, 1, *range(16)), None),  # a version of the structure that is not known
        (b"\0\0", None),
        (b"", None),
    ],
)
def test_what_macos_answers_is_read(monkeypatch: pytest.MonkeyPatch, answer: bytes, uid: int | None) -> None:
    monkeypatch.setattr(peer.sys, "platform", "darwin")
    assert peer_user(_Answering(answer)) == uid  # type: ignore[arg-type]

"""The unix socket that the proxy makes: private from its first moment, in no other's place, and gone after."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from proxy.wire import socket_file
from proxy.wire.socket_file import SocketFile


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o177, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o606, 0o666])
def test_its_mode_is_what_was_asked_for_whatever_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        file = SocketFile(str(tmp_path / "s"), mode)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert _mode(tmp_path / "s") == mode
    file.close()


def test_it_has_its_mode_before_anybody_can_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    class Watched(socket.socket):
        def bind(self, address: object) -> None:
            super().bind(address)  # type: ignore[arg-type]
            with socket.socket(socket.AF_UNIX) as other:
                seen.append((_mode(tmp_path / "s"), other.connect_ex(str(tmp_path / "s"))))

    monkeypatch.setattr(socket_file.socket, "socket", Watched)
    before = os.umask(0)
    try:
        SocketFile(str(tmp_path / "s")).close()
    finally:
        os.umask(before)
    ((mode, refused),) = seen
    assert (mode, refused != 0) == (0o600, True)


def test_it_is_removed_with_its_socket_and_only_once(tmp_path: Path) -> None:
    file = SocketFile(str(tmp_path / "s"))
    file.close()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "s").touch()
    file.close()
    assert (tmp_path / "s").exists()


def test_a_socket_on_which_nobody_listens_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    before = (tmp_path / "s").lstat().st_ino, _mode(tmp_path / "s")
    file = SocketFile(str(tmp_path / "s"))
    assert before[1] != _mode(tmp_path / "s") == 0o600
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(tmp_path / "s"))
    file.close()


def test_one_on_which_somebody_listens_is_in_use_and_stays(tmp_path: Path) -> None:
    first = SocketFile(str(tmp_path / "s"))
    for _ in range(2):
        with pytest.raises(OSError, match="somebody listens there already") as raised:
            SocketFile(str(tmp_path / "s"))
        assert raised.value.errno == socket_file.errno.EADDRINUSE
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(tmp_path / "s"))
    first.close()


def test_one_that_does_not_accept_any_more_just_now_is_in_use_too(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX) as busy,
        socket.socket(socket.AF_UNIX) as one,
        socket.socket(socket.AF_UNIX) as two,
    ):
        busy.bind(str(tmp_path / "s"))
        busy.listen(0)
        for caller in (one, two):
            caller.setblocking(False)
            caller.connect_ex(str(tmp_path / "s"))
        with pytest.raises(OSError, match="somebody listens"):
            SocketFile(str(tmp_path / "s"))


@pytest.mark.parametrize(
    "kind", ["file", "folder", "link to a file", "link to a dead socket", "link to nothing", "pipe"]
)
def test_what_is_no_socket_is_a_fault_and_never_deleted(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "s", tmp_path / "other"
    match kind:
        case "file":
            path.write_text("precious")
        case "folder":
            path.mkdir()
        case "link to a file":
            other.write_text("precious")
            path.symlink_to(other)
        case "link to a dead socket":
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(other))
            path.symlink_to(other)
        case "link to nothing":
            path.symlink_to(other)
        case _:
            os.mkfifo(path)
    before = path.lstat()
    with pytest.raises(OSError, match="something that is no socket is there, and stays"):
        SocketFile(str(path))
    assert path.lstat().st_ino == before.st_ino
    assert other.exists() == (kind in {"link to a file", "link to a dead socket"})


def test_another_process_that_took_the_path_meanwhile_keeps_its_socket(tmp_path: Path) -> None:
    old = SocketFile(str(tmp_path / "s"))
    (tmp_path / "s").unlink()
    new = SocketFile(str(tmp_path / "s"))
    old.close()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(tmp_path / "s"))
    new.close()
    assert not (tmp_path / "s").exists()


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^\[Errno 2\] unix:/.*/none/s: there is no such folder$"):
        SocketFile(str(tmp_path / "none" / "s"))

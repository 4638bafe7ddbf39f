"""When the files of a configuration have changed: not while they are written, not when they are gone, never missed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.reload import WatchedFiles


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "proxy.yaml"
    path.write_text("one")
    return path


def noted(files: WatchedFiles, *more: str) -> None:
    """What a reload does."""
    files.note()
    files.follow([*files.names, *more])


def test_nothing_is_changed_until_something_is(path: Path) -> None:
    files = WatchedFiles([str(path)])
    assert [files.look() for _ in range(3)] == [False] * 3


def test_a_file_that_is_being_written_is_left_alone_until_it_rests(path: Path) -> None:
    files = WatchedFiles([str(path)])
    for text in ("", "half", "half of"):
        path.write_text(text)
        assert not files.look()
    assert files.look()
    noted(files)
    assert [files.look() for _ in range(3)] == [False] * 3


def test_a_change_while_it_is_read_is_seen_afterwards(path: Path) -> None:
    files = WatchedFiles([str(path)])
    files.note()
    path.write_text("another")
    files.follow([str(path)])
    assert [files.look(), files.look()] == [False, True]


def test_one_that_is_gone_is_said_once_and_is_a_change_only_when_it_is_back(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = WatchedFiles([str(path)])
    path.unlink()
    assert [files.look() for _ in range(4)] == [False] * 4
    assert caplog.text.count("is gone") == 1
    path.write_text("two")
    assert [files.look(), files.look()] == [False, True]
    noted(files)
    path.unlink()
    files.look()
    assert caplog.text.count("is gone") == 2


def test_one_that_was_missing_when_it_was_read_is_a_change_when_it_appears(path: Path, tmp_path: Path) -> None:
    files = WatchedFiles([str(path)])
    missing = tmp_path / "ca.pem"
    noted(files, str(missing))
    assert not files.look()
    missing.write_text("now")
    assert [files.look(), files.look()] == [False, True]


def test_what_is_no_longer_named_is_no_longer_watched(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("x")
    files = WatchedFiles([str(path), str(other)])
    files.note()
    files.follow([str(path)])
    other.write_text("changed")
    assert [files.look(), files.look()] == [False, False]


def test_a_pipe_can_be_read_once_and_is_not_watched(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    files = WatchedFiles([str(tmp_path / "pipe")])
    assert [files.look(), files.look()] == [False, False]


def test_the_same_size_and_time_in_another_file_is_a_change(path: Path, tmp_path: Path) -> None:
    files = WatchedFiles([str(path)])
    status = path.stat()
    other = tmp_path / "next"
    other.write_text("two")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)
    assert [files.look(), files.look()] == [False, True]

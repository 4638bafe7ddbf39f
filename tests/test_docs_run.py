"""Every command and script in a document runs as printed, and says what the document says it does.

A document is followed from its first block to its last by one reader (``tests/reader.py``), who has a proxy with its
sandbox at hand, as `inworld-proxy serve` starts it, and starts others where the document says so.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.processes import PATIENCE, Process, Sandbox, environment, missing
from tests.documents import BLOCKS, DOCUMENTS, README, ROOT, Block, blocks_of, name_of
from tests.reader import ADMIN, DATA, Reader, Served

RUN = ("sh", "python", "js")
"""Languages of blocks that do something."""
KINDS = {"sh": {"runs", "serves", "not run"}, "python": {"runs", "not run"}, "js": {"runs", "not run"}}
FOLLOWED = [
    document for document in DOCUMENTS if any(block.kind in {"runs", "serves"} for block in blocks_of(document))
]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in RUN], ids=str)
def test_every_block_that_does_something_is_run_or_says_why_not(block: Block) -> None:
    assert block.kind in KINDS[block.language], f"{block}: no marker; see tests/documents.py"
    if block.kind == "not run":
        assert len(block.said) >= 15, f"{block}: a reason, please"
        if block.language == "python":
            compile(block.text, str(block), "exec")


def test_no_block_is_in_a_language_that_nothing_looks_at() -> None:
    known = {*RUN, "yaml", "nginx", "json", "text"}
    assert [str(block) for block in BLOCKS if block.language not in known] == []


def test_of_the_blocks_that_readers_see_few_are_not_run() -> None:
    ours = [block for block in BLOCKS if block.language in RUN and not name_of(block.document).startswith("bench")]
    assert len(ours) > 40
    assert sum(block.kind == "not run" for block in ours) < len(ours) / 3


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """The API behind every proxy that a document starts with a key."""
    process = Process("sandbox", "--port", "0", "--announce-json", "--exit-with-parent", environ=environment())
    yield Sandbox.at(process.announced(process.out, r"^\{.*\}$")[0])
    process.end()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """`serve` without a key, on free ports."""
    command = [sys.executable, "-m", "proxy", "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        lines: list[str] = []
        try:
            # The last thing printed at start is the look at the metrics.
            while not lines or "grep" not in lines[-1]:
                lines.append(process.stderr.readline())
                assert lines[-1], "".join(lines)
            printed = "".join(lines)
            data, admin = re.findall(r"http://(127\.0\.0\.1:\d+)", printed)[:2]
            yield Served(data, admin, printed)
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


@pytest.mark.parametrize("document", FOLLOWED, ids=name_of)
def test_a_document_runs_as_printed(document: Path, sandbox: Sandbox, served: Served) -> None:
    if shutil.which("curl") is None:
        missing("curl is not installed")
    with Reader(sandbox, served) as reader:
        for block in blocks_of(document):
            reader.follow(block)


def test_the_commands_printed_at_start_are_those_of_readme(served: Served) -> None:
    printed = [shlex.split(part, comments=True) for part in served.printed.split("\n\n") if part.startswith("  curl")]
    here = [
        block.text.replace(DATA, served.data).replace(ADMIN, served.admin)
        for block in blocks_of(ROOT / "README.md")
        if block.kind == "runs" and block.text.startswith("curl")
    ]
    assert printed == [shlex.split(text) for text in here]
    assert len(printed) == 3
    assert "The three things to try are printed at start" in README

"""The documents of this repository, and what stands in them: fenced blocks with their markers, headings, anchors.

A comment above a block says what the tests do with it:

    <!-- runs -->               run in a shell (or by Python or node); must succeed
    <!-- runs: some text -->    and print that
    <!-- serves -->             its last command is a proxy that goes on; the blocks below it ask that one
    <!-- not run: reason -->    only read
    <!-- file: name -->         what the reader saves under that name, beside the commands
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_ELSEWHERE = {"node_modules", "build", "dist", "__pycache__"}
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(p in _ELSEWHERE or p.startswith(".") for p in path.relative_to(ROOT).parts)
)
"""Every document, for readers and for whoever works here."""

README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "docs" / "reference.md"

_BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block: where it stands, its language, the comment above it ("" without one) and its lines."""

    document: Path
    line: int
    language: str
    note: str
    text: str

    @property
    def kind(self) -> str:
        """What the comment asks for: ``runs``, ``serves``, ``not run``, ``file`` … or nothing."""
        return self.note.partition(":")[0]

    @property
    def said(self) -> str:
        """What the comment says of it: the text that is printed, the reason, the name."""
        return self.note.partition(":")[2].strip()

    def __str__(self) -> str:
        return f"{name_of(self.document)}:{self.line}"


def name_of(document: Path) -> str:
    """Its path in the repository."""
    return document.relative_to(ROOT).as_posix()


@cache
def blocks_of(document: Path) -> tuple[Block, ...]:
    """Every fenced block of a document, in order."""
    text = document.read_text(encoding="utf-8")
    return tuple(
        Block(document, text.count("\n", 0, found.start()) + 1, found[2], found[1] or "", found[3])
        for found in _BLOCK.finditer(text)
    )


BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]


def prose_of(document: Path) -> str:
    """A document without its blocks."""
    return _BLOCK.sub("", document.read_text(encoding="utf-8"))


def anchors_of(document: Path) -> set[str]:
    """What a link into a document may name, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.*)$", prose_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def make_targets() -> set[str]:
    """What `make` can be asked for."""
    return set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

"""A table for people: aligned columns, cut where a terminal is too narrow for them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

GAP = 2
"""Spaces between two columns."""

LEAST = 12
"""Characters that a column keeps when it is cut: less than this is no path any more."""


def terminal_width() -> int | None:
    """Columns of the terminal; None where the output is a file or a pipe, which take lines of any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def align(rows: Sequence[Sequence[str]], *, width: int | None, cut: Sequence[int] = ()) -> list[str]:
    """The rows as lines, the first with the headings. At more than ``width`` the columns of ``cut`` are shortened.

    The first of ``cut`` gives way first; columns that are not in it are whole in every case.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is not None:
        over = sum(widths) + GAP * (len(widths) - 1) - width
        for index in cut:
            less = max(0, min(over, widths[index] - LEAST))
            widths[index] -= less
            over -= less
    return [(" " * GAP).join(_fit(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in rows]


def _fit(cell: str, size: int) -> str:
    return cell.ljust(size) if len(cell) <= size else cell[: size - 1] + "…"

"""A word to the compiler of the data path (``setup.py``), which means nothing to the interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr  # noqa: PLC0414 - to be imported from here
else:

    def mypyc_attr(**_: object):  # noqa: ANN201
        """``allow_interpreted_subclasses``: Python may inherit from it; ``native_class=False``: it stays Python's."""
        return lambda cls: cls

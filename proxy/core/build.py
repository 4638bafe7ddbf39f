"""Which of the two builds this is: the source as it stands, or its data path translated to C (``setup.py``)."""

from __future__ import annotations

from proxy.core import headers

BUILD = "pure" if headers.__file__.endswith(".py") else "compiled"

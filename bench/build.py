"""Which build of ours is measured: the compiled one where that can be had, else the source as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.contract import ROOT

_PLACE = ROOT / "build" / "compiled"
_chosen: list[Path] = []


def choose(*, pure: bool) -> str:
    """Brings the compiled build up to date, unless the pure one is wanted: "", or why it is not to be had."""
    _chosen[:] = [ROOT]
    if pure:
        return ""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "compiled.py")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return " ".join(done.stderr.split()[-60:]) or f"status {done.returncode}"
    _chosen[:] = [_PLACE]
    return ""


def folder() -> Path:
    """The tree that is measured."""
    return _chosen[0] if _chosen else ROOT


def compiled() -> bool:
    """Is it the compiled one?"""
    return folder() == _PLACE


def libraries() -> Path:
    """Where what was compiled of ours lies, and nothing of anybody else."""
    return _PLACE if compiled() else ROOT / "proxy"

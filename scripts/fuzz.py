"""Random bytes at everything that reads bytes of strangers: `make fuzz`, or python scripts/fuzz.py.

The targets and what each promises are in tests/fuzz/. Every target runs for so many seconds; an input that breaks a
promise is written to a folder, with what it broke beside it. To try one again:

    .venv/bin/python scripts/fuzz.py --again .fuzz/chunks/0123456789abcdef

Prints how much was tried; ends with status 1 when something was found. Nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.fuzz.engine import Tried, fuzz, save  # noqa: E402 - found through the line above
from tests.fuzz.every import made  # noqa: E402


def main() -> int:
    """Runs the targets one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target (60)")
    parser.add_argument("--only", default="", help="names of targets, with commas between them")
    parser.add_argument("--seed", type=int, help="of the changes; without it, another each time")
    parser.add_argument("--folder", type=Path, default=ROOT / ".fuzz", help="where findings go (.fuzz)")
    parser.add_argument("--again", type=Path, help="a saved input, for the target that its folder names")
    options = parser.parse_args()
    if options.again is not None:
        return _again(options.again)
    names = {name.strip() for name in options.only.split(",") if name.strip()}
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    found: list[Path] = []
    count = 0
    with made(lambda name: not names or name in names) as targets:
        if names - {target.name for target in targets}:
            parser.error(f"no target has one of these names: {options.only}")
        for target in targets:
            tried = fuzz(target, seed=seed, seconds=options.seconds)
            count += tried.count
            print(tried, flush=True)
            found += _tell(tried, options.folder)
    print(f"{count:,} inputs in all, {len(found)} findings")
    return 1 if found else 0


def _tell(tried: Tried, folder: Path) -> list[Path]:
    saved = save(tried, folder)
    for path, reason in zip(saved, tried.findings.values(), strict=True):
        print(f"  {path}: {reason.strip().splitlines()[-1][:200]}")
    return saved


def _again(path: Path) -> int:
    with made(lambda name: name.replace(" ", "-") == path.parent.name) as targets:
        for target in targets:
            print(f"{target.name}: {target.run(path.read_bytes())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs the Dockerfile's steps outside a container: python scripts/try_dockerfile.py [--build-arg COMPILE=0] [FOLDER]

The context is what .dockerignore lets in, every RUN, COPY and WORKDIR is done in its order with the folder in the place
of `/`, and only what the last stage copies is kept. What is different from an image: the base is this machine and its
Python, for which the same versions are fetched, and their hashes taken, where it is not the image's; and apt-get only
simulates.

Prints what the environment in the last stage weighs. Without FOLDER everything is removed at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Image:
    """What came out: its files under ``root``, and what would be run."""

    root: Path
    environ: dict[str, str] = field(default_factory=dict)
    user: str = ""
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def here(self, text: str) -> str:
        """The same with the folders that the steps write to where they are now; other paths are this machine's."""
        return re.sub(r"(?<![\w.])/(?=(?:opt|source)\b)", f"{self.root}/", text)


def main() -> None:
    """Tries all steps, or ends with what the one that fails has said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("folder", nargs="?", type=Path)
    options = parser.parse_args()
    given = dict(each.split("=", 1) for each in options.build_arg)
    with tempfile.TemporaryDirectory() as scratch:
        image = build(options.folder or Path(scratch), given)
        weights = weigh(image.root / "opt")
        for name, size in weights.most_common(12):
            print(f"{size / 1e6:8.1f} MB  {name}")
        print(f"{sum(weights.values()) / 1e6:8.1f} MB  in all, beside the base")


def build(folder: Path, given: Mapping[str, str]) -> Image:
    """Runs every step of every stage in ``folder``; ``given`` are build arguments. Raises ``SystemExit``."""
    context = make_context(folder / "context")
    outside = for_this_python(context, folder / "wheels")
    (folder / "apt.conf").write_text('APT::Get::Simulate "true";\n', encoding="utf-8")
    # `python` of the base is the one that runs this script.
    python = folder / "base" / "python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}"))
    outside |= {"APT_CONFIG": str(folder / "apt.conf"), "PATH": f"{python.parent}:{os.environ['PATH']}"}
    stages: dict[str, Path] = {}
    image = Image(folder / "image")
    where = image.root
    for name, rest in instructions():
        match name:
            case "FROM":
                # The stage before this one is put aside; paths stay what they are, as they do in an image.
                if image.root.exists():
                    (alias,) = [words[2] for n, r in instructions() if n == "FROM" and len(words := r.split()) == 3]
                    stages[alias] = image.root.rename(folder / f"stage-{alias}")
                image = Image(folder / "image")
                image.root.mkdir(parents=True)
                where = image.root
            case "ARG" | "ENV":
                for word in shlex.split(rest):
                    key, _, value = word.partition("=")
                    image.environ[key] = given.get(key, value) if name == "ARG" else value
            case "WORKDIR":
                where = Path(image.here(rest)) if rest != "/" else image.root
                where.mkdir(parents=True, exist_ok=True)
            case "COPY":
                copy(rest.split(), context, stages, image, where)
            case "RUN":
                run(image.here(rest), where, {**image.environ, **outside})
            case "USER":
                image.user = rest
            case "ENTRYPOINT":
                image.entrypoint = json.loads(image.here(rest))
            case "CMD":
                image.command = json.loads(rest)
            case "HEALTHCHECK":
                image.health = json.loads(image.here(rest[rest.index("CMD") + 3 :]))
            case "EXPOSE" | "STOPSIGNAL":
                pass
            case _:
                sys.exit(f"{name}: this script does not know how to try that")
    return image


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in their order, without what stands before the first stage."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    words = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    pairs = [(name, " ".join(rest.split())) for name, rest in words]
    return pairs[next(index for index, (name, _) in enumerate(pairs) if name == "FROM") :]


def make_context(folder: Path) -> Path:
    """What `docker build` would send."""
    folder.mkdir(parents=True)
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for name in (line[1:] for line in ignore if line.startswith("!")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copy(ROOT / name, target)
    return folder


def for_this_python(context: Path, wheels: Path) -> dict[str, str]:
    """Where this is not the image's Python: fetches its wheels of the same versions, and names those by hash.

    What the steps' pip needs in its environment to find them is returned.
    """
    files = [context / "deploy" / name for name in ("constraints.txt", "constraints-build.txt")]
    texts = {file: file.read_text(encoding="utf-8") for file in files}
    if all(f"CPython {sys.version_info.major}.{sys.version_info.minor} on Linux" in text for text in texts.values()):
        return {}
    pinned = sorted({each for text in texts.values() for each in re.findall(r"^[a-z0-9-]+==\S+", text, re.MULTILINE)})
    run(shlex.join([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                    f"--dest={wheels}", *pinned]), context, {})  # fmt: skip
    found = {
        f"{re.sub('[-_.]+', '-', name).lower()}=={version}": hashlib.sha256(wheel.read_bytes()).hexdigest()
        for wheel in wheels.iterdir()
        for name, version in [wheel.name.split("-")[:2]]
    }
    for file, text in texts.items():
        # Who needs it stays above each: the bill of materials is made from that.
        changed = re.sub(
            r"^([a-z0-9-]+==\S+) \\\n(?: +--hash.*\n?)+",
            lambda match: f"{match[1]} --hash=sha256:{found[match[1]]}\n",
            text,
            flags=re.MULTILINE,
        )
        file.write_text(changed, encoding="utf-8")
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}


def copy(words: list[str], context: Path, stages: Mapping[str, Path], image: Image, where: Path) -> None:
    """Docker's rules: of a folder, what is in it; a target that ends with a slash is a folder."""
    *sources, target = words
    origin = context
    if sources[0].startswith("--from="):
        origin = stages[sources.pop(0).removeprefix("--from=")]
    for source in sources:
        found, into = origin / source.lstrip("/"), Path(image.here(target)) if target[0] == "/" else where / target
        if found.is_dir():
            shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True)
        else:
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy(found, into)


def run(command: str, where: Path, environ: Mapping[str, str]) -> None:
    """One RUN, or `SystemExit` with what it said."""
    # The fault handler of a test run, and the code that is worked on, are not in an image.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        ["/bin/sh", "-e", "-c", command], cwd=where, env={**inherited, **environ},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{command}\n{done.stdout}")


def weigh(folder: Path) -> Counter[str]:
    """Bytes by distribution, or by folder of the environment where it is none."""
    weights: Counter[str] = Counter()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            _, found, below = str(path).partition("/site-packages/")
            name = below.split("/")[0] if found else str(path.relative_to(folder)).split("/", maxsplit=2)[1]
            weights[name] += path.stat().st_size
    return weights


if __name__ == "__main__":
    main()

"""Shells really complete: bash, zsh and fish with the script that ``inworld-proxy completion`` prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from proxy.__main__ import COMMANDS, main
from tests.redis_server import missing

ROOT = Path(__file__).parents[2]
PATIENCE = 100

CONFIG = "callers:\n  storefront: {token: x}\n  studio: {token: y}\n  batch: 1\n"

BASH = """
source ./script
COMP_WORDS=(%s)
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { echo "$2"; }
_inworld_proxy_completion inworld-proxy
printf '%%s\\n' "${COMPREPLY[@]}"
"""
"""What readline does at the tab key: the words typed so far, the last one to be completed."""

FISH = "source ./script; complete -C 'inworld-proxy %s'"

ZSH = """
zmodload zsh/zpty
zpty zsh zsh -f -i
zpty -w zsh "PROMPT= RPROMPT= TERM=dumb; cd $PWD; autoload -Uz compinit; compinit -u -D; source ./script; LISTMAX=0"
zpty -w zsh "zstyle ':completion:*' list-prompt ''; bindkey '^I' list-choices; print ready"
while zpty -r zsh line; do [[ $line == ready* ]] && break; done
zpty -w -n zsh $'inworld-proxy %s\\t'
zpty -r zsh shown '*%s*'
print -r -- $shown
zpty -d zsh
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A program of this name on the path, the scripts, a configuration."""
    program = tmp_path / "bin" / "inworld-proxy"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m proxy "$@"\n')
    program.chmod(0o755)
    (tmp_path / "proxy.yaml").write_text(CONFIG)
    return tmp_path


def run(folder: Path, shell: str, script: str) -> list[str]:
    if shutil.which(shell) is None:
        missing(f"{shell} is not installed")
    printed = CliRunner().invoke(main, ["completion", shell], prog_name="inworld-proxy")
    assert printed.exit_code == 0
    (folder / "script").write_text(printed.stdout)
    environ = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "dumb"}
    done = subprocess.run(
        [shell, "-c", script], cwd=folder, env=environ, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("''", [*COMMANDS]),
        ("s", [name for name in COMMANDS if name.startswith("s")]),
        ("routes --js", ["--json"]),
        ("serve --log-format ''", ["auto", "json", "text", "off"]),
        ("explain --voices w", ["write"]),
        ("routes tts.synthesize_s", ["tts.synthesize_stream", "tts.synthesize_sync_v1alpha"]),
        ("routes re", ["realtime", "realtime.session", "realtime.calls", "realtime.ice_servers"]),
        ("explain PA", ["PATCH"]),
        ("explain GET /router", ["/router/v1/routers", "/router/v1/routers/{router}"]),
        ("explain --config proxy.yaml --as st", ["storefront", "studio"]),
        ("run --config proxy.yaml --as s", ["storefront", "studio"]),
        ("run --router ''", ["none", "read", "write"]),
        ("run --voices r", ["read"]),
        ("run --key-type r", ["realtime-only"]),
        ("doctor --voices ''", ["none", "read", "write"]),
        ("doctor --router w", ["write"]),
        ("doctor --key-type s", ["standard"]),
        ("routes --config absent.yaml --as ''", []),
        ("completion ''", ["bash", "zsh", "fish"]),
    ],
)
def test_bash_completes(typed: str, offered: list[str], folder: Path) -> None:
    assert [line for line in run(folder, "bash", BASH % f"inworld-proxy {typed}") if line] == offered


@pytest.mark.parametrize("typed", ["check --config pro", "suggest pro", "serve --config ''"])
def test_bash_leaves_files_to_its_own_completion(typed: str, folder: Path) -> None:
    assert "default" in run(folder, "bash", BASH % f"inworld-proxy {typed}")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("su", ["suggest"]), ("routes --config proxy.yaml --as ba", ["batch"]), ("explain --router r", ["read"])],
)
def test_fish_completes(typed: str, offered: list[str], folder: Path) -> None:
    assert [line.partition("\t")[0] for line in run(folder, "fish", FISH % typed)] == offered


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("c", ["check", "completion"]), ("routes realtime.", ["realtime.session", "realtime.calls"])],
)
def test_zsh_completes(typed: str, offered: list[str], folder: Path) -> None:
    # Its list comes as a terminal draws it, and ends with what stands last in it.
    drawn = "\n".join(run(folder, "zsh", ZSH % (typed, offered[-1])))
    assert all(word in drawn for word in offered)

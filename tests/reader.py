"""A reader who does what a document says, block by block, in a folder of their own.

What is printed is run as it stands. Three things differ from the reader's machine: the proxy is on free ports where the
document says 8080 and 9464, the API is a sandbox, and `…` in `INWORLD_API_KEY=…` is a key of that sandbox.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, NamedTuple, Self

from tests.clients.processes import PATIENCE, Sandbox, environment, missing
from tests.documents import ROOT, Block
from tests.secrets_watch import WATCH

DATA, ADMIN = "127.0.0.1:8080", "127.0.0.1:9464"
"""Where the documents say that the proxy is. Here it is somewhere else, so that a proxy at work is left alone."""
SECRETS = "/run/secrets/inworld"
"""Where the documents keep a key in a file; here below the reader's folder."""
PACKAGES = ROOT / "tests" / "clients" / "node" / "node_modules"

# Puts `serve` on free ports and in front of the sandbox, as far as what was typed leaves that open. Without a key and a
# file it starts a sandbox by itself.
_PROGRAM = """\
#!/bin/sh
if [ "$1" = serve ]; then
    case " $* " in *" --fd "*|*" --listen "*) ;; *) set -- "$@" --listen 127.0.0.1:0 ;; esac
    case " $* " in *" --admin-fd "*|*" --admin "*) ;; *) set -- "$@" --admin 127.0.0.1:0 ;; esac
    case " $* " in
        *" --sandbox "*|*" --upstream "*) ;;
        *" --config "*) set -- "$@" --upstream "$SANDBOX" ;;
        *) [ -z "$INWORLD_API_KEY" ] || set -- "$@" --upstream "$SANDBOX" ;;
    esac
fi
exec "{python}" -m proxy "$@"
"""


class Served(NamedTuple):
    """A proxy at work: where it is, and what it printed at start."""

    data: str
    admin: str
    printed: str


class Reader:
    """Follows one document."""

    def __init__(self, sandbox: Sandbox, served: Served) -> None:
        self._sandbox = sandbox
        self._served = served
        self._running: list[tuple[subprocess.Popen[str], threading.Thread]] = []

    def __enter__(self) -> Self:
        # Not pytest's own folder: a unix socket's path has room for a hundred characters.
        self.folder = Path(tempfile.mkdtemp(prefix="reader-"))
        for name in ("config", "deploy", "examples", "docs"):
            (self.folder / name).symlink_to(ROOT / name)
        (self.folder / "secrets").mkdir(mode=0o700)
        (self.folder / "node_modules").symlink_to(PACKAGES)
        program = self.folder / "bin" / "inworld-proxy"
        program.parent.mkdir()
        program.write_text(_PROGRAM.replace("{python}", sys.executable), encoding="utf-8")
        program.chmod(0o755)
        path = os.pathsep.join([str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environ = environment(PATH=path, PYTHONPATH=str(ROOT), SANDBOX=self._sandbox.url, HOME=str(self.folder))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self.folder)

    def follow(self, block: Block) -> None:
        """Does what the block asks for."""
        match block.kind, block.language:
            case "file", _:
                (self.folder / block.said).write_text(self._here(block.text), encoding="utf-8")
            case "serves", "sh":
                self._serve(block)
            case "not run", _:
                pass
            case _, "sh":
                self._run(block, ["sh", "-e", "-c", self._here(block.text)])
            case _, "python":
                self._run(block, [sys.executable, "-W", "error", "-c", self._here(block.text)])
            case _, "js":
                if not PACKAGES.is_dir() or shutil.which("node") is None:
                    missing("node or its packages are not installed: run scripts/node-packages.sh")
                (self.folder / "script.mjs").write_text(self._here(block.text), encoding="utf-8")
                self._run(block, ["node", "script.mjs"])

    def _here(self, text: str) -> str:
        def key(found: re.Match[str]) -> str:
            name = "realtime-only" if "REALTIME" in found[1] else "voices-write" if "NEW" in found[1] else "full"
            return f"{found[1]}={self._sandbox.keys[name]}"

        text = text.replace(DATA, self._served.data).replace(ADMIN, self._served.admin)
        text = text.replace(DATA.replace(":", "-"), self._served.data.replace(":", "-"))  # the file of a certificate
        return re.sub(r"\b(INWORLD_\w*KEY)=…", key, text).replace(SECRETS, str(self.folder / "secrets"))

    def _run(self, block: Block, command: list[str]) -> None:
        with subprocess.Popen(
            command, cwd=self.folder, env=self._environ, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                out, err = process.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                raise
        if "/token" not in block.text:  # whoever asks for a token may see it
            WATCH.read(str(block), out + err)
        assert process.returncode == 0, f"{block}\n{out}{err}"
        assert block.said in out, f"{block} printed:\n{out}{err}"
        for name in re.findall(r"\w+\.wav", block.text):
            assert (self.folder / name).read_bytes()[:4] == b"RIFF", f"{block} left no audio in {name}"

    def _serve(self, block: Block) -> None:
        self._stop()
        process = subprocess.Popen(
            ["sh", "-e", "-c", self._here(block.text)],
            cwd=self.folder, env=self._environ, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        printed: queue.SimpleQueue[str] = queue.SimpleQueue()
        reading = threading.Thread(target=_read, args=(str(block), process.stderr, printed), daemon=True)
        reading.start()
        self._running.append((process, reading))
        self._served = announced_by(printed, str(block))

    def _stop(self) -> None:
        for process, reading in self._running:
            _signal(process, signal.SIGTERM)
            process.wait(timeout=PATIENCE)
            reading.join(timeout=PATIENCE)  # the shell may end before the proxy; its standard error does not
        self._running.clear()


def announced_by(printed: queue.SimpleQueue[str], what: str) -> Served:
    """Where this proxy is, once it says so."""
    said = ""
    while not (found := re.search(r" on (\S+) ->.*\nmetrics: http://(\S+)/metrics\n", said)):
        line = printed.get(timeout=PATIENCE)
        said += line
        assert line, f"{what} did not start:\n{said}"
    return Served(found[1].partition("://")[2] or found[1], found[2], said)


def _read(what: str, stream: IO[str], printed: queue.SimpleQueue[str]) -> None:
    """Hands over every line, and at the end an empty one. No secret may be in any of them."""
    with stream:
        for line in stream:
            WATCH.read(f"`{what}`", line)
            printed.put(line)
    printed.put("")


def _signal(process: subprocess.Popen[str], number: int) -> None:
    """To the shell and what it started: they are a session of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)

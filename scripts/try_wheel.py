"""Builds the wheel, installs it into an empty environment, and serves one request through the sandbox from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Exits with a traceback when any step fails."""
    with tempfile.TemporaryDirectory() as folder:
        # From a copy: setuptools builds in the tree it is given, where a deleted module would come back from build/.
        source = Path(folder) / "source"
        shutil.copytree(ROOT / "proxy", source / "proxy", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, source)
        run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, str(source)])
        (wheel,) = Path(folder).glob("*.whl")
        venv.create(Path(folder) / "venv", with_pip=True)
        python = Path(folder) / "venv" / "bin" / "python"
        run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)])
        build = try_serve(python, folder)
        expected = "compiled" if os.environ.get("INWORLD_PROXY_COMPILE", "") not in ("", "0") else "pure"
        assert build == expected, f"this is the {build} build"
    print(f"{wheel.name}: installs into an empty environment and serves; {build}")


def try_serve(python: Path, folder: str) -> str:
    """Starts ``inworld-proxy serve`` without a key, elsewhere, asks it for speech; which build it is."""
    environ = {name: value for name, value in os.environ.items() if name != "INWORLD_API_KEY"}
    command = [str(python.parent / "inworld-proxy"), "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            url = next(word for word in first.split() if word.startswith("http://"))
            body = json.dumps({"text": "Hello", "voiceId": "Ashley", "modelId": "inworld-tts-1.5-max"}).encode()
            request = urllib.request.Request(f"{url}/tts/v1/voice", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=10) as response:
                assert json.load(response)["audioContent"]
        finally:
            process.terminate()
            process.wait(timeout=10)
    said = subprocess.run([command[0], "--version"], cwd=folder, capture_output=True, text=True, check=True).stdout
    return "compiled" if "compiled" in said else "pure"


def run(command: list[str]) -> None:
    """Runs a command that has to succeed."""
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()

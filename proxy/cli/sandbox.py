"""``inworld-proxy sandbox``: the stand-in Inworld API, alone.

What belongs here: reading the command line and printing where the sandbox is. What does not: the sandbox.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from proxy.sandbox.keys import DEMO_KEYS, KeyType, SandboxKey, key_from_text
from proxy.sandbox.options import FaultRule, SandboxOptions, fault_from_text

if TYPE_CHECKING:
    import asyncio

    from click import Context, Parameter

_Value = TypeVar("_Value")

DEFAULT_PORT = 9000
_DEFAULTS = SandboxOptions()


def _each(
    read: Callable[[str], _Value],
) -> Callable[[Context, Parameter, tuple[str, ...]], tuple[_Value, ...]]:
    """A click callback that reads every value of a repeated option, and shows the sentence of one that is wrong."""

    def callback(_context: Context, _parameter: Parameter, texts: tuple[str, ...]) -> tuple[_Value, ...]:
        try:
            return tuple(read(text) for text in texts)
        except ValueError as exc:
            raise click.BadParameter(str(exc)) from exc

    return callback


_SHARE = click.FloatRange(0, 1)
_SECONDS = click.FloatRange(0)


_EXAMPLES = """
\b
Examples:
  inworld-proxy sandbox                          on 127.0.0.1:9000, with a key of every kind printed
  inworld-proxy sandbox --latency 0.2 --fail tts.synthesize=503:0.3
                                                 slow, and three of ten syntheses fail
  inworld-proxy sandbox --key name=studio,voices=write --port 0
"""


@click.command("sandbox", short_help="Run a stand-in Inworld API for demos, tests and offline work.", epilog=_EXAMPLES)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@click.option("--latency", type=_SECONDS, default=0.0, help="Seconds before the first chunk of computed answers.")
@click.option("--between", type=_SECONDS, default=0.0, help="Seconds between chunks.")
@click.option("--chunk-bytes", type=click.IntRange(2), default=_DEFAULTS.chunk_bytes, show_default=True, help="Audio.")
@click.option("--chunk-words", type=click.IntRange(1), default=_DEFAULTS.chunk_words, show_default=True, help="Text.")
@click.option(
    "--fail",
    "faults",
    multiple=True,
    metavar="OPERATION=STATUS[:SHARE]",
    callback=_each(fault_from_text),
    help="Fail some requests: tts.synthesize=503:0.3, llm.*=reset, tts.*=cut:0.1, stt.*=stall. Repeatable.",
)
@click.option("--mint-failures", type=_SHARE, default=0.0, help="Share of token mints that answer 503.")
@click.option("--mint-latency", "mint_seconds", type=_SECONDS, default=0.0, help="Seconds that a mint takes.")
@click.option("--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Of the dice for failures.")
@click.option("--rate-limit", type=click.FloatRange(0, min_open=True), help="Requests per second and workspace.")
@click.option("--tts-sockets", type=click.IntRange(0), default=_DEFAULTS.tts_sockets, show_default=True)
@click.option("--token-lifetime", type=_SECONDS, default=_DEFAULTS.token_lifetime, show_default=True, help="Seconds.")
@click.option("--signature-skew", type=_SECONDS, default=_DEFAULTS.signature_skew, show_default=True, help="Seconds.")
@click.option("--signed-host", "signed_hosts", multiple=True, help="Also accepted in mint signatures. Repeatable.")
@click.option("--explain-bad-key", is_flag=True, help="Say so on TTS/STT sockets; the real ones stay silent.")
@click.option("--operation-polls", type=click.IntRange(0), default=_DEFAULTS.operation_polls, show_default=True)
@click.option("--operation-seconds", type=_SECONDS, default=0.0, help="Least duration of long-running operations.")
@click.option(
    "--key",
    "extra_keys",
    multiple=True,
    metavar="name=NAME,…",
    callback=_each(key_from_text),
    help="One more key: name=studio,type=standard,voices=write,router=none[,id=…,secret=…]. Repeatable.",
)
@click.option("--announce-json", is_flag=True, help="Print one line of JSON on stdout when ready, and nothing else.")
@click.option("--ready-fd", type=click.IntRange(3), help="Write that line to this file descriptor instead.")
@click.option("--exit-with-parent", is_flag=True, help="Exit when standard input ends.")
def command(  # noqa: PLR0913 - one parameter per option.
    *,
    host: str,
    port: int,
    latency: float,
    between: float,
    chunk_bytes: int,
    chunk_words: int,
    faults: tuple[FaultRule, ...],
    mint_failures: float,
    mint_seconds: float,
    seed: int,
    rate_limit: float | None,
    tts_sockets: int,
    token_lifetime: float,
    signature_skew: float,
    signed_hosts: tuple[str, ...],
    explain_bad_key: bool,
    operation_polls: int,
    operation_seconds: float,
    extra_keys: tuple[SandboxKey, ...],
    announce_json: bool,
    ready_fd: int | None,
    exit_with_parent: bool,
) -> None:
    """Run a stand-in Inworld API.

    Its keys are made up and printed at start; nothing leaves this machine. See `GET /_sandbox/seen` for what it saw and
    `GET /_sandbox/operations` for what it answers.
    """
    # Here and below, so that `--help` and the other commands do not wait for it.
    import asyncio  # noqa: PLC0415 - see above

    options = SandboxOptions(
        keys=(*DEMO_KEYS, *extra_keys),
        latency_first=latency,
        latency_between=between,
        chunk_bytes=chunk_bytes,
        chunk_words=chunk_words,
        faults=faults,
        mint_failures=mint_failures,
        mint_seconds=mint_seconds,
        seed=seed,
        rate_limit=rate_limit,
        tts_sockets=tts_sockets,
        token_lifetime=token_lifetime,
        signature_skew=signature_skew,
        signed_hosts=signed_hosts,
        explain_bad_key=explain_bad_key,
        operation_polls=operation_polls,
        operation_seconds=operation_seconds,
    )

    def ready(bound_host: str, bound_port: int) -> None:
        if ready_fd is not None:
            with os.fdopen(ready_fd, "w") as announcement:
                announcement.write(announced(bound_host, bound_port, options.keys) + "\n")
        elif announce_json:
            click.echo(announced(bound_host, bound_port, options.keys))
        else:
            click.echo(banner(bound_host, bound_port, options.keys))

    try:
        asyncio.run(_run(options, host, port, ready, exit_with_parent=exit_with_parent))
    except OSError as exc:
        raise click.ClickException(f"cannot listen on {host}:{port}: {exc.strerror}") from exc


async def _run(
    options: SandboxOptions, host: str, port: int, ready: Callable[[str, int], None], *, exit_with_parent: bool
) -> None:
    import asyncio  # noqa: PLC0415 - see command()

    # It brings aiohttp.
    from proxy.sandbox.serve import serve  # noqa: PLC0415 - see command()

    serving = asyncio.ensure_future(serve(options, host, port, ready=ready))
    if exit_with_parent:
        loop = asyncio.get_running_loop()
        threading.Thread(target=_watch_stdin, args=(loop, serving), daemon=True).start()
    try:
        await serving
    except asyncio.CancelledError:
        if not serving.cancelled():
            raise


def _watch_stdin(loop: asyncio.AbstractEventLoop, serving: asyncio.Future[None]) -> None:
    # A pipe from the parent ends when the parent does, however it dies. A thread, because a terminal or a file on
    # standard input cannot be watched by every event loop.
    # One that was never open has ended, too.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    loop.call_soon_threadsafe(serving.cancel)


def announced(host: str, port: int, keys: tuple[SandboxKey, ...]) -> str:
    """The line for a parent process: where the sandbox is, and its keys."""
    from proxy.sandbox.inspection import key_as_json  # noqa: PLC0415 - after serving has imported aiohttp anyway.

    return json.dumps({"host": host, "port": port, "keys": {key.name: key_as_json(key) for key in keys}})


def banner(host: str, port: int, keys: tuple[SandboxKey, ...]) -> str:
    """What a person sees at start."""
    shown = f"[{host}]" if ":" in host else host
    width = max(len(key.name) for key in keys)
    lines = [
        f"Inworld sandbox at http://{shown}:{port}   (made-up keys, made-up answers; Ctrl-C stops it)",
        "",
        "Keys, each to be used as it stands: Authorization: Basic <key>",
    ]
    for key in keys:
        permissions = f"voices {key.voices.value}, router {key.router.value}"
        lines.append(f"  {key.name:<{width}}  {permissions if key.type is KeyType.STANDARD else key.type.value}")
        lines.append(f"  {'':<{width}}  {key.basic}")
    lines += ["", f"What it saw: curl http://{shown}:{port}/_sandbox/seen"]
    return "\n".join(lines)

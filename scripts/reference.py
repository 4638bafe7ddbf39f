"""The tables of docs/reference.md, made from the code: settings, refusal codes, metrics, log fields, operations.

    python scripts/reference.py          writes them into docs/reference.md
    python scripts/reference.py --check  says whether it has them (exit 1: no)

Types, defaults, statuses, labels and paths come from the code. What a refusal or a log field means to an operator is
written here, and a new one without its sentence is an error that names it.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from proxy.catalogue.load import BUILT_IN, load_built_in
from proxy.core.errors import OUTCOMES, Code
from proxy.core.model import LOG_FIELDS, READ_METHODS, Kind, Operation, Permission
from proxy.observe.families import PREFIX, registry_of
from proxy.observe.metrics import Metrics
from proxy.settings import fields
from proxy.settings.load import load_settings
from proxy.settings.schema import configuration_schema

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
COMMAND = "python scripts/reference.py"

MEANINGS: Mapping[Code, str] = {
    Code.BAD_REQUEST: "The request is not valid HTTP/1.1. The message says which rule; correct the client.",
    Code.AMBIGUOUS_TARGET: "The path could be read in two ways. Send it in canonical form (README, "
    "[Permissions](../README.md#permissions)).",
    Code.UPGRADE_NOT_ALLOWED: "A WebSocket handshake at an operation that is none. Use the WebSocket path, or plain "
    "HTTP.",
    Code.CALLER_REQUIRED: "Callers are declared and the request carries no token. Send one where the key would go.",
    Code.UNKNOWN_CALLER: "The token belongs to no caller, or two tokens belong to two. Often an Inworld key was sent "
    "instead of the caller's token.",
    Code.OPERATION_NOT_GRANTED: "The caller is known and its `allow` does not name this operation. Add it there.",
    Code.READ_NOT_PERMITTED: "The key is declared with `none` for this API. Declare `read` if the key has it.",
    Code.WRITE_NOT_PERMITTED: "The key is not declared with `write` for this API. Declare it if the key has it.",
    Code.KEY_IS_REALTIME_ONLY: "A realtime-only key serves the realtime operations only. Route others to a standard "
    "key.",
    Code.TOKEN_MINT_REFUSED: "A minted token would have all the power of the key, so nobody may mint. Point the client "
    "at the proxy instead.",
    Code.ORIGIN_NOT_ALLOWED: "A web page of an origin that is not under `origins`.",
    Code.CROSS_SITE_REQUEST: "A browser says that another site's page made the request, or does not say whether one "
    "did (a name under `hosts`, plain HTTP, no `callers`).",
    Code.NO_OPERATION: "The path is in no catalogue. Correct it, or add the operation to a catalogue of your own.",
    Code.NO_ROUTE: "The operation is known and no route serves it. Add one under `routes`.",
    Code.METHOD_NOT_ALLOWED: "The path is known, with other methods; `Allow` names them.",
    Code.CALLER_STALLED: "The caller stopped reading its response for `time.idle`; its connection was cut.",
    Code.HEAD_TIMEOUT: "The request head was not complete within `time.head`.",
    Code.BODY_TIMEOUT: "The request body paused for longer than `time.body_idle`.",
    Code.BODY_TOO_LARGE: "Larger than `size.body`.",
    Code.TARGET_TOO_LONG: "The request line is longer than `size.line`.",
    Code.HOST_NOT_ALLOWED: "The Host field names none of this proxy's names. Add yours under `hosts`.",
    Code.UPGRADE_REQUIRED: "This operation is a WebSocket. Connect with a WebSocket client.",
    Code.RATE_LIMITED: "The caller sends more often than its `limits.requests`; with `limits.queue`, its turn did not "
    "come in time. `Retry-After` says when to try again.",
    Code.CONCURRENCY_LIMITED: "The caller has as many requests in flight as its `limits.concurrent`; with "
    "`limits.queue`, none ended in time. `Retry-After` says when to try again.",
    Code.ADDRESS_LIMITED: "More connections from one address than `limits.connections_per_address`.",
    Code.CONNECTIONS_LIMITED: "More connections than `limits.connections`.",
    Code.IN_FLIGHT_LIMITED: "More requests at once than `limits.in_flight`.",
    Code.TUNNELS_LIMITED: "More WebSockets at once than `limits.tunnels`.",
    Code.LIMITS_UNAVAILABLE: "Redis cannot be asked, and `limits.shared_failure` is `closed`.",
    Code.DESCRIPTORS_EXHAUSTED: "No file descriptor is left for a connection to the upstream. Raise `ulimit -n`, or "
    "set `limits.connections` lower.",
    Code.HEAD_TOO_LARGE: "The request head is larger than `size.head`, or has more than 128 fields.",
    Code.INTERNAL: "A defect of the proxy. Its standard error has the details; please report it.",
    Code.DRAINING: "The proxy is stopping. Send the request again.",
    Code.CREDENTIAL_UNAVAILABLE: "There is no valid credential just now. `Retry-After` says when to try again.",
    Code.VERSION_NOT_SUPPORTED: "Neither HTTP/1.1 nor HTTP/1.0.",
    Code.UPSTREAM_DNS_FAILED: "The upstream's name does not resolve.",
    Code.UPSTREAM_CONNECT_FAILED: "Nobody accepts connections there, or the network does not lead there.",
    Code.UPSTREAM_CONNECT_TIMEOUT: "No connection within `time.connect`.",
    Code.UPSTREAM_DNS_TIMEOUT: "The upstream's name was not resolved within `time.connect`.",
    Code.UPSTREAM_PROXY_TIMEOUT: "The CONNECT proxy did not open a tunnel within `time.connect`.",
    Code.UPSTREAM_TLS_TIMEOUT: "The TLS handshake was not over within `time.tls`.",
    Code.UPSTREAM_TLS_FAILED: "The certificate or the handshake was not acceptable. Where a company inspects TLS, name "
    "its CA in `ca`.",
    Code.UPSTREAM_PROXY_FAILED: "The CONNECT proxy refused. Check its address, user and password, and what it allows.",
    Code.UPSTREAM_CLOSED: "The upstream closed the connection before it had answered.",
    Code.UPSTREAM_INVALID_RESPONSE: "The upstream's answer was not valid HTTP/1.1.",
    Code.UPSTREAM_FIRST_BYTE_TIMEOUT: "No first byte of an answer within `time.first_byte`.",
    Code.UPSTREAM_IDLE_TIMEOUT: "The answer paused for longer than `time.idle`; what had begun was cut, so this is "
    "only in the log and the metrics.",
    Code.UPSTREAM_WRITE_TIMEOUT: "The upstream took nothing more of the request body for `time.idle`.",
    Code.TOTAL_TIMEOUT: "Not over within `time.total`.",
    Code.TUNNEL_IDLE_TIMEOUT: "Nothing was said in a WebSocket for `time.tunnel_idle`. Only in the log.",
    Code.TUNNEL_STALLED: "One side of a WebSocket did not read for a minute, or left without closing. Only in the log.",
}

LOG_MEANINGS: Mapping[str, str] = {
    "time": "When the request's head had arrived, UTC.",
    "method": "The method; `OTHER` when the head could not be read.",
    "path": "The path without its query; of a refused request only what is plain ASCII, at most 256 bytes.",
    "operation": "The operation of the catalogue.",
    "caller": "Who asked; `anonymous` where no callers are declared.",
    "status": "The status that the caller got; 101 for a WebSocket. 499: the caller left before there was one; 0: the "
    "proxy stopped before there was one.",
    "code": "The code of a refusal or failure, as in the table above.",
    "would_refuse": "In audit mode: the code with which `enforce` would have refused.",
    "ending": "`answered`, `refused`, `failed` (a failure answered here), `caller_gone`, or `aborted` (cut, after the "
    "head had gone out or when the proxy stopped).",
    "duration_ms": "From the head's arrival to the end.",
    "first_byte_ms": "From the head's arrival to the head of the upstream's answer.",
    "overhead_ms": "From the head's arrival to its leaving for the upstream, a dial and the queue included.",
    "request_bytes": "Body bytes from the caller; of a WebSocket, all bytes after the handshake.",
    "response_bytes": "Body bytes to the caller; of a WebSocket, all bytes after the handshake.",
    "messages_in": "WebSocket messages from the caller.",
    "messages_out": "WebSocket messages to the caller.",
    "upstream": "The upstream's name in the configuration.",
    "credential": "The credential's name in the configuration.",
    "reused": "Whether a pooled upstream connection served the request.",
    "retried": "Present when the pooled connection had been closed and the request went out again on a new one.",
    "request_id": "The `x-request-id` that the upstream was sent and the caller got: the caller's own, or made here.",
    "trace_id": "The trace's id, where it is not the request's.",
    "inworld_request_id": "The upstream's `x-inworld-request-id`, for its support.",
    "peer": "The address that the connection came from; for a unix socket `unix:` and the number of the user.",
}

_KINDS_OF_VALUE = (
    ("address and port, or `unix:/path`", fields.Listen),
    ("mode, in quotes", fields.SocketMode),
    ("user, or a list", fields.Users),
    ("operation or wildcard, or a list", fields.Globs),
    ("digest, or a list", fields.Digests),
    ("name", fields.Reference),
    ("duration", fields.Duration),
    ("duration or `none`", fields.DurationOrNone),
    ("size", fields.Size),
    ("rate", fields.Rate),
    ("number", fields.Count),
    ("number or `none`", fields.CountOrNone),
    ("digest", fields.Digest),
    ("`open` or `closed`", fields.FailureChoice),
    ("size or `none`", fields.SizeOrNone),
    ("source of a secret", fields.SecretSource),
    ("`env:NAME` or `file:/path`", fields.KeySource),
    ("URL", fields.BaseUrl),
    ("claims with values", fields.ClaimValues),
    ("names with `env:NAME` or `file:/path`", fields.CollectorHeaders),
    ("number from 0 to 1", fields.Share),
    ("text", fields.FilePath),
    ("`true` or `false`", bool),
    ("log field", fields.LogField),
)
_PROSE = ("default", "description", "examples", "title")


def main() -> None:
    """Writes docs/reference.md, or with ``--check`` compares it."""
    before = REFERENCE.read_text(encoding="utf-8")
    after = with_reference(before)
    if after == before:
        return
    if "--check" in sys.argv[1:]:
        sys.exit(f"docs/reference.md is not what the code says; run: {COMMAND}")
    REFERENCE.write_text(after, encoding="utf-8")


def with_reference(text: str) -> str:
    """The text with every part between reference markers made anew. Each section has to be there once."""
    for name, section in sections().items():
        marker = f"<!-- reference:{name} -->"
        pattern = re.compile(rf"({re.escape(marker)}\n).*?(<!-- end -->)", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise ValueError(f"docs/reference.md has no part, or several, between {marker} and <!-- end -->")
        text = pattern.sub(lambda match, section=section: f"{match[1]}\n{section}\n{match[2]}", text)
    return text


def sections() -> dict[str, str]:
    """Every reference part by name, as Markdown."""
    return {
        "settings": _table(("key", "value", "default", "meaning"), settings_rows()),
        "refusals": _table(("code", "status", "meaning, and what to do"), refusal_rows()),
        "metrics": _table(("metric", "type", "labels", "meaning"), metric_rows()),
        "log": _table(("field", "meaning"), log_rows()),
        "operations": _table(("operation", "methods", "path", "key permission"), operation_rows()),
    }


# -- settings ---------------------------------------------------------------------------------------------------------


def settings_rows() -> Iterator[tuple[str, ...]]:
    """Every key of a configuration, with the path that leads to it."""
    schema = configuration_schema()
    yield from _object_rows("", schema, schema["$defs"])


def _object_rows(prefix: str, schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        path = f"{prefix}{name}"
        inner, step = _inner(field, definitions)
        if inner is None:
            default = "required" if name in required else _spell_default(field)
            yield f"`{path}`", _value(field), default, field["description"]
        else:
            yield f"`{path}`", "section" if step == "." else "sections", "", field["description"]
            yield from _object_rows(f"{path}{step}", inner, definitions)


def _inner(field: dict[str, Any], definitions: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The section that this key holds, and what stands between its name and the name of a key in it."""
    for found, step in (
        (field, "."),
        *((choice, ".") for choice in field.get("anyOf", ())),
        (field.get("additionalProperties"), ".NAME."),
        *((pattern, ".NAME.") for pattern in field.get("patternProperties", {}).values()),
        (field.get("items"), "[]."),
    ):
        if isinstance(found, dict) and "$ref" in found:
            return definitions[found["$ref"].rpartition("/")[2]], step
    return None, ""


def _value(field: dict[str, Any]) -> str:
    bare = {key: value for key, value in field.items() if key not in _PROSE}
    choices = bare.get("anyOf", ())
    if {"type": "null"} in choices:
        others = [choice for choice in choices if choice != {"type": "null"}]
        return _value(others[0] if len(others) == 1 else {"anyOf": others})
    if "enum" in bare:
        return ", ".join(f"`{value}`" for value in bare["enum"])
    if bare.get("type") == "array":
        return f"list: {_value(bare['items'])}"
    for words, annotation in _KINDS_OF_VALUE:
        if TypeAdapter(annotation).json_schema() == bare:
            return words
    raise ValueError(f"no words for {bare} in scripts/reference.py; add its type to _KINDS_OF_VALUE")


def _spell_default(field: dict[str, Any]) -> str:
    default = field.get("default")
    if default is None:
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


# -- refusals, metrics, log, operations -------------------------------------------------------------------------------


def refusal_rows() -> Iterator[tuple[str, ...]]:
    """Every code by status."""
    _check_complete("MEANINGS", (code.value for code in Code), (code.value for code in MEANINGS))
    for code in sorted(Code, key=lambda code: OUTCOMES[code].status):
        yield f"`{code.value}`", str(OUTCOMES[code].status), MEANINGS[code]


def metric_rows() -> Iterator[tuple[str, ...]]:
    """Every metric of our own, as it is scraped."""
    key = base64.b64encode(b"id:secret").decode()
    snapshot = load_settings(None, {"INWORLD_API_KEY": key})
    for family in registry_of(Metrics(lambda: snapshot)).collect():
        if family.name.startswith(PREFIX):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            # The library shows labels only on samples, and a counter without any has none yet.
            labels = vars(family)["_labelnames"]
            yield f"`{name}`", family.type, ", ".join(f"`{label}`" for label in labels), family.documentation


def log_rows() -> Iterator[tuple[str, ...]]:
    """Every field of a log line, in the order of the line."""
    _check_complete("LOG_MEANINGS", LOG_FIELDS, LOG_MEANINGS)
    for name in LOG_FIELDS:
        yield f"`{name}`", LOG_MEANINGS[name]


def operation_rows() -> Iterator[tuple[str, ...]]:
    """Every operation of the built-in catalogues."""
    for catalogue in BUILT_IN:
        for operation in load_built_in(catalogue).operations:
            methods = ", ".join(sorted(operation.methods))
            kind = "WebSocket" if operation.kind is Kind.WEBSOCKET else methods
            yield f"`{operation.name}`", kind, f"`{operation.template}`", _permission(operation)


def _permission(operation: Operation) -> str:
    level = "read" if operation.methods <= READ_METHODS else "write"
    return {
        Permission.NONE: "none",
        Permission.VOICES: f"voices {level}",
        Permission.ROUTER: f"router {level}",
        Permission.REALTIME: "none; realtime-only keys too",
        Permission.MINT: "always refused",
    }[operation.permission]


def _check_complete(table: str, needed: Iterable[str], written: Iterable[str]) -> None:
    needed, written = set(needed), set(written)
    if needed != written:
        missing, left = sorted(needed - written), sorted(written - needed)
        raise ValueError(f"{table} in scripts/reference.py: write a sentence for {missing}, remove {left}")


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n" for cells in lines)


if __name__ == "__main__":
    main()

"""What to change when requests are refused, or fail: one sentence for each code, for whoever runs the proxy.

What belongs here: what the operator, or the author of the client, can do. What does not: what the caller is told
(``errors.py``, and where the decision is made), which names the setting and the value that stood in the way.
"""

from __future__ import annotations

from collections.abc import Mapping

from proxy.core.errors import Code

REMEDIES: Mapping[Code, str] = {
    Code.BAD_REQUEST: "Correct the client: what it sends is not valid HTTP/1.1, and the message says which rule it "
    "breaks.",
    Code.AMBIGUOUS_TARGET: "Let the client send the path in its one canonical form: no `//`, no dot segments, and "
    "nothing percent-encoded that need not be.",
    Code.UPGRADE_NOT_ALLOWED: "Let the client use the WebSocket operation's path, or plain HTTP for this one.",
    Code.CALLER_REQUIRED: "Give the application a caller token (`inworld-proxy token` makes one) and let it send that "
    "where the key would go.",
    Code.UNKNOWN_CALLER: "Check which token the application sends: often it is an Inworld key. `inworld-proxy token` "
    "makes a caller's token; its digest goes under `callers`.",
    Code.OPERATION_NOT_GRANTED: "Add the operation to the caller's `allow`, if the caller is meant to use it.",
    Code.READ_NOT_PERMITTED: "If the key may read this API, declare it under the credential's `permissions`; else "
    "route the operation to a key that may.",
    Code.WRITE_NOT_PERMITTED: "If the key may write to this API, declare it under the credential's `permissions`; else "
    "route the operation to a key that may.",
    Code.KEY_IS_REALTIME_ONLY: "Add a route for this operation, before the others, to a standard key.",
    Code.TOKEN_MINT_REFUSED: "Point the client at the proxy, so that it needs no token, or hand tokens out with "
    "`tokens`.",
    Code.ORIGIN_NOT_ALLOWED: "If this page may call, add its origin under `origins`.",
    Code.CROSS_SITE_REQUEST: "If the page may call, add its origin under `origins`; if a person opened it, use "
    "http://127.0.0.1 with the port.",
    Code.NO_OPERATION: "Correct the path in the client (`inworld-proxy explain` names near ones), or add the operation "
    "to a catalogue of your own.",
    Code.NO_ROUTE: "Add a route for this operation under `routes`.",
    Code.METHOD_NOT_ALLOWED: "Let the client use a method that the path has; `inworld-proxy explain` names them.",
    Code.HEAD_TIMEOUT: "Look at the network to the client. If it is merely slow, raise `time.head`.",
    Code.BODY_TIMEOUT: "Let the client send its body without long pauses, or raise `time.body_idle`.",
    Code.CALLER_STALLED: "Let the client read its answer as it comes, or raise `time.idle`.",
    Code.BODY_TOO_LARGE: "Let the client send less, or raise `size.body`.",
    Code.TARGET_TOO_LONG: "Let the client send a shorter path and query, or raise `size.line`.",
    Code.HOST_NOT_ALLOWED: "Use 127.0.0.1 or localhost in the client, or add the name under `hosts`.",
    Code.UPGRADE_REQUIRED: "Let the client connect with a WebSocket; a load balancer in between must pass `Upgrade` "
    "on.",
    Code.RATE_LIMITED: "Let the client wait for `Retry-After`, raise the caller's `limits.requests` (of tokens: "
    "`tokens.per_minute`), or let requests wait with `limits.queue`.",
    Code.CONCURRENCY_LIMITED: "Raise the caller's `limits.concurrent`, or let requests wait with `limits.queue`.",
    Code.ADDRESS_LIMITED: "Let the client use its connections again, or raise `limits.connections_per_address`: behind "
    "a load balancer all come from its addresses.",
    Code.CONNECTIONS_LIMITED: "Raise `limits.connections`, or start another process.",
    Code.IN_FLIGHT_LIMITED: "Raise `limits.in_flight`, or start another process.",
    Code.TUNNELS_LIMITED: "Raise `limits.tunnels`, or start another process.",
    Code.LIMITS_UNAVAILABLE: "See why Redis does not answer, or set `limits.shared_failure: open`.",
    Code.DESCRIPTORS_EXHAUSTED: "Raise the limit on open files (`ulimit -n`, `LimitNOFILE=`), or set "
    "`limits.connections`.",
    Code.HEAD_TOO_LARGE: "Let the client send fewer or shorter fields (cookies, most often), or raise `size.head`.",
    Code.INTERNAL: "Look at the proxy's standard error and report it: this is a defect.",
    Code.VERSION_NOT_SUPPORTED: "Let the client speak HTTP/1.1.",
    Code.DRAINING: "Nothing, if the client sends the request again: this process was stopping.",
    Code.CREDENTIAL_UNAVAILABLE: "See the credential's fault: most often the key is revoked, or the token endpoint is "
    "out of reach.",
    Code.UPSTREAM_DNS_FAILED: "Check the upstream's `url` and this machine's DNS; behind a corporate proxy, set "
    "`proxy`.",
    Code.UPSTREAM_CONNECT_FAILED: "Check the upstream's `url`, the network and its firewalls; behind a corporate "
    "proxy, set `proxy`.",
    Code.UPSTREAM_CONNECT_TIMEOUT: "Check the network and its firewalls on the way to the upstream, or raise "
    "`time.connect`.",
    Code.UPSTREAM_DNS_TIMEOUT: "Check this machine's DNS servers, or raise `time.connect`.",
    Code.UPSTREAM_PROXY_TIMEOUT: "Check the CONNECT proxy named in `proxy`, or raise `time.connect`.",
    Code.UPSTREAM_TLS_TIMEOUT: "Check the network on the way to the upstream, or raise `time.tls`.",
    Code.UPSTREAM_TLS_FAILED: "Check the upstream's `url`; where a company inspects TLS, name its CA in `ca`.",
    Code.UPSTREAM_PROXY_FAILED: "Check the CONNECT proxy's address, its user and password, and what it allows.",
    Code.UPSTREAM_CLOSED: "Try again; if it goes on, tell the upstream's operator the request id.",
    Code.UPSTREAM_INVALID_RESPONSE: "Check that the upstream's `url` is the API's: what answers there is not HTTP/1.1.",
    Code.UPSTREAM_FIRST_BYTE_TIMEOUT: "If such requests take that long, raise `time.first_byte`; else ask the "
    "upstream's operator.",
    Code.UPSTREAM_IDLE_TIMEOUT: "If such answers pause that long, raise `time.idle`; else ask the upstream's operator.",
    Code.UPSTREAM_WRITE_TIMEOUT: "If the upstream takes uploads that slowly, raise `time.idle`; else ask its operator.",
    Code.TOTAL_TIMEOUT: "Raise `time.total`, or set it to `none` where streams go on for long.",
    Code.TUNNEL_IDLE_TIMEOUT: "Let the client send pings, or raise `time.tunnel_idle`.",
    Code.TUNNEL_STALLED: "Let the client read what it is sent, and close its WebSockets.",
}

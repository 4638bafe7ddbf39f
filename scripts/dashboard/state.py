"""The panels about the proxy itself: credentials, limits, connections, configuration and process."""

from __future__ import annotations

from panel import Panel
from promql import Families

LIMITED = ("rate_limited", "concurrency_limited", "in_flight_limited", "tunnels_limited", "limits_unavailable")
"""Codes of refusals for a limit."""


def glance(of: Families) -> list[Panel]:
    """What somebody sees first."""
    return [
        Panel(
            "Requests",
            "reqps",
            {"": of.rate("requests_accepted")},
            "Heads read in a second, refused ones included.",
            kind="stat",
            width=4,
        ),
        Panel(
            "Failed or cut",
            "percentunit",
            {"": of.rate("requests_ended", ending="failed|aborted").over(of.rate("requests_ended"))},
            "Share of the requests that ended in a failure of the upstream or were cut.",
            kind="stat",
            width=4,
        ),
        Panel(
            "In flight",
            "short",
            {"": of.now("requests_in_flight")},
            "Requests being served, WebSockets included.",
            kind="stat",
            width=4,
        ),
        Panel(
            "Credentials ready",
            "bool_yes_no",
            {"": of.now("credential_ready", function="min")},
            "Whether every credential can authenticate a request at once.",
            kind="stat",
            width=4,
            good=1,
        ),
        Panel(
            "Reload failed",
            "bool_yes_no",
            {"": of.now("configuration_reload_failed", function="max")},
            "Yes: an older configuration is in force, because the last one has a fault.",
            kind="stat",
            width=4,
            good=0,
        ),
        Panel(
            "Oldest process",
            "s",
            {"": of.since("process_start_time_seconds")},
            "How long it has been running.",
            kind="stat",
            width=4,
        ),
    ]


def credentials(of: Families) -> list[Panel]:
    """Keys, tokens and key sets."""
    return [
        Panel(
            "Ready",
            "bool_yes_no",
            {
                "{{credential}} {{kind}} {{type}}": of.now(
                    "credential_ready", "credential", "kind", "type", function="min"
                )
            },
            "Whether a request can be authenticated at once, on every instance.",
            width=6,
        ),
        Panel(
            "Token left",
            "s",
            {"{{credential}}": of.until("credential_expiry_timestamp_seconds", "credential")},
            "Until the token at hand expires; it is replaced with a fifth of its life left.",
            width=6,
            signed=True,
        ),
        Panel(
            "Mints",
            "short",
            {"{{credential}}: {{result}}": of.increase("credential_mints", "credential", "result")},
            "Tokens asked for.",
            width=6,
        ),
        Panel(
            "Time of a mint",
            "s",
            {"{{credential}}": of.mean("credential_mint_seconds", "credential")},
            "On average.",
            width=6,
        ),
        Panel(
            "Refused by the upstream",
            "short",
            {
                "{{credential}}": of.increase("credential_refusals", "credential"),
                "{{credential}} is refused now": of.now("credential_refused", "credential", function="max"),
            },
            "A key that was revoked, or a token.",
            width=6,
        ),
        Panel(
            "Reads of sources",
            "short",
            {
                "{{credential}} {{source}}: {{result}}": of.increase(
                    "credential_source_reads", "credential", "source", "result"
                )
            },
            "Files and commands that hold keys, read again.",
            width=6,
        ),
        Panel(
            "Since the last success",
            "s",
            {"{{credential}}": of.since("credential_last_success_timestamp_seconds", "credential")},
            "Since the secret was last read or a token minted.",
            width=6,
        ),
        Panel(
            "Clock skew",
            "s",
            {"{{credential}}": of.now("credential_clock_skew_seconds", "credential", function="max")},
            "How far the token endpoint's clock is ahead.",
            width=6,
            signed=True,
        ),
        Panel(
            "Key sets",
            "short",
            {
                "{{key_set}}: keys": of.now("key_set_keys", "key_set", function="min"),
                "{{key_set}}: fetches, {{result}}": of.increase("key_set_fetches", "key_set", "result"),
            },
            "Keys with which callers' JWTs are verified.",
            width=12,
        ),
        Panel(
            "Credentials in answers",
            "short",
            {"{{credential}}": of.total("credential_reflections", "credential")},
            "Answers of the upstream that repeated a credential; it was made unreadable. Since the start.",
            width=12,
        ),
    ]


def limits(of: Families) -> list[Panel]:
    """Callers' limits, and Redis."""
    return [
        Panel(
            "Waiting in line",
            "short",
            {"{{caller}}": of.now("queue_waiting", "caller")},
            "Requests that wait for their caller's limits.",
        ),
        Panel(
            "Time in line",
            "s",
            {
                "p50 {{caller}}": of.quantile(0.5, "queue_wait_seconds", "caller"),
                "p99 {{caller}}": of.quantile(0.99, "queue_wait_seconds", "caller"),
            },
            "Of those that had to wait.",
        ),
        Panel(
            "Limited",
            "reqps",
            {"{{caller}}: {{code}}": of.rate("refusals", "caller", "code", code="|".join(LIMITED))},
            "Refused for a limit, the caller's own or the process's.",
        ),
        Panel(
            "Shared limits",
            "bool_yes_no",
            {"counted together": of.now("shared_limits_up", function="min")},
            "Whether the callers' rates are counted in Redis.",
        ),
        Panel("Leases", "ops", {"{{result}}": of.rate("shared_limits_leases", "result")}, "Asked for in Redis."),
        Panel(
            "Requests while Redis is gone",
            "reqps",
            {"{{choice}}": of.rate("shared_limits_fallback_requests", "choice")},
            "Let through, or refused.",
        ),
    ]


def connections(of: Families) -> list[Panel]:
    """Connections of callers."""
    return [
        Panel(
            "Open connections",
            "short",
            {"{{instance}}": of.now("caller_connections", "instance")},
            "Callers' connections.",
        ),
        Panel(
            "Opened and refused",
            "cps",
            {
                "opened": of.rate("caller_connections_opened"),
                "refused: {{code}}": of.rate("caller_connections_refused", "code"),
            },
            "New connections, and those that were one too many.",
        ),
        Panel(
            "Listener paused",
            "short",
            {
                "{{instance}} is paused": of.now("listener_paused", "instance"),
                "{{instance}}: times": of.increase("listener_pauses", "instance"),
            },
            "Accepting waits while descriptors are short.",
        ),
        Panel(
            "TLS handshakes",
            "cps",
            {"{{result}}": of.rate("caller_tls_handshakes", "result")},
            "With callers, where the listener speaks TLS.",
        ),
        Panel(
            "Certificate left",
            "s",
            {"{{instance}}": of.until("listener_certificate_expiry_timestamp_seconds", "instance")},
            "Until the listener's certificate expires; the files are read again when they change.",
            signed=True,
        ),
    ]


def process(of: Families) -> list[Panel]:
    """The process and its configuration."""
    return [
        Panel(
            "CPU",
            "percentunit",
            {"{{instance}}": of.rate("process_cpu_seconds", "instance")},
            "Of one core, which is all that a process can use.",
            width=6,
        ),
        Panel(
            "Memory",
            "bytes",
            {"{{instance}}": of.now("process_resident_memory_bytes", "instance")},
            "Resident.",
            width=6,
        ),
        Panel(
            "Descriptors",
            "percentunit",
            {"{{instance}}": of.now("process_open_fds", "instance").over(of.now("process_max_fds", "instance"))},
            "Open ones of those allowed; accepting pauses at three quarters.",
            width=6,
        ),
        Panel(
            "Tasks and log lines dropped",
            "short",
            {
                "{{instance}}: tasks": of.now("tasks", "instance"),
                "{{instance}}: lines dropped": of.increase("log_lines_dropped", "instance"),
            },
            "Tasks of the event loop; lines that nobody read fast enough.",
            width=6,
        ),
        Panel(
            "Versions",
            "short",
            {"{{version}}, Python {{python}}, {{build}}": of.now("build_info", "version", "python", "build")},
            "Instances by version.",
            width=6,
        ),
        Panel(
            "Configurations",
            "short",
            {
                "{{source}}, {{mode}}": of.now("configuration_info", "source", "mode"),
                "callers declared": of.now("configured_callers", function="max"),
            },
            "Instances by configuration in force, and its callers.",
            width=6,
        ),
        Panel(
            "Reloads",
            "short",
            {"{{result}}": of.increase("configuration_reloads", "result")},
            "Times the configuration was read again.",
            width=6,
        ),
        Panel(
            "Age of the configuration",
            "s",
            {"{{instance}}": of.since("configuration_loaded_timestamp_seconds", "instance")},
            "Since it was read.",
            width=6,
        ),
        Panel(
            "Spans",
            "short",
            {"{{result}}": of.increase("otel_spans", "result")},
            "Requests told to the collector of `otel`, and those that could not be.",
            width=6,
        ),
    ]

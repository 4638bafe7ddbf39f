"""The panels about requests: how many, how they end, how long they take, and the upstream that answers them."""

from __future__ import annotations

from panel import Panel
from promql import Families


def traffic(of: Families) -> list[Panel]:
    """How much of what, and for whom."""
    return [
        Panel("By operation", "reqps", {"{{operation}}": of.rate("requests", "operation")}, "Requests by operation."),
        Panel("By caller", "reqps", {"{{caller}}": of.rate("requests", "caller")}, "Requests by caller."),
        Panel(
            "By status",
            "reqps",
            {"{{method}} {{status}}": of.rate("requests", "method", "status")},
            "Requests by method and status; 499: the caller left first.",
        ),
        Panel(
            "By ending",
            "reqps",
            {"{{ending}}": of.rate("requests_ended", "ending")},
            "How requests ended; see the log field `ending`.",
        ),
        Panel(
            "Bytes from callers",
            "Bps",
            {"{{operation}}": of.rate("request_bytes", "operation")},
            "Bodies, and frames of WebSockets once they have ended.",
        ),
        Panel(
            "Bytes to callers",
            "Bps",
            {"{{operation}}": of.rate("response_bytes", "operation")},
            "Bodies, and frames of WebSockets once they have ended.",
        ),
    ]


def refusals(of: Families) -> list[Panel]:
    """What is refused here."""
    return [
        Panel(
            "Refused, by code",
            "reqps",
            {"{{code}}": of.rate("refusals", "code")},
            "docs/troubleshooting.md says what each code means and what to do.",
        ),
        Panel(
            "Refused, by caller",
            "reqps",
            {"{{caller}} {{code}}": of.rate("refusals", "caller", "code")},
            "Whose requests are refused.",
        ),
        Panel(
            "Cut after the head, and would-be refusals",
            "reqps",
            {
                "cut: {{code}}": of.rate("aborts", "code"),
                "audit, {{caller}}: {{code}}": of.rate("would_refuse", "caller", "code"),
            },
            "Answers that had to be cut, and what `mode: audit` lets through.",
        ),
    ]


def latency(of: Families) -> list[Panel]:
    """How long it takes, and where."""
    quantiles = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    return [
        Panel(
            "First byte",
            "s",
            {name: of.quantile(share, "first_byte_seconds") for name, share in quantiles.items()},
            "From a request's head to the first byte of the upstream's answer.",
        ),
        Panel(
            "First byte, p99 by operation",
            "s",
            {"{{operation}}": of.quantile(0.99, "first_byte_seconds", "operation")},
            "The same by operation.",
        ),
        Panel(
            "First byte, p50 by operation",
            "s",
            {"{{operation}}": of.quantile(0.5, "first_byte_seconds", "operation")},
            "The same, of the middle request.",
        ),
        Panel(
            "Whole requests",
            "s",
            {name: of.quantile(share, "request_duration_seconds") for name, share in quantiles.items()},
            "To the end of the answer; streams last as long as they play.",
        ),
        Panel(
            "Whole requests, p99 by operation",
            "s",
            {"{{operation}}": of.quantile(0.99, "request_duration_seconds", "operation")},
            "The same by operation.",
        ),
        Panel(
            "Spent here before the upstream",
            "s",
            {name: of.quantile(share, "overhead_seconds") for name, share in quantiles.items()},
            "From a request's head to its leaving for the upstream; a dial and the queue count.",
        ),
    ]


def upstream(of: Families) -> list[Panel]:
    """The way to Inworld."""
    return [
        Panel(
            "Errors",
            "ops",
            {"{{upstream}}: {{code}}": of.rate("upstream_errors", "upstream", "code")},
            "Failures of the upstream or on the way to it.",
        ),
        Panel(
            "Connections",
            "short",
            {"{{upstream}} {{state}}": of.now("upstream_connections", "upstream", "state")},
            "Connections to the upstream.",
        ),
        Panel(
            "Dials and reuses",
            "ops",
            {
                "{{upstream}} dialled": of.rate("upstream_dials", "upstream"),
                "{{upstream}} reused": of.rate("upstream_reuses", "upstream"),
            },
            "New connections, and requests that went over one that was there.",
        ),
    ]


def tunnels(of: Families) -> list[Panel]:
    """WebSockets."""
    return [
        Panel(
            "Open WebSockets", "short", {"{{operation}}": of.now("tunnels_open", "operation")}, "WebSockets open now."
        ),
        Panel(
            "Messages",
            "ops",
            {"{{operation}} {{direction}}": of.rate("tunnel_messages", "operation", "direction")},
            "Of ended WebSockets, so they come all at once.",
        ),
        Panel(
            "Lifetime",
            "s",
            {
                "p50 {{operation}}": of.quantile(0.5, "tunnel_lifetime_seconds", "operation"),
                "p99 {{operation}}": of.quantile(0.99, "tunnel_lifetime_seconds", "operation"),
            },
            "How long they lived.",
        ),
    ]

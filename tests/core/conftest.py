"""What the tests of the decision share: the real catalogue, and requests and policies made in one line."""

import types
from collections.abc import Callable, Iterable, Mapping

import pytest
from hypothesis import settings

from proxy.catalogue.load import Catalogue, load_built_in
from proxy.core.headers import sort_request_lines
from proxy.core.model import Caller, KeyPower, Policy, Recogniser, RequestHead, Route, Upstream
from proxy.core.target import OperationTree

# A busy machine is no finding: no example is failed for the time it took.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

UPSTREAM = Upstream("inworld", "https", "api.example.com", 443, "api.example.com")
READ_ONLY = KeyPower()
HANDSHAKE = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)


class StandInCredential:
    """A credential that nobody asks for its secret: deciding must not need one."""

    kind = "api-key"
    renews = False

    def __init__(self, name: str, power: KeyPower) -> None:
        self.name = name
        self.power = power

    def authorization(self) -> bytes | None:
        raise AssertionError("a decision looked at the secret")

    async def refresh(self) -> None:
        raise AssertionError("a decision asked for a fresh credential")


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return load_built_in("inworld")


@pytest.fixture(scope="session")
def tree(catalogue: Catalogue) -> OperationTree:
    return OperationTree.of(catalogue.operations)


@pytest.fixture(scope="session")
def make_head() -> Callable[..., RequestHead]:
    """``make_head("GET /path", [("Name", "value")])``: a request head, its fields sorted as the wire sorts them."""

    def make(
        request: str,
        fields: Iterable[tuple[str, str]] = (),
        *,
        version: int = 11,
        websocket: bool = False,
        host: str | None = "localhost:8080",
    ) -> RequestHead:
        method, _, target = request.partition(" ")
        pairs = [*([("Host", host)] if host is not None else []), *fields, *(HANDSHAKE if websocket else ())]
        kept, noted, _ = sort_request_lines([f"{name}: {value}".encode("latin-1") for name, value in pairs])
        return RequestHead(method, target, version, kept, noted)

    return make


@pytest.fixture(scope="session")
def routes_to(catalogue: Catalogue) -> Callable[[KeyPower], Mapping[str, Route]]:
    """Every operation, served by one key with this power."""

    def make(power: KeyPower) -> Mapping[str, Route]:
        route = Route("routes[0]", UPSTREAM, StandInCredential("workspace", power))
        return types.MappingProxyType({operation.name: route for operation in catalogue.operations})

    return make


@pytest.fixture(scope="session")
def make_policy(
    catalogue: Catalogue, tree: OperationTree, routes_to: Callable[[KeyPower], Mapping[str, Route]]
) -> Callable[..., Policy]:
    """A policy of the real catalogue; without recognisers everyone is the one anonymous caller."""

    def make(power: KeyPower = READ_ONLY, *, recognisers: tuple[Recogniser, ...] = (), **changes: object) -> Policy:
        fields: dict[str, object] = {
            "tree": tree,
            "operations": {operation.name: operation for operation in catalogue.operations},
            "anonymous": None if recognisers else Caller("anonymous", routes_to(power)),
            "recognisers": recognisers,
            "hosts": frozenset({"localhost", "127.0.0.1", "[::1]"}),
            "default_errors": catalogue.default_errors,
        }
        return Policy(**{**fields, **changes})  # type: ignore[arg-type]  # test code: the caller names the fields

    return make

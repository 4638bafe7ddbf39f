"""The built-in catalogue says what the public documentation of the API says."""

import pytest

from proxy.catalogue.load import Catalogue, load_built_in
from proxy.core.model import ErrorShape, Kind, Operation, Permission
from proxy.core.target import OperationTree

W = "/voices/v1/workspaces/w/voices"
D = "/pronunciations/v1/workspaces/w/pronunciationDictionaries"

ROWS = [
    ("POST", "/tts/v1/voice", "tts.synthesize"),
    ("POST", "/tts/v1/voice:stream", "tts.synthesize_stream"),
    ("GET", "/tts/v1/voice:streamBidirectional", "tts.synthesize_ws"),
    ("POST", "/tts/v1/voice:synthesizeAsync", "tts.synthesize_async"),
    ("POST", "/tts/v1/voice:synthesizeBatch", "tts.synthesize_batch"),
    ("GET", "/tts/v1/voice:preview", "tts.voice_preview"),
    ("GET", "/tts/v1/voices", "tts.list_voices_legacy"),
    ("POST", "/v1/audio/speech", "tts.openai_speech"),
    ("GET", "/tts/v1alpha/voices", "tts.list_voices_v1alpha"),
    ("POST", "/tts/v1alpha/text:synthesize", "tts.synthesize_v1alpha"),
    ("POST", "/tts/v1alpha/text:synthesize-sync", "tts.synthesize_sync_v1alpha"),
    ("GET", "/lro/v1alpha/workspaces/w/ttsAsyncJobs/j/operations/o", "operations.get"),
    ("POST", "/stt/v1/transcribe", "stt.transcribe"),
    ("POST", "/stt/v1/transcribe:async", "stt.transcribe_async"),
    ("GET", "/stt/v1/transcribe:streamBidirectional", "stt.transcribe_ws"),
    ("GET", "/voices/v1/voices", "voices.list"),
    ("GET", "/voices/v1/voices/w__v", "voices.get"),
    ("PATCH", "/voices/v1/voices/w__v", "voices.update"),
    ("DELETE", "/voices/v1/voices/w__v", "voices.delete"),
    ("POST", "/voices/v1/voices:clone", "voices.clone"),
    ("POST", "/voices/v1/voices:design", "voices.design"),
    ("POST", "/voices/v1/voices/w__v:publish", "voices.publish"),
    ("POST", "/voices/v1/voices/w__v:issueCopyToken", "voices.issue_copy_token"),
    ("POST", "/voices/v1/voices:redeemCopyToken", "voices.redeem_copy_token"),
    ("GET", W, "voices.workspace_list"),
    ("GET", f"{W}/v", "voices.workspace_get"),
    ("PATCH", f"{W}/v", "voices.workspace_update"),
    ("DELETE", f"{W}/v", "voices.workspace_delete"),
    ("POST", f"{W}:clone", "voices.workspace_clone"),
    ("POST", f"{W}:design", "voices.workspace_design"),
    ("POST", f"{W}/v:publish", "voices.workspace_publish"),
    ("GET", D, "pronunciations.list"),
    ("GET", f"{D}/d", "pronunciations.get"),
    ("POST", D, "pronunciations.create"),
    ("PATCH", f"{D}/d", "pronunciations.update"),
    ("DELETE", f"{D}/d", "pronunciations.delete"),
    ("GET", "/router/v1/routers", "router.list"),
    ("GET", "/router/v1/routers/r", "router.get"),
    ("POST", "/router/v1/routers", "router.create"),
    ("PATCH", "/router/v1/routers/r", "router.update"),
    ("DELETE", "/router/v1/routers/r", "router.delete"),
    ("POST", "/v1/chat/completions", "llm.chat_completions"),
    ("POST", "/v1/messages", "llm.messages"),
    ("POST", "/v1/responses", "llm.responses_create"),
    ("GET", "/v1/responses/r", "llm.responses_get"),
    ("DELETE", "/v1/responses/r", "llm.responses_delete"),
    ("POST", "/v1/responses/r/cancel", "llm.responses_cancel"),
    ("GET", "/v1/responses/r/input_items", "llm.responses_input_items"),
    ("POST", "/v1/moderations", "llm.moderations"),
    ("POST", "/v1/chat/moderations", "llm.chat_moderations"),
    ("POST", "/alpha/decisions", "llm.decisions"),
    ("POST", "/llm/v1alpha/completions:completeChat", "llm.complete_chat_v1alpha"),
    ("POST", "/llm/v1alpha/completions:completeText", "llm.complete_text_v1alpha"),
    ("GET", "/llm/v1alpha/models", "models.list"),
    ("GET", "/api/v1/realtime/session", "realtime.session"),
    ("POST", "/v1/realtime/calls", "realtime.calls"),
    ("GET", "/v1/realtime/ice-servers", "realtime.ice_servers"),
    ("POST", "/auth/v1/tokens", "auth.create_one_time_token"),
    ("POST", "/v1/sessionTokens/token:generate", "auth.mint_session_token"),
    ("POST", "/auth/v1/tokens/token:generate", "auth.mint_session_token_worldengine"),
]

LEFT_OUT = [
    ("GET", "/v1/models"),
    ("POST", "/ai.inworld.engine.WorldEngine/GenerateToken"),
    ("POST", "/v1/workspaces/w/characters/c:simpleSendText"),
    ("GET", "/studio/v1/anything"),
    ("POST", "/cloud/workspaces/w/graphs/g/v1/graph:start"),
    ("POST", "/api/v1/inworld-assistant"),
    ("GET", "/v1/session/open"),
]

GATED = {"voices": Permission.VOICES, "pronunciations": Permission.VOICES, "router": Permission.ROUTER,
         "realtime": Permission.REALTIME, "auth": Permission.MINT}  # fmt: skip


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_built_in("inworld")


@pytest.fixture(scope="module")
def tree(catalogue: Catalogue) -> OperationTree:
    return OperationTree.of(catalogue.operations)


@pytest.mark.parametrize(("method", "path", "name"), ROWS)
def test_each_row_is_found_by_its_method_and_path(tree: OperationTree, method: str, path: str, name: str) -> None:
    found = tree.find(path)
    assert found is not None
    assert found[method].name == name


def test_there_are_no_operations_but_these(catalogue: Catalogue) -> None:
    assert {operation.name for operation in catalogue.operations} == {name for _, _, name in ROWS}


@pytest.mark.parametrize(("method", "path"), LEFT_OUT)
def test_what_is_left_out_is_not_found(tree: OperationTree, method: str, path: str) -> None:
    assert method not in (tree.find(path) or {})


def test_head_is_allowed_where_get_is_and_nowhere_on_a_websocket(catalogue: Catalogue) -> None:
    for operation in catalogue.operations:
        match operation.kind:
            case Kind.WEBSOCKET:
                assert operation.methods == {"GET"}, operation.name
            case Kind.HTTP:
                assert ("GET" in operation.methods) == ("HEAD" in operation.methods), operation.name
        assert "OPTIONS" not in operation.methods


def test_there_are_three_websockets(catalogue: Catalogue) -> None:
    sockets = {operation.name for operation in catalogue.operations if operation.kind is Kind.WEBSOCKET}
    assert sockets == {"tts.synthesize_ws", "stt.transcribe_ws", "realtime.session"}


def test_permissions_follow_the_family(catalogue: Catalogue) -> None:
    for operation in catalogue.operations:
        assert operation.family == operation.name.partition(".")[0]
        assert operation.permission is GATED.get(operation.family, Permission.NONE), operation.name


def test_only_the_realtime_socket_keeps_a_query_parameter_named_key(catalogue: Catalogue) -> None:
    keeps = {operation.name: set(operation.keeps_query) for operation in catalogue.operations if operation.keeps_query}
    assert keeps == {"realtime.session": {"key"}}


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("tts.synthesize", ErrorShape.GRPC),
        ("tts.synthesize_stream", ErrorShape.GRPC_STREAM),
        ("tts.openai_speech", ErrorShape.OPENAI),
        ("llm.chat_completions", ErrorShape.OPENAI),
        ("llm.responses_get", ErrorShape.OPENAI),
        ("llm.decisions", ErrorShape.OPENAI),
        ("llm.messages", ErrorShape.ANTHROPIC),
        ("realtime.session", ErrorShape.OPENAI),
        ("voices.clone", ErrorShape.GRPC),
        ("models.list", ErrorShape.GRPC),
    ],
)
def test_errors_have_the_shape_that_the_operations_clients_parse(
    catalogue: Catalogue, name: str, shape: ErrorShape
) -> None:
    by_name: dict[str, Operation] = {operation.name: operation for operation in catalogue.operations}
    assert by_name[name].errors is shape


@pytest.mark.parametrize(("method", "path", "name"), ROWS)
def test_default_error_shapes_agree_with_the_operations_where_a_prefix_is_named(
    catalogue: Catalogue, tree: OperationTree, method: str, path: str, name: str
) -> None:
    shape = next((shape for prefix, shape in catalogue.default_errors if path.startswith(prefix)), ErrorShape.GRPC)
    found = tree.find(path)
    assert found is not None
    expected = found[method].errors
    assert shape is (ErrorShape.GRPC if expected is ErrorShape.GRPC_STREAM else expected)


def test_the_catalogue_says_where_the_api_is(catalogue: Catalogue) -> None:
    assert (catalogue.name, catalogue.url) == ("inworld", "https://api.inworld.ai")

"""Each example under ``config/`` is complete: it loads as it stands, given its secrets."""

import base64
from pathlib import Path

import pytest

from proxy.core.model import CallerLimits, Snapshot
from proxy.settings.load import load_settings

FOLDER = Path(__file__).parents[2] / "config"
EXAMPLES = sorted(FOLDER.glob("*.yaml"))
KEY = base64.b64encode(b"keyId:s3cr3t").decode()
ENVIRON = {"INWORLD_API_KEY": KEY, "INWORLD_REALTIME_KEY": KEY}


def load_example(path: Path, tmp_path: Path) -> Snapshot:
    (tmp_path / "api-key").write_text(f"{KEY}\n")
    (tmp_path / "api-key").chmod(0o600)
    text = path.read_text(encoding="utf-8").replace("/run/secrets/inworld/", f"{tmp_path}/")
    (tmp_path / path.name).write_text(text, encoding="utf-8")
    return load_settings(tmp_path / path.name, ENVIRON)


def test_there_are_three() -> None:
    assert [path.stem for path in EXAMPLES] == ["egress", "kubernetes", "local"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_names_the_schema_in_its_first_line(path: Path) -> None:
    first, *_ = path.read_text(encoding="utf-8").splitlines()
    assert first == "# yaml-language-server: $schema=../proxy/settings/schema.json"
    assert (FOLDER / first.partition("=")[2]).is_file()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_loads(path: Path, tmp_path: Path) -> None:
    snapshot = load_example(path, tmp_path)
    assert snapshot.routes
    assert snapshot.listen.is_loopback or snapshot.callers


def test_the_page_brings_a_configuration_that_hands_out_realtime_tokens_to_its_one_origin(tmp_path: Path) -> None:
    path = FOLDER.parent / "examples" / "realtime-page" / "proxy.yaml"
    first, *_ = path.read_text(encoding="utf-8").splitlines()
    assert (path.parent / first.partition("=")[2]).is_file()
    snapshot = load_example(path, tmp_path)
    assert snapshot.policy.origins == {"http://127.0.0.1:3000"}
    assert snapshot.desk is not None
    assert snapshot.desk.purposes == ("realtime",)
    assert snapshot.callers["page"].operations == {"realtime.session", "proxy.token"}


def test_the_local_one_is_what_happens_without_a_file(tmp_path: Path) -> None:
    snapshot = load_example(FOLDER / "local.yaml", tmp_path)
    bare = load_settings(None, ENVIRON)
    assert (snapshot.listen, snapshot.admin, snapshot.upstreams) == (bare.listen, bare.admin, bare.upstreams)
    assert snapshot.credentials["workspace"].power == bare.credentials["default"].power


def test_the_shared_one_sends_realtime_out_with_the_realtime_only_key(tmp_path: Path) -> None:
    storefront = load_example(FOLDER / "egress.yaml", tmp_path).callers["storefront"]
    assert storefront.routes["realtime.session"].credential.name == "live"
    assert storefront.routes["tts.synthesize"].credential.name == "workspace"
    assert storefront.limits == CallerLimits(50.0, 20, 2.0)
    assert storefront.operations is not None
    assert "voices.clone" not in storefront.operations


def test_the_one_for_kubernetes_has_no_route_to_write_voices(tmp_path: Path) -> None:
    snapshot = load_example(FOLDER / "kubernetes.yaml", tmp_path)
    assert snapshot.policy.hosts is None
    assert "voices.clone" not in snapshot.callers["assistant"].routes

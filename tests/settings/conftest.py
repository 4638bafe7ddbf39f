"""What the tests of the configuration share: a valid key, a file to load, and all of its faults."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from proxy.core.model import Snapshot
from proxy.document import Fault
from proxy.settings.load import Overrides, SettingsError, load_settings

KEY = base64.b64encode(b"keyId:s3cr3t").decode()
ENVIRON = {"INWORLD_API_KEY": KEY, "OTHER_KEY": base64.b64encode(b"other:s3cr3t").decode()}
NOTHING = Overrides()


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Snapshot]:
    def load(text: str, *, overrides: Overrides = NOTHING, environ: Mapping[str, str] = ENVIRON) -> Snapshot:
        (tmp_path / "proxy.yaml").write_text(text, encoding="utf-8")
        return load_settings(tmp_path / "proxy.yaml", environ, overrides)

    return load


@pytest.fixture
def faults_of(load: Callable[..., Snapshot]) -> Callable[..., tuple[Fault, ...]]:
    def faults_of(text: str, **more: object) -> tuple[Fault, ...]:
        with pytest.raises(SettingsError) as raised:
            load(text, **more)
        return raised.value.faults

    return faults_of

"""What the rows share: one set of certificates, and assertions that say what they compared."""

from __future__ import annotations

import pytest

from tests.certificates import Certificates

pytest.register_assert_rewrite("tests.faults.runner")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))

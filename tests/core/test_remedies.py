"""What to change: a sentence for every code, that names only settings which there are."""

from __future__ import annotations

import re

import pytest

from proxy.core.errors import Code
from proxy.core.remedies import REMEDIES
from proxy.settings.schema import configuration_schema

SETTING = re.compile(r"`((?:time|size|limits|tokens)\.[a-z_]+)`")


def test_every_code_has_its_remedy_and_no_other_is_there() -> None:
    assert set(REMEDIES) == set(Code)


@pytest.mark.parametrize("code", list(Code), ids=lambda code: code.value)
def test_a_remedy_is_a_sentence(code: Code) -> None:
    text = REMEDIES[code]
    assert text.endswith(".")
    assert text[0].isupper()
    assert text.count("`") % 2 == 0


@pytest.mark.parametrize("code", list(Code), ids=lambda code: code.value)
def test_a_remedy_names_only_settings_that_exist(code: Code) -> None:
    text = str(configuration_schema())
    for name in SETTING.findall(REMEDIES[code]):
        assert f"'{name.partition('.')[2]}'" in text, name

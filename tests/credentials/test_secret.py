"""A secret is not shown by accident."""

import copy
import logging
import pickle
import traceback
from dataclasses import asdict, dataclass

import pytest

from proxy.credentials.secret import Secret

HIDDEN = "hunter2-correct-horse"


def test_reveal_gives_it_back() -> None:
    assert Secret(HIDDEN).reveal() == HIDDEN


def test_its_repr_is_a_mask() -> None:
    assert repr([Secret(HIDDEN)]) == "[Secret(…)]"


@pytest.mark.parametrize("show", [str, "{}".format, "%s".__mod__, lambda secret: f"{secret:>30}", print])
def test_it_cannot_be_turned_into_text(show) -> None:
    with pytest.raises(TypeError) as raised:
        show(Secret(HIDDEN))
    assert HIDDEN not in str(raised.value)


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy, hash, vars, iter, len])
def test_it_cannot_be_copied_pickled_or_taken_apart(take) -> None:
    with pytest.raises(TypeError):
        take(Secret(HIDDEN))


def test_it_does_not_leave_in_a_dataclass_turned_into_a_dict() -> None:
    @dataclass
    class Holder:
        secret: Secret

    with pytest.raises(TypeError):
        asdict(Holder(Secret(HIDDEN)))


def test_it_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        Secret(HIDDEN)._value = "x"  # type: ignore[misc]


def test_logging_one_writes_no_secret(capsys) -> None:
    logger = logging.Logger("test")  # noqa: LOG001 - one that nothing else shares
    logger.addHandler(logging.StreamHandler())
    logger.warning("the key is %s", Secret(HIDDEN))
    assert HIDDEN not in capsys.readouterr().err


def test_a_traceback_with_locals_shows_the_mask() -> None:
    secret = Secret(HIDDEN)
    try:
        raise ValueError(secret)  # noqa: TRY301 - the traceback is what is tested
    except ValueError as exc:
        shown = "".join(traceback.TracebackException.from_exception(exc, capture_locals=True).format())
    del secret
    assert "secret = Secret(…)" in shown


def test_secrets_compare_by_value() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"

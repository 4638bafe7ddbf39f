"""Durations and sizes are read as people write them, and spelled back the shortest way."""

import pytest

from proxy.document import UnusableError
from proxy.settings.units import (
    parse_count,
    parse_duration,
    parse_duration_or_none,
    parse_rate,
    parse_size,
    parse_size_or_none,
    spell_duration,
    spell_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("500ms", 0.5), ("300ms", 0.3), ("2m", 120), ("1h", 3600), ("1.5h", 5400), ("2d", 172800),
     ("10 s", 10), (10, 10), (0.25, 0.25)],
)  # fmt: skip
def test_durations_have_a_unit_or_are_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "rate"), [("50/s", 50), ("600/m", 10), ("3600/h", 1), ("0.5/s", 0.5), ("50 / s", 50), ("1/h", 1 / 3600)]
)
def test_rates_are_requests_in_a_time(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["50", 50, "50/d", "50/", "/s", "-1/s", "1e3/s", "50/10s", "", True, None, ["50/s"]])
def test_anything_else_is_no_rate(text: object) -> None:
    with pytest.raises(UnusableError, match="write a rate"):
        parse_rate(text)


@pytest.mark.parametrize("value", [True, "20", 2.0, None, []])
def test_a_count_is_a_whole_number(value: object) -> None:
    assert parse_count(20) == 20
    with pytest.raises(UnusableError, match="a whole number"):
        parse_count(value)


@pytest.mark.parametrize("nothing", ["0/s", "0.000/h"])
def test_a_limit_lets_something_through(nothing: str) -> None:
    with pytest.raises(UnusableError, match="lets nothing through"):
        parse_rate(nothing)
    with pytest.raises(UnusableError, match="lets nothing through"):
        parse_count(-1)


@pytest.mark.parametrize(
    "text", ["10", "10 sec", "-1s", "1s ", "", "s", ".5s", True, None, [], "1m30s", "1e3s", "∞", "१s"]
)
def test_anything_else_is_no_duration(text: object) -> None:
    with pytest.raises(UnusableError, match="write a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", [0, "0s", "0.0ms", -3, -0.5])
def test_a_limit_leaves_some_time(text: object) -> None:
    with pytest.raises(UnusableError, match="more than zero"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("8KiB", 8192), ("8KB", 8000), ("512MB", 512_000_000), ("1.5MiB", 1572864), ("1GiB", 2**30), ("2 GB", 2 * 10**9),
     ("77B", 77), (77, 77)],
)  # fmt: skip
def test_sizes_have_a_unit_or_are_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["8K", "8kib", "8", "-1B", "", True, None, {}, "1TB"])
def test_anything_else_is_no_size(text: object) -> None:
    with pytest.raises(UnusableError, match="write a size"):
        parse_size(text)


@pytest.mark.parametrize("text", [0, -1, "0KiB", "0.1B"])
def test_a_limit_leaves_some_room(text: object) -> None:
    with pytest.raises(UnusableError, match="more than zero"):
        parse_size(text)


def test_none_is_no_limit_only_where_there_may_be_none() -> None:
    assert parse_duration_or_none("none") is None
    assert parse_size_or_none("none") is None
    assert parse_duration_or_none("1s") == 1
    assert parse_size_or_none("1B") == 1
    with pytest.raises(UnusableError, match="`1d`"):
        parse_duration("none")
    with pytest.raises(UnusableError, match="`64KiB`"):
        parse_size("none")


@pytest.mark.parametrize("seconds", [0.0001, 0.3, 0.5, 1, 1.5, 15, 60, 75, 90, 120, 600, 3600, 5400, 86400])
def test_a_duration_is_spelled_so_that_it_is_read_back(seconds: float) -> None:
    assert parse_duration(spell_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize("size", [1, 1000, 1024, 8192, 512_000_000, 2**30])
def test_a_size_is_spelled_so_that_it_is_read_back(size: int) -> None:
    assert parse_size(spell_size(size)) == size


def test_the_shortest_spelling_is_chosen() -> None:
    assert [spell_duration(seconds) for seconds in (75.0, 120.0, 3600.0, 0.5)] == ["75s", "2m", "1h", "500ms"]
    assert [spell_size(size) for size in (8192, 1000, 2**20)] == ["8KiB", "1000B", "1MiB"]

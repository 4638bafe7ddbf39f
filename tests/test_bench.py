"""A short `make bench`: it measures ours and the naive one, refuses a proxy that does not do the job, and draws."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import contract
from bench.measure import TESTS, Options
from bench.peers import Place, Target, find_peers, naive
from bench.plot import plot
from bench.processes import Launch
from bench.rig import Rig
from bench.rounds import measure_all
from bench.table import comparison, ratio, summarise

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark needs Linux: affinity, /proc, memfd")


@pytest.mark.timeout(300)
def test_a_short_run_measures_ours_and_the_naive_one_without_an_error(tmp_path: Path) -> None:
    options = ["--rounds", "1", "--seconds", "0.3", "--streams", "20", "--output", str(tmp_path / "results.json")]
    command = [
        sys.executable,
        "-m",
        "bench",
        "--pure",
        *options,
        "--targets",
        "naive,product",
        "--tests",
        "get,ws20,stream",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["refused"] == {}
    expected = {"ws20", "stream"} | ({"get"} if shutil.which("wrk") else set())
    assert set(results["summary"]) == expected
    for figures in results["summary"].values():
        assert set(figures) == {"naive", "product"}
        for target in figures.values():
            assert target["errors"]["sum"] == 0
            assert target["cpu"]["median"] > 0
    assert "| `ws20` CPU µs/echo |" in done.stdout
    assert "No errors." in done.stdout


# -- who is refused ---------------------------------------------------------------------------------------------------


@pytest.fixture
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as folder, Rig(Path(folder)) as made:
        made.begin()
        yield made


def _naive_with(authorization: str) -> Target:
    def launch(place: Place) -> Launch:
        return naive(dataclasses.replace(place, injected=authorization))

    return Target("naive", "with another key", launch)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (contract.SHOWN, "the upstream did not see the key, the upstream saw the caller's token"),
        ("Basic b3RoZXI6a2V5", "the upstream did not see the key"),
    ],
    ids=["the caller's token", "another key"],
)
def test_a_proxy_that_does_not_put_the_key_on_is_refused_and_not_timed(
    rig: Rig, authorization: str, reason: str
) -> None:
    result = measure_all(rig, [_naive_with(authorization)], [TESTS["ws20"]], 1, Options(0.1, 1))
    assert result.rows == []
    faults = result.refused["naive"]
    assert "GET of 1 KB: status 401" in faults
    assert f"key: {reason}" in faults


@pytest.mark.timeout(300)
def test_what_lets_everything_through_or_does_not_start_is_refused(rig: Rig) -> None:
    assert rig.upstream is not None
    here, _ = find_peers()
    upstream = rig.place(here["direct"], tls=False).port

    def forward(place: Place) -> Launch:
        return Launch([sys.executable, "-c", _FORWARD, str(place.port), str(upstream)], place.file(".log"))

    def fail(place: Place) -> Launch:
        return Launch([sys.executable, "-c", "raise SystemExit('no reason')"], place.file(".log"))

    targets = [Target("everything", "", forward), Target("nothing", "", fail)]
    result = measure_all(rig, targets, [TESTS["ws20"]], 1, Options(0.1, 1))
    assert result.rows == []
    assert "unknown path: status 200 instead of a refusal" in result.refused["everything"]
    assert "unknown method: status 200 instead of a refusal" in result.refused["everything"]
    assert result.refused["nothing"] == ["ended with status 1: no reason"]


_FORWARD = """
import asyncio, sys

async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()

async def serve(reader, writer):
    there = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""

# -- what comes of figures --------------------------------------------------------------------------------------------

ROWS = [
    {"test": "get", "round": 0, "target": "nginx", "errors": 0, "cpu": 10.0, "rate": 50_000.0, "wanted": 0.99},
    {"test": "get", "round": 0, "target": "product", "errors": 0, "cpu": 30.0, "rate": 20_000.0, "wanted": 0.5},
    {"test": "get", "round": 1, "target": "nginx", "errors": 0, "cpu": 20.0, "rate": 25_000.0, "wanted": 0.99},
    {"test": "get", "round": 1, "target": "product", "errors": 2, "cpu": 40.0, "rate": 15_000.0, "wanted": 0.5},
    {"test": "delay", "round": 0, "target": "product", "errors": 0, "p50": 90.0, "added": -10.0, "cpu": 50.0},
]
RESULTS = {
    "date": "2026-01-02",
    "machine": {"shape": "2 cores (a <fast> one & virtual)", "kernel": "6.1"},
    "options": {"rounds": 2, "seconds": 1.0},
    "targets": {"nginx": "1.22.1", "product": "0.1.0"},
    "first": "nginx",
    "left_out": {"envoy": "no envoy on this machine"},
    "refused": {"haproxy": ["stream: chunks come together"]},
    "rows": ROWS,
    "summary": summarise(ROWS, "nginx"),
}


def test_ratios_are_taken_inside_a_round() -> None:
    found = summarise(ROWS, "nginx")["get"]["product"]["cpu"]
    assert found == {"median": 35.0, "min": 30.0, "max": 40.0, "ratio": {"median": 2.5, "min": 2.0, "max": 3.0}}


def test_ratios_to_every_peer_and_to_the_import_stand_below() -> None:
    rows = [
        {"test": "get", "round": number, "target": target, "errors": 0, "cpu": cpu * (number + 1)}
        for number in (0, 1)
        for target, cpu in (("nginx", 10.0), ("envoy", 40.0), ("naive", 80.0), ("product", 20.0 + 20 * number))
    ]
    rows += [
        {"test": "start", "round": 0, "target": target, "errors": 0, "time": time}
        for target, time in (("product", 300.0), ("import aiohttp.web", 250.0))
    ]
    assert ratio(rows, "get", "cpu", ("product", "nginx")) == {"median": 3.0, "min": 2.0, "max": 4.0}
    assert ratio(rows, "get", "rate", ("product", "nginx")) is None
    targets = dict.fromkeys(("direct", "nginx", "envoy", "naive", "product"), "1")
    text = comparison({**RESULTS, "targets": targets, "rows": rows, "summary": summarise(rows, "nginx")})
    assert "| product to | nginx | envoy | naive |" in text
    assert "| `get` CPU µs/request | 3.00 (2.00–4.00) | 0.75 (0.50–1.00) | 0.38 (0.25–0.50) |" in text
    assert "takes 250 ms; the start of product is 1.20 (1.20–1.20) times that." in text


def test_the_table_says_what_was_left_out_refused_in_error_or_set_by_the_load() -> None:
    text = comparison(RESULTS)
    assert "| `get` CPU µs/request | 15.0 | 35.0 · 2.50 (2.00–3.00) |" in text
    assert "| 17,500° · " in text
    assert "Left out: envoy, no envoy on this machine." in text
    assert "REFUSED: haproxy: stream: chunks come together." in text
    assert "Errors: 2 of product in get." in text


def test_the_plot_is_well_formed_and_names_every_target_test_and_condition() -> None:
    drawn = ET.fromstring(plot(RESULTS))
    texts = [element.text or "" for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"nginx", "product"} <= set(texts)
    assert {TESTS["get"].words, TESTS["delay"].words} <= set(texts)
    assert any("2026-01-02" in text and "a <fast> one & virtual" in text for text in texts)
    assert any("CPU µs/request" in text and "less is better" in text for text in texts)
    for bar in drawn.iter("{http://www.w3.org/2000/svg}rect"):
        assert float(bar.attrib["width"]) > 0
    assert "prefers-color-scheme: dark" in plot(RESULTS)


@pytest.mark.parametrize("file", sorted((ROOT / "bench").glob("*.py")), ids=lambda path: path.name)
def test_no_file_of_the_benchmark_is_longer_than_others_may_be(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300


def test_every_test_is_explained_in_its_readme() -> None:
    readme = (ROOT / "bench" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([a-z0-9-]+)`", readme, re.MULTILINE))
    assert {name for name in TESTS if not name.endswith("-tls")} <= named

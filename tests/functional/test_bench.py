"""build/bench measures what it says it does, and says so when a plugin did not do its work."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from build.benchmark.cost import Calls, count
from build.benchmark.measures import in_turn
from cni_ovs import __version__
from tests.support.plugin import REPOSITORY
from tests.support.processes import run

BENCH = REPOSITORY / "build/bench"
OURS = {"ovs, installed", "ovs, copied"}
RUNS = {"attach": 3, "rate": 1, "memory": 1, "calls": 1}  # of --quick


def bench(*options: str | Path, dist: Path = REPOSITORY / "dist", check: bool = True) -> CompletedProcess[str]:
    """Runs build/bench on the plugin that is frozen already; nothing of it may be left afterwards."""
    temporary = tempfile.mkdtemp(prefix="b")  # not tmp_path: the name of a unix socket has at most 107 bytes
    namespaces = set(os.listdir("/run/netns"))
    done = run([BENCH, "--dist", dist, *options], env={**os.environ, "TMPDIR": temporary}, timeout=110, check=check)
    os.rmdir(temporary)  # refuses, unless it is empty
    assert not {name for name in set(os.listdir("/run/netns")) - namespaces if "responder" in name}
    return done


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What a short run wrote as JSON, and what it printed."""
    file = tmp_path_factory.mktemp("bench") / "samples.json"
    output = bench("--quick", "--json", file).stdout
    return json.loads(file.read_text()), output


def test_a_short_run_has_every_cell_with_sane_values(quick: tuple[dict[str, Any], str]) -> None:
    measured, _ = quick
    plugins = set(measured["sizes"])
    assert plugins | set(measured["left_out"]) == OURS | {"ovs-cni", "bridge"}
    assert not OURS & set(measured["left_out"])
    cells = {(cell["measure"], cell["ipam"], cell["ports"], cell["plugin"]): cell for cell in measured["cells"]}
    # The number of ports is nothing to a plugin that does not use Open vSwitch; `rate` is quick without them.
    expected = {
        (measure, ipam, ports, plugin)
        for measure in RUNS
        for ipam in ("none", "host-local")
        for ports in (0, 50)
        for plugin in plugins
        if not (ports and (plugin == "bridge" or measure == "rate"))
    }
    assert set(cells) == expected
    for (measure, ipam, _, plugin), cell in cells.items():
        assert cell["failures"] == [] or plugin not in OURS, cell
        assert all(len(samples) + len(cell["failures"]) >= RUNS[measure] for samples in cell["samples"].values()), cell
        for run_number in range(len(next(iter(cell["samples"].values()), []))):
            sample = {name: samples[run_number] for name, samples in cell["samples"].items()}
            assert_sane(measure, ipam, plugin, sample)
        assert cell["samples"] or cell["failures"], cell


def assert_sane(measure: str, ipam: str, plugin: str, sample: dict[str, float]) -> None:
    if measure == "attach":
        assert set(sample) == {"add", "add_cpu", "ping", "first_lost", "first_late", "delete", "delete_cpu"}
        assert 0.001 < sample["add"] < sample["ping"] < 70, sample
        assert 0.001 < sample["delete"] < 60, sample
        assert 0.001 < sample["add_cpu"] < 10 and 0.001 < sample["delete_cpu"] < 10, sample
        assert sample["first_lost"] in (0, 1) and sample["first_late"] in (0, 1), sample
    elif measure == "rate":
        assert 0.1 < sample["add"] < 5000 and 0.1 < sample["delete"] < 5000, sample
    elif measure == "memory":
        assert 1e6 < sample["add"] < 3e8, sample
    else:
        # A host-local that is a Go program makes hundreds of calls of its own.
        assert sample["system_calls"] > (300 if ipam == "host-local" else 100), sample
        talks = plugin != "bridge"
        for name in ("round_trips", "connections", "received"):
            assert (sample[name] > 0) is talks, (plugin, sample)


def test_the_tables_name_the_versions_and_have_a_line_for_every_plugin(quick: tuple[dict[str, Any], str]) -> None:
    measured, output = quick
    headline = output.partition("\n")[0]
    assert f"cni-ovs {__version__}, " in headline
    assert re.search(r"Open vSwitch \d+\.\d+\.\d+, ", headline)
    for plugin in ("ovs-cni", "bridge"):
        assert re.search(rf"\b{plugin} v?\d+\.\d+", headline) or plugin in headline.partition("Left out")[2]
    titles = re.findall("^### (.*)$", output, re.MULTILINE)
    assert len(titles) == 6
    for plugin in measured["sizes"]:
        assert len(re.findall(rf"\| {plugin} +\|", output)) >= len(titles)


@pytest.mark.parametrize(
    ("script", "message"),
    [('echo \'{"code": 100, "msg": "no"}\'; exit 1', "exit code 1"), ("exit 0", "no interface after ADD")],
    ids=["fails", "does nothing"],
)
def test_it_fails_when_our_plugin(tmp_path: Path, script: str, message: str) -> None:
    # VERSION and "about" are answered, so that it can be installed.
    program = REPOSITORY / "dist/ovs"
    good = f"case ${{CNI_COMMAND:-}} in ADD) ;; *) exec {program} ;; esac"
    (tmp_path / "ovs").write_text(f"#!/bin/sh\n{good}\n{script}\n")
    (tmp_path / "ovs").chmod(0o755)
    done = bench("--runs", "1", "--ports", "0", "--only", "attach", dist=tmp_path, check=False)
    assert done.returncode == 1, done
    for plugin in OURS:
        assert re.search(
            rf"build/bench: {plugin} failed \d+ times \(attach, IPAM none, 0 ports\): .*{message}", done.stderr
        )
    assert re.search(r"\| bridge +\| +\d+\.\d \(", done.stdout), done.stdout


def test_round_trips_are_turns_on_the_connections_to_the_database() -> None:
    lines = [
        '1.0 connect(3<socket:[7]>, {sa_family=AF_UNIX, sun_path="/x/db.sock"}, 110) = 0 <0.1>',
        '1.1 connect(4<socket:[8]>, {sa_family=AF_UNIX, sun_path="/x/other.sock"}, 110) = 0 <0.1>',
        '2.0 sendto(3<socket:[7]>, ""..., 10, 0, NULL, 0) = 10 <0.5>',  # two requests in a row are one turn,
        '2.1 sendto(3<socket:[7]>, ""..., 10, 0, NULL, 0) = 10 <0.5>',
        '2.2 recvfrom(3<socket:[7]>, ""..., 99, 0, NULL, NULL) = 40 <0.1>',  # also when send returns late
        "3.0 read(3<socket:[7]>, 0x1, 99) = -1 EAGAIN (Resource temporarily unavailable) <0.1>",
        '4.0 write(3<socket:[7]>, ""..., 10) = 10 <0.1>',
        '3.9 read(3<socket:[7]>, ""..., 99) = 50 <0.9>',  # began before the request, ended after it
        '5.0 read(3<socket:[7]>, ""..., 99) = 60 <0.1>',  # nobody asked for this
        '6.0 write(4<socket:[8]>, ""..., 10) = 10 <0.1>',
        '6.1 read(4<socket:[8]>, ""..., 99) = 10 <0.1>',
        "7.0 +++ exited with 0 +++",
    ]
    assert count(lines[::-1], "/x/db.sock") == Calls(system_calls=11, round_trips=2, connections=1, received=150)


def test_each_plugin_comes_equally_often_at_each_place() -> None:
    orders = [in_turn("abcd", number) for number in range(8)]
    assert sorted(order[0] for order in orders) == sorted(order[3] for order in orders) == list("aabbccdd")
    before = [order.index("a") < order.index("b") for order in orders]
    assert before.count(True) == before.count(False)

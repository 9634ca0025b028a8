"""The harnesses of build/fuzz, without a fuzzer: what they feed by themselves, and bytes of Hypothesis."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.harnesses import HARNESSES, judge
from tests.fuzz.source import Source, damaged
from tests.fuzz.world import COMMAND_NAMES, World, installed, world
from tests.support.plugin import REPOSITORY
from tests.unit.tools import within

# As in the unit tests: the same in each run.
profile = settings(max_examples=100, deadline=None, database=None, derandomize=True)
SEEDS = 100  # of each harness; build/fuzz begins with all of them


@pytest.fixture(scope="module", autouse=True)
def _world() -> Iterator[World]:
    with installed() as made:
        yield made


@pytest.mark.parametrize("name", HARNESSES)
def test_what_a_harness_begins_with_does_no_harm(name: str) -> None:
    seeds = list(HARNESSES[name].seeds())
    with within(60):
        for seed in random.Random(1).sample(seeds, min(len(seeds), SEEDS)):
            HARNESSES[name].run(seed)


@pytest.mark.parametrize("name", HARNESSES)
def test_no_bytes_do_any_harm(name: str) -> None:
    seeds = list(HARNESSES[name].seeds())
    choices = st.lists(st.integers(0, 12), max_size=30).map(bytes)  # most choices are among a few

    @profile
    @given(st.builds(bytes.__add__, st.sampled_from(seeds) | choices, choices) | st.binary(max_size=40))
    def run(data: bytes) -> None:
        HARNESSES[name].run(data)

    with within(60):
        run()


@pytest.mark.parametrize("command", COMMAND_NAMES)
@pytest.mark.parametrize("interface_type", ["veth", "internal"])
def test_every_command_works_in_the_world_as_long_as_nothing_is_wrong(command: str, interface_type: str) -> None:
    # Or what the harnesses find would be the world's fault.
    here = world()
    config = {**here.config, "interface_type": interface_type}
    here.start(attached=False)
    code, text = here.handle("ADD", config)
    assert code == 0
    if command == "CHECK":
        config["prevResult"] = json.loads(text)
    if command != "ADD":
        assert here.handle(command, config) == (0, "")
    if command in ("DEL", "GC"):
        assert list(here.machine.inside.links) == list(here.machine.host.links) == ["lo"]
        assert [row["name"] for row in here.machine.tables["Port"]] == ["patch"]


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        ("DEL", (0, "{}\n")),
        ("ADD", (0, "")),
        ("ADD", (0, '{"cniVersion": "9.9.9"}\n')),
        ("DEL", (1, "")),
        ("DEL", (2, '{"cniVersion": "1.1.0", "code": 7, "msg": "m"}\n')),
        ("DEL", (1, '{"cniVersion": "1.1.0", "code": 7, "msg": "m"}')),
        ("DEL", (1, '{"cniVersion": "1.1.0", "code": 7, "msg": ""}\n')),
        ("DEL", (1, '{"cniVersion": "1.1.0", "code": 4294967296, "msg": "m"}\n')),
        ("DEL", (1, '{"cniVersion": "1.1.0", "code": 999, "msg": "m"}\n')),
        ("DEL", (1, '{"cniVersion": "1.1.0", "code": 7, "msg": "m", "more": 1}\n')),
    ],
)
def test_what_no_command_may_print_is_judged_to_be_wrong(command: str, outcome: tuple[int, str]) -> None:
    world().start(attached=False)
    with pytest.raises((AssertionError, ValueError)):
        judge(command, outcome)


def test_the_same_bytes_make_the_same_choices_and_none_make_the_first() -> None:
    options = ["first", "second", "third"]
    make: Callable[[bytes], object] = lambda data: damaged(world().config, Source(data))  # noqa: E731
    assert Source(b"").pick(options) == "first" and not Source(b"")
    assert Source(b"\5x").pick(options) == "third"
    assert make(b"") == world().config
    assert make(b"\2\7\7\7\1") == make(b"\2\7\7\7\1") != world().config


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="no atheris: build/fuzz installs it")
def test_the_fuzzer_runs_a_harness(tmp_path: Path) -> None:
    words = [str(REPOSITORY / "build/fuzz"), "--seconds", "1", "--corpus", str(tmp_path), "json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done
    found = re.search(r"^json: (\d+) runs in \d+ s, (\d+) edges, 0 crashes; (\d+) % of the", done.stdout, re.MULTILINE)
    assert found and int(found[1]) > 10 and int(found[2]) > 50 and int(found[3]) > 50, done
    assert (tmp_path / "json/inputs").is_dir()

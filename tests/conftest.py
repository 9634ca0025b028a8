"""Fixtures of every test. What they are made of is in tests/support; the picture is in its `__init__`.

    openvswitch   (session) a private Open vSwitch in a namespace that plays the host
    target        the plugin's form: frozen, which is what is installed, and in tests/conformance also module, run by
                  another version of Python; `--target` chooses, and has `confined` besides: frozen, with no more
                  capabilities than it needs
    node          openvswitch + target + a fresh bridge: sandboxes, attachments, and `assert_nothing_left()`
    private_node  the same with an Open vSwitch of its own, for tests that stop or kill its daemons
    dpdk_openvswitch  (module) an Open vSwitch with DPDK
    sandbox       an empty container namespace, for tests that need no Open vSwitch

Markers: `contract(n, …)` names the points of the CNI contract that a test proves (`--contract-table` prints them);
`one_target` runs a test on the first chosen target only, where the form of the plugin cannot make a difference.
`userspace` is for what exists on the userspace datapath only. That is the default; `--datapath=kernel` is for a machine
with openvswitch.ko, see tests/kernel.
KEEP=1 in the environment keeps everything for a post-mortem. CNI_OVS_TEST_TOOLS: folder of the newer IPAM plugins.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import dpdk
from tests.support.namespace import Namespace
from tests.support.node import Node
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.plugin import TARGETS, Target
from tests.support.processes import keep

POINTS = range(1, 28)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds our options."""
    parser.addoption("--target", action="append", choices=sorted(TARGETS), help="repeatable; default: frozen")
    parser.addoption("--datapath", choices=["userspace", "kernel"], default="userspace", help="of the bridges")
    parser.addoption("--whole", action="store_true", help="not only a part of what would take hours")
    parser.addoption("--soak", type=float, default=0, metavar="MINUTES", help="how long tests/fault/test_soak.py lasts")
    parser.addoption(
        "--write-docs", action="store_true", help="write docs/faults.md and docs/doctor.md instead of comparing"
    )
    parser.addoption("--contract-table", action="store_true", help="print which tests prove which contract point")


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers, and lets signals have their usual effect."""
    config.addinivalue_line("markers", "contract(*points): the points of the CNI contract that the test proves")
    config.addinivalue_line("markers", "one_target: run on the first chosen target only")
    config.addinivalue_line("markers", "userspace: of the userspace datapath only")
    # Started in the background, by nohup say, we would hand on to every program that these are ignored.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeats every test that uses `target` for each chosen one."""
    if "target" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--target") or _default_targets(metafunc.definition.path)
        if metafunc.definition.get_closest_marker("one_target"):
            chosen = chosen[:1]
        metafunc.parametrize("target", [TARGETS[name] for name in chosen], ids=chosen, indirect=True)


def _default_targets(path: Path) -> list[str]:
    """What is installed; in the suite that has something of everything also what another interpreter runs."""
    return ["frozen", "module"] if "conformance" in path.parts else ["frozen"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Collects the table of `--contract-table`, and leaves out what the kernel's datapath has not.

    A time that is given with --timeout also counts for tests that have a shorter one of their own.
    """
    given = config.getoption("--timeout")
    for item in items:
        own = item.get_closest_marker("timeout")
        if given is not None and own is not None and own.args[0] < given:
            item.add_marker(pytest.mark.timeout(given), append=False)
    if config.getoption("--datapath") == "kernel":
        for item in items:
            if item.get_closest_marker("userspace"):
                item.add_marker(pytest.mark.skip(reason="of the userspace datapath only"))
    table: dict[int, dict[str, None]] = defaultdict(dict)
    for item in items:
        for marker in item.iter_markers("contract"):
            for point in marker.args:
                table[point][item.nodeid.partition("[")[0]] = None
    config.stash[_TABLE] = {point: list(names) for point, names in sorted(table.items())}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the table of `--contract-table`."""
    if not config.getoption("--contract-table"):
        return
    table = config.stash[_TABLE]
    terminalreporter.section("contract point -> tests")
    for point in POINTS:
        for name in table.get(point) or ["NO TEST"]:
            terminalreporter.line(f"{point:3} {name}")


_TABLE = pytest.StashKey[dict[int, list[str]]]()


@pytest.fixture(scope="session")
def openvswitch(request: pytest.FixtureRequest) -> Iterator[PrivateOpenVSwitch]:
    """A running Open vSwitch, shared by all tests that do not harm it."""
    switch = PrivateOpenVSwitch(request.config.getoption("--datapath"))
    try:
        switch.start()
        yield switch
    finally:
        switch.stop()


@pytest.fixture(scope="module")
def dpdk_openvswitch() -> Iterator[dpdk.DpdkOpenVSwitch]:
    """A running Open vSwitch with DPDK, shared by the tests of a file."""
    reason = dpdk.missing()
    if reason:
        pytest.skip(reason)
    switch = dpdk.DpdkOpenVSwitch()
    try:
        switch.start()
        yield switch
    finally:
        switch.stop()


@pytest.fixture
def private_openvswitch(request: pytest.FixtureRequest) -> Iterator[PrivateOpenVSwitch]:
    """A running Open vSwitch of this test's own."""
    switch = PrivateOpenVSwitch(request.config.getoption("--datapath"))
    try:
        switch.start()
        yield switch
    finally:
        switch.stop()


@pytest.fixture
def target(request: pytest.FixtureRequest) -> Target:
    """The form of the plugin under test."""
    chosen = request.param
    assert isinstance(chosen, Target)
    missing = chosen.missing()
    if missing:
        pytest.fail(missing, pytrace=False)
    return chosen


@pytest.fixture
def node(openvswitch: PrivateOpenVSwitch, target: Target, tmp_path: Path) -> Iterator[Node]:
    """A host with a fresh bridge on the shared Open vSwitch."""
    made = Node(openvswitch, target, tmp_path)
    try:
        yield made
    finally:
        made.clean()


@pytest.fixture
def private_node(private_openvswitch: PrivateOpenVSwitch, target: Target, tmp_path: Path) -> Iterator[Node]:
    """A host with an Open vSwitch of its own, whose daemons the test may stop and kill."""
    made = Node(private_openvswitch, target, tmp_path)
    try:
        yield made
    finally:
        made.clean()


@pytest.fixture
def sandbox() -> Iterator[Namespace]:
    """An empty container namespace."""
    made = Namespace()
    try:
        yield made
    finally:
        if not keep():
            made.delete()

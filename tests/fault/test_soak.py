"""Attaching and detaching for a long time: `--soak=30` does it for 30 minutes, without it the test is skipped."""

from __future__ import annotations

import os
import time
from dataclasses import astuple, dataclass
from pathlib import Path

import pytest

from tests.support.load import Load
from tests.support.node import Node
from tests.support.openvswitch import Daemon, PrivateOpenVSwitch

PODS = 100
AT_ONCE = 8
WARM_UP = 0.2  # of the time: what the daemons allocate once and keep
SLACK = 1 << 20  # bytes; pages come and go
SETTLE_SECONDS = 1  # ovs-vswitchd frees and closes what it has removed a moment later (RCU)
# Bytes of memory for each attachment, after that. Open vSwitch 3.1 itself keeps 66 for each internal port that is
# added and removed with ovs-vsctl, on the userspace datapath (12,000 ports, 2026-11-25).
LARGEST_GROWTH = 300


@dataclass
class Sample:
    """What one daemon holds."""

    memory: int  # kB, VmRSS
    descriptors: int
    log: int  # bytes


def sample(switch: PrivateOpenVSwitch, name: str, daemon: Daemon) -> Sample:
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    memory = int(status.partition("VmRSS:")[2].split()[0])
    return Sample(memory, len(os.listdir(f"/proc/{daemon.pid}/fd")), (switch.folder / f"{name}.log").stat().st_size)


@pytest.mark.one_target
@pytest.mark.timeout(2 * 3600)
def test_nothing_grows_in_a_long_time(
    private_node: Node, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    minutes: float = request.config.getoption("--soak")
    if not minutes:
        pytest.skip("takes as long as --soak says, in minutes")
    node, switch = private_node, private_node.openvswitch
    daemons = {"ovsdb-server": switch.ovsdb_server, "ovs-vswitchd": switch.ovs_vswitchd}
    load = Load(node, PODS, AT_ONCE)
    ports = len(switch.rows("Port"))
    samples: dict[str, list[Sample]] = {name: [] for name in daemons}
    started = time.monotonic()
    while time.monotonic() - started < minutes * 60:
        load.run(load.add, load.pods)
        load.run(load.check, load.pods)
        load.run(load.delete, load.random.sample(load.pods, len(load.pods)))
        assert not load.errors, load.errors[:5]
        node.assert_nothing_left()  # also waits until ovs-vswitchd has removed its devices
        time.sleep(SETTLE_SECONDS)
        for name, daemon in daemons.items():
            samples[name].append(sample(switch, name, daemon))
    rounds = len(samples["ovsdb-server"])
    first = int(rounds * WARM_UP)
    with capsys.disabled():
        print(  # noqa: T201 - the figures are what the test is for
            f"\n{rounds} rounds in {minutes:g} minutes, {PODS} attachments each, {AT_ONCE} at a time: "
            f"{rounds * PODS} ADDs, {load.killed} killed, {len(load.errors)} errors"
        )
        for name, found in samples.items():
            for number in (0, first, *(rounds * tenth // 10 for tenth in range(3, 10)), rounds - 1):
                memory, descriptors, log = astuple(found[number])
                print(f"{name}, round {number + 1}: {memory} kB, {descriptors} descriptors, log {log} bytes")  # noqa: T201
    assert len(switch.rows("Port")) == ports
    for found in samples.values():
        assert found[-1].descriptors <= found[first].descriptors
        grown = (found[-1].memory - found[first].memory) * 1024
        assert grown <= LARGEST_GROWTH * PODS * (rounds - first) + SLACK

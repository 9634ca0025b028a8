"""OVN: a logical switch over two chassis, each a node of its own, and pods that the plugin gives to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import ovn
from tests.support.ipam import static
from tests.support.iperf import mbits
from tests.support.node import Node
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.ovn import Ovn
from tests.support.plugin import Attachment, Target
from tests.support.processes import wait_for

pytestmark = [pytest.mark.one_target, pytest.mark.userspace]  # the tunnel is one of the userspace datapath

ADDRESSES = {"a": ("02:00:00:00:00:0a", "10.60.0.10"), "b": ("02:00:00:00:00:0b", "10.60.0.11")}


@pytest.fixture
def central() -> Iterator[Ovn]:
    """OVN without any chassis, with a logical switch that has the ports `a` and `b`."""
    if ovn.missing():
        pytest.skip(ovn.missing() or "")
    made = Ovn()
    try:
        made.start()
        made.nbctl("ls-add", "switch")
        for name, (mac, address) in ADDRESSES.items():
            made.nbctl("lsp-add", "switch", name, "--", "lsp-set-addresses", name, f"{mac} {address}")
        yield made
    finally:
        made.stop()


@pytest.fixture
def chassis(central: Ovn, target: Target, tmp_path: Path) -> Iterator[list[Node]]:
    """Two chassis, with a tunnel between them."""
    switches = [PrivateOpenVSwitch() for _ in range(2)]
    nodes: list[Node] = []
    try:
        for number, switch in enumerate(switches):
            switch.start()
            (tmp_path / str(number)).mkdir()
            nodes.append(Node(switch, target, tmp_path / str(number)))
        central.join(nodes)
        yield nodes
    finally:
        for node in nodes:
            node.clean()
        for switch in switches:
            switch.stop()


def pod(node: Node, name: str, **keys: Any) -> Attachment:
    """A pod for a logical port, with the addresses that OVN expects of it. Geneve takes 58 bytes of each packet."""
    mac, address = ADDRESSES[name]
    return node.attachment(
        cni_args=f"IgnoreUnknown=1;OvnPort={name};MAC={mac}", ipam=static(f"{address}/24"), mtu=1400, timeout=20, **keys
    )


@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_pods_of_two_chassis_meet_on_a_logical_switch(
    central: Ovn, chassis: list[Node], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (pod(node, name, interface_type=kind) for node, name in zip(chassis, ADDRESSES, strict=True))
    a.add().ok()
    b.add().ok()
    assert [central.chassis_of(name) for name in ADDRESSES] == ["chassis1", "chassis2"]
    assert chassis[0].interface(a)["external_ids"]["iface-id"] == "a"
    for one, other in ((a, b), (b, a)):
        assert one.sandbox.pings(other.addresses[0], count=3)
        one.check().silent()
    with capsys.disabled():
        print(f"\nOVN, {kind}: TCP through a Geneve tunnel between two chassis: {mbits(a, b):.0f} Mbit/s")  # noqa: T201
    a.delete().silent()
    wait_for("the logical port is bound to no chassis", lambda: not central.chassis_of("a"))
    assert central.chassis_of("b") == "chassis2"
    assert not b.sandbox.pings(ADDRESSES["a"][1], timeout=1)
    b.delete().silent()
    for node in chassis:
        assert not node.ports()


def test_packets_pass_as_soon_as_add_has_returned(central: Ovn, chassis: list[Node]) -> None:
    node = chassis[0]
    for _ in range(5):
        a, b = (pod(node, name) for name in ADDRESSES)
        a.add().ok()
        b.add().ok()
        assert b.sandbox.pings(a.addresses[0], timeout=1)
        a.delete().silent()
        b.delete().silent()


def test_a_logical_port_that_is_not_there_is_an_error_that_leaves_nothing(chassis: list[Node]) -> None:
    node = chassis[0]
    missing = node.attachment(cni_args="OvnPort=nosuchport", timeout=2)
    error = missing.add().error(11)
    assert "'nosuchport'" in error["msg"] and "logical switch port" in error["details"]
    assert not node.ports()


def test_check_says_when_ovn_has_lost_the_port(central: Ovn, chassis: list[Node]) -> None:
    a = pod(chassis[0], "a")
    a.add().ok()
    a.check().silent()
    central.nbctl("--wait=hv", "lsp-del", "a")
    wait_for("ovn-controller has noticed", lambda: "ovn-installed" not in chassis[0].interface(a)["external_ids"])
    assert "ovn-installed" in a.check().error(106)["msg"]
    chassis[0].openvswitch.vsctl("set", "Interface", chassis[0].port(a)["name"], "external_ids:iface-id=b")
    assert "iface-id" in a.check().error(106)["msg"]
    a.delete().silent()


def test_on_another_bridge_nobody_waits_for_ovn(chassis: list[Node]) -> None:
    """Whoever else reads `iface-id` may not know OVN's mark."""
    node = chassis[0]
    other = node.attachment(bridge=node.add_bridge(), args={"cni": {"ovnPort": "nosuchport"}})
    other.add().ok()
    assert node.interface(other)["external_ids"] == {"iface-id": "nosuchport"}
    other.check().silent()
    other.delete().silent()


def test_args_cni_comes_before_cni_args(node: Node) -> None:
    args = json.loads('{"cni": {"OvnPort": "first"}}')
    both = node.attached(cni_args="OvnPort=second", args=args)
    assert node.interface(both)["external_ids"] == {"iface-id": "first"}

"""Attachments go on while Open vSwitch is changed, restarted or killed, whatever their kind of device.

An internal port that was moved and renamed would not: ovs-vswitchd destroys it the next time that any port is added.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable

import pytest

from tests.support.node import INTERNAL_KINDS, Node
from tests.support.plugin import Attachment
from tests.support.processes import wait_for

KINDS = ["veth", "internal"]


@pytest.fixture
def pods(private_node: Node, kind: str) -> tuple[Attachment, Attachment]:
    """Two attachments of a kind."""
    first, second = (
        private_node.attached(interface_type=kind, ipam=private_node.host_local(), vlan=7) for _ in range(2)
    )
    return first, second


def _state(pod: Attachment) -> tuple[int, str, tuple[str, ...], set[str]]:
    link = pod.sandbox.link("net1")
    return link.index, link.mac, link.altnames, pod.sandbox.address_texts(link.name)


def _lost_while(pods: tuple[Attachment, Attachment], action: Callable[[], object]) -> int:
    """How many of the echo requests, ten a second, were not answered from before the action until after it."""
    first, second = pods
    ping = first.sandbox.start("ping", "-n", "-i", "0.1", "-W", "3", second.addresses[0])
    assert ping.stdout is not None
    for _ in range(2):
        ping.stdout.readline()  # so it has begun
    action()
    first.sandbox.run("kill", "-INT", str(ping.pid))
    report = ping.communicate(timeout=20)[0]
    found = re.search(r"(\d+) packets transmitted, (\d+) received", report)
    assert found, report
    return int(found[1]) - int(found[2])


def _assert_alive(node: Node, pods: tuple[Attachment, Attachment], before: list[object]) -> None:
    assert [_state(pod) for pod in pods] == before
    for one, other in (pods, pods[::-1]):
        assert one.sandbox.pings(other.addresses[0], count=3)
        one.check().silent()
    for pod in pods:
        pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", KINDS)
def test_survives_unrelated_ports_that_come_and_go(private_node: Node, pods: tuple[Attachment, Attachment]) -> None:
    node, before = private_node, [_state(pod) for pod in pods]

    def come_and_go() -> None:
        for _ in range(3):
            name = f"x{secrets.token_hex(4)}"
            node.openvswitch.vsctl("add-port", node.bridge, name, "--", "set", "Interface", name, "type=internal")
            node.attached(interface_type="internal").delete().silent()
            node.attached().delete().silent()
            node.openvswitch.vsctl("del-port", name)
        node.openvswitch.vsctl("set", "Bridge", node.bridge, "other_config:mac-aging-time=77")

    assert _lost_while(pods, come_and_go) == 0
    _assert_alive(node, pods, [*before])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["orderly restart", "kill"])
def test_survives_ovs_vswitchd(private_node: Node, pods: tuple[Attachment, Attachment], how: str) -> None:
    node, before = private_node, [_state(pod) for pod in pods]
    daemon = node.openvswitch.ovs_vswitchd

    def restart() -> None:
        if how == "kill":
            daemon.kill()
        else:
            node.openvswitch.appctl("exit")  # as ovs-ctl does
            wait_for("ovs-vswitchd has ended", lambda: not daemon.running)
            daemon.stop()  # takes note of its end
        node.openvswitch.start_ovs_vswitchd()

    # The kernel goes on by itself with the flows that it has, until ovs-vswitchd is back and takes them away once to
    # put in new ones. What comes in that moment is lost: half a second in an emulated machine, for either kind.
    assert _lost_while(pods, restart) <= 20
    name = f"x{secrets.token_hex(4)}"
    node.openvswitch.vsctl("add-port", node.bridge, name, "--", "set", "Interface", name, "type=internal")
    node.openvswitch.vsctl("del-port", name)
    _assert_alive(node, pods, [*before])


@pytest.mark.parametrize("kind", KINDS)
def test_survives_a_restart_of_ovsdb_server(private_node: Node, pods: tuple[Attachment, Attachment]) -> None:
    node, before = private_node, [_state(pod) for pod in pods]

    def restart() -> None:
        node.openvswitch.ovsdb_server.kill()
        node.openvswitch.start_ovsdb_server()

    assert _lost_while(pods, restart) == 0
    _assert_alive(node, pods, [*before])


def test_offload_stays_on_because_the_kernel_needs_none_of_it_off(node: Node) -> None:
    pod = node.attached()
    assert "\ntx-checksumming: on" in pod.sandbox.run("ethtool", "-k", "net1").stdout


def test_an_internal_port_is_a_device_of_the_kernels_open_vswitch(node: Node) -> None:
    pod = node.attached(interface_type="internal")
    assert pod.sandbox.link("net1").kind == "openvswitch"
    [described] = json.loads(pod.sandbox.run("ip", "-j", "-d", "link", "show", "net1").stdout)
    assert described["linkinfo"]["info_kind"] in INTERNAL_KINDS
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", KINDS)
def test_del_cleans_up_when_the_namespace_is_gone_with_the_device(node: Node, kind: str) -> None:
    """The row of an internal port whose device is gone keeps its OpenFlow number, and has no error."""
    pod, other = (node.attached(interface_type=kind, ipam=node.host_local()) for _ in range(2))
    pod.sandbox.delete()
    pod.delete().silent()
    other.check().silent()
    node.assert_nothing_left(keep=[other])

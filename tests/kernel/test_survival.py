"""Attachments go on while Open vSwitch is changed, restarted or killed, whatever their kind of device.

An internal port that was moved and renamed would not: ovs-vswitchd destroys it the next time that any port is added.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.support.namespace import Namespace
from tests.support.node import INTERNAL_KINDS, Node
from tests.support.plugin import Attachment
from tests.support.processes import wait_for

Pair = tuple[Attachment, Attachment]
Path = tuple[Namespace, str]  # from this namespace to that address


@pytest.fixture
def pairs(private_node: Node) -> dict[str, Pair]:
    """Two attachments of each kind of device."""

    def attached(kind: str) -> Attachment:
        return private_node.attached(interface_type=kind, ipam=private_node.host_local(), vlan=7)

    return {kind: (attached(kind), attached(kind)) for kind in ("veth", "internal")}


@contextlib.contextmanager
def _by_hand(node: Node) -> Iterator[Path]:
    """Two veth pairs that ip and ovs-vsctl attach, without the plugin."""
    sandboxes = [node.sandbox() for _ in range(2)]
    names = [f"h{secrets.token_hex(4)}" for _ in sandboxes]
    for number, (name, sandbox) in enumerate(zip(names, sandboxes, strict=True), 1):
        node.host.ip("link", "add", name, "up", "type", "veth", "peer", "name", "net1", "netns", sandbox.name)
        sandbox.ip("address", "add", f"10.20.0.{number}/24", "dev", "net1")
        sandbox.ip("link", "set", "net1", "up")
        node.openvswitch.vsctl("add-port", node.bridge, name, "tag=8")
    yield sandboxes[0], "10.20.0.2"
    for name in names:
        node.openvswitch.vsctl("del-port", name)
        node.host.ip("link", "delete", name)


def _paths(pairs: dict[str, Pair]) -> dict[str, Path]:
    return {kind: (one.sandbox, other.addresses[0]) for kind, (one, other) in pairs.items()}


def _lost_while(action: Callable[[], object], paths: dict[str, Path]) -> dict[str, int]:
    """For each path how many of its echo requests, ten a second, from before the action until after it were lost."""
    pings = {}
    for name, (sandbox, address) in paths.items():
        assert sandbox.pings(address)
        pings[name] = ping = sandbox.start("ping", "-n", "-i", "0.1", "-W", "3", address)
        assert ping.stdout is not None
        for _ in range(2):
            ping.stdout.readline()  # so it has begun
    action()
    for ping in pings.values():
        ping.send_signal(signal.SIGINT)
    lost = {}
    for name, ping in pings.items():
        report = ping.communicate(timeout=20)[0]
        found = re.search(r"(\d+) packets transmitted, (\d+) received", report)
        assert found, report
        lost[name] = int(found[1]) - int(found[2])
    return lost


def _state(pod: Attachment) -> tuple[int, str, tuple[str, ...], set[str]]:
    link = pod.sandbox.link("net1")
    return link.index, link.mac, link.altnames, pod.sandbox.address_texts(link.name)


def _states(pairs: dict[str, Pair]) -> list[object]:
    return [_state(pod) for pair in pairs.values() for pod in pair]


def _assert_alive(node: Node, pairs: dict[str, Pair], before: list[object]) -> None:
    assert _states(pairs) == before
    for pods in pairs.values():
        for one, other in (pods, pods[::-1]):
            assert one.sandbox.pings(other.addresses[0], count=3)
            one.check().silent()
    for pods in pairs.values():
        for pod in pods:
            pod.delete().silent()
    node.assert_nothing_left()


def test_internal_ports_and_veths_survive_unrelated_ports_that_come_and_go(
    private_node: Node, pairs: dict[str, Pair]
) -> None:
    node, before = private_node, _states(pairs)

    def come_and_go() -> None:
        name = f"x{secrets.token_hex(4)}"
        node.openvswitch.vsctl("add-port", node.bridge, name, "--", "set", "Interface", name, "type=internal")
        node.attached(interface_type="internal").delete().silent()
        node.attached().delete().silent()
        node.openvswitch.vsctl("del-port", name)
        node.openvswitch.vsctl("set", "Bridge", node.bridge, "other_config:mac-aging-time=77")

    assert _lost_while(come_and_go, _paths(pairs)) == {"veth": 0, "internal": 0}
    _assert_alive(node, pairs, before)


def test_internal_ports_and_veths_survive_an_orderly_restart_and_a_kill_of_ovs_vswitchd(
    private_node: Node, pairs: dict[str, Pair], capsys: pytest.CaptureFixture[str]
) -> None:
    node, before = private_node, _states(pairs)
    daemon = node.openvswitch.ovs_vswitchd

    def orderly_restart() -> None:
        node.openvswitch.appctl("exit")  # as ovs-ctl does
        wait_for("ovs-vswitchd has ended", lambda: not daemon.running)
        daemon.stop()  # takes note of its end
        node.openvswitch.start_ovs_vswitchd()

    def kill() -> None:
        daemon.kill()
        node.openvswitch.start_ovs_vswitchd()

    # The kernel goes on by itself with the flows that it has, until ovs-vswitchd is back and takes them away once to
    # put in new ones. What comes in that moment is lost, whoever has attached it: how long it lasts is the machine's.
    with _by_hand(node) as peer:
        for action in (orderly_restart, kill):
            lost = _lost_while(action, {**_paths(pairs), "by hand": peer})
            with capsys.disabled():
                print(f"\n{action.__name__}: echo requests lost, of ten a second: {lost}")  # noqa: T201 - to be quoted
            assert max(lost["veth"], lost["internal"]) <= lost["by hand"] + 5
            name = f"x{secrets.token_hex(4)}"
            node.openvswitch.vsctl("add-port", node.bridge, name, "--", "set", "Interface", name, "type=internal")
            node.openvswitch.vsctl("del-port", name)
            assert _states(pairs) == before
    _assert_alive(node, pairs, before)


def test_internal_ports_and_veths_survive_a_restart_of_ovsdb_server(private_node: Node, pairs: dict[str, Pair]) -> None:
    node, before = private_node, _states(pairs)

    def restart() -> None:
        node.openvswitch.ovsdb_server.kill()
        node.openvswitch.start_ovsdb_server()

    assert _lost_while(restart, _paths(pairs)) == {"veth": 0, "internal": 0}
    _assert_alive(node, pairs, before)


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


@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_del_cleans_up_when_the_namespace_is_gone_with_the_device(node: Node, kind: str) -> None:
    """The row of an internal port whose device is gone keeps its OpenFlow number, and has no error."""
    pod, other = (node.attached(interface_type=kind, ipam=node.host_local()) for _ in range(2))
    pod.sandbox.delete()
    pod.delete().silent()
    other.check().silent()
    node.assert_nothing_left(keep=[other])

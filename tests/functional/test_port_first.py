"""With many ports on a bridge, ovs-vswitchd is told of a port before its device is made, and finds both in one pass.

With few ports it would look too early. Here that is brought about on purpose: whatever the order, packets flow.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cni_ovs.plugin.deadline import Deadline
from cni_ovs.plugin.ovsdb import Client, count
from tests.support.node import Node
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.plugin import TARGETS, Attachment, Target
from tests.support.processes import wait_for

# The plugin, for which MANY ports are many. Between the row and the device it waits until ovs-vswitchd has
# refused the port, and then runs BETWEEN; when the container's end is set up, it runs CONNECTED.
LATE = """
import os
from cni_ovs.plugin import insertion, main
from cni_ovs.plugin.devices import veth
insertion._MANY = int(os.environ["MANY"])
create, bring_up = veth.create, veth.bring_up
def late(host, sandbox, attachment, config):
    os.environ.update(NAME=attachment.port_name, DB=config.socket_file, SANDBOX=attachment.netns)
    assert not os.system("ovs-vsctl --db=$DB --timeout=5 --no-wait wait-until Interface $NAME ofport=-1")
    os.system(os.environ.get("BETWEEN", ""))
    create(host, sandbox, attachment, config)
def connected(*arguments):
    bring_up(*arguments)
    os.system(os.environ.get("CONNECTED", ""))
if os.environ["LATE"] == "1":
    veth.create, veth.bring_up = late, connected
main.main()
"""
STOP, GO = (f'kill -{name} $(cat "$(dirname "${{DB#unix:}}")/ovs-vswitchd.pid")' for name in ("STOP", "CONT"))
REFUSED = "could not open network device"
MANY = 600  # a thousand would take the kernel half a minute to remove


def changed(**environment: str) -> Target:
    """The module form of the plugin, changed as above."""
    module = TARGETS["module"]
    return Target("changed", (module.command[0], "-c", LATE), {**module.environment, "MANY": "0", **environment})


@pytest.fixture
def make(private_openvswitch: PrivateOpenVSwitch, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Makes a node on which the changed plugin is."""
    made: list[Node] = []

    def node(late: bool = True, **environment: str) -> Node:
        made.append(Node(private_openvswitch, changed(LATE=str(int(late)), **environment), tmp_path))
        return made[0]

    try:
        yield node
    finally:
        for each in made:
            each.clean()


def log_of(node: Node) -> str:
    return (node.openvswitch.folder / "ovs-vswitchd.log").read_text(errors="replace")


def test_an_add_for_which_ovs_vswitchd_has_looked_too_early_succeeds_and_packets_flow(
    make: Callable[..., Node],
) -> None:
    node = make()
    pods = [node.attachment(ipam=node.host_local("10.10.0.0/16", "2001:db8:10::/64")) for _ in range(2)]
    for pod in pods:
        pod.add().ok()
        assert f"{REFUSED} {node.port(pod)['name']}" in log_of(node)
        assert node.interface(pod)["ofport"] > 0 and not node.interface(pod)["error"]
    for address in pods[1].addresses:
        pods[0].sandbox.run("ping", "-n", "-c", "1", "-W", "2", address)
    for pod in pods:
        pod.check().silent()
        pod.delete().silent()
    node.assert_nothing_left()


def test_the_number_of_interfaces_decides_which_is_first(make: Callable[..., Node]) -> None:
    """The port is in the database before its device where the device waits for that; else the wait is in vain."""
    node = make(MANY="10")
    interfaces = len(node.openvswitch.rows("Interface"))
    others = [word for number in range(interfaces, 9) for word in ("--", "add-port", node.bridge, f"other{number}")]
    node.openvswitch.vsctl("--no-wait", *others[1:])
    pod = node.attachment()
    few = pod.add()
    assert "AssertionError" in few.error(999)["msg"]  # ovs-vsctl has waited in vain
    node.openvswitch.vsctl("--no-wait", "add-port", node.bridge, "one-more")
    pod.add().ok()
    assert f"{REFUSED} {node.port(pod)['name']}" in log_of(node)
    pod.delete().silent()
    node.assert_nothing_left()


def test_whoever_is_first_by_chance_packets_flow(make: Callable[..., Node]) -> None:
    node = make(late=False)
    peer = node.attached(ipam=node.host_local())
    pod = node.attachment(ipam=node.host_local())
    for _ in range(20):
        pod.add().ok()
        pod.sandbox.run("ping", "-n", "-c", "1", "-W", "2", peer.addresses[0])
        pod.delete().silent()
    peer.delete().silent()
    node.assert_nothing_left()


def test_a_port_that_is_refused_again_is_reported_with_ovs_vswitchds_words(make: Callable[..., Node]) -> None:
    """It is refused, ovs-vswitchd stands still while there is a device, and looks again when that is gone."""
    node = make(BETWEEN=STOP, CONNECTED=f"ip link delete $NAME; {GO}")
    pod = node.attachment()
    outcome = pod.add()
    assert "No such device" in outcome.error(101)["details"]
    assert outcome.seconds < 5
    node.assert_nothing_left()


@pytest.mark.parametrize("way", ["timeout", "signal"])
def test_an_ovs_vswitchd_that_does_not_look_again_cannot_keep_us(make: Callable[..., Node], way: str) -> None:
    node = make(BETWEEN=STOP)
    pod = node.attachment(timeout=2 if way == "timeout" else 20, ipam=node.host_local())
    running = pod.start("ADD")
    if way == "signal":
        wait_for("the device exists", lambda: any(name.startswith("cni") for name in node.host.links()))
        running.signal(signal.SIGTERM)
    outcome = running.wait(timeout=10)
    outcome.error(11)
    assert outcome.seconds < 5
    node.openvswitch.ovs_vswitchd.thaw()
    node.assert_nothing_left()


def test_an_interface_that_appears_in_the_container_meanwhile_undoes_everything(make: Callable[..., Node]) -> None:
    node = make(BETWEEN="nsenter --net=$SANDBOX ip link add net1 type veth peer name other")
    pod = node.attachment(ipam=node.host_local())
    assert "net1" in pod.add().error(102)["msg"]
    assert node.ports() == []
    assert set(pod.sandbox.links()) == {"lo", "net1", "other"}
    pod.sandbox.ip("link", "delete", "net1")
    node.assert_nothing_left()


def test_an_interface_that_the_container_has_already_is_found_before_ovs_vswitchd_hears_of_us(
    make: Callable[..., Node],
) -> None:
    node = make(late=False)
    pod = node.attachment(ipam=node.host_local())
    pod.sandbox.ip("link", "add", "net1", "type", "veth", "peer", "name", "other")
    assert "net1" in pod.add().error(102)["msg"]
    assert REFUSED not in log_of(node)
    pod.sandbox.ip("link", "delete", "net1")
    node.assert_nothing_left()


def test_a_host_end_that_was_left_behind_is_replaced_before_ovs_vswitchd_hears_of_it(make: Callable[..., Node]) -> None:
    """Else it would take the old one, and not notice that it is another afterwards."""
    node = make(late=False)
    peer = node.attached(ipam=node.host_local())
    pod = node.attached(ipam=node.host_local())
    name = node.port(pod)["name"]
    pod.delete().silent()
    for _ in range(5):
        node.host.ip("link", "add", name, "up", "type", "veth", "peer", "name", "leftover")
        assert "left behind" in pod.add().ok().stderr
        pod.sandbox.run("ping", "-n", "-c", "1", "-W", "2", peer.addresses[0])
        pod.delete().silent()
    peer.delete().silent()
    node.assert_nothing_left()


@pytest.mark.timeout(180)
def test_with_many_ports_ovs_vswitchd_does_not_look_too_early_and_sixteen_adds_at_once_succeed(
    make: Callable[..., Node],
) -> None:
    node = make(late=False)
    names = [f"many{number}" for number in range(MANY)]
    node.host.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    node.host.add_pairs(names)
    words = [word for name in names for word in ("--", "add-port", node.bridge, name)]
    node.openvswitch.vsctl(*words[1:], timeout=60)
    pods = [node.attachment(ipam=node.host_local()) for _ in range(16)]
    for _ in range(5):
        pods[0].add().ok()
        pods[0].delete().silent()
    assert log_of(node).count(REFUSED) <= 1  # the plugin may have to wait for a core, once
    for _ in range(2):
        with ThreadPoolExecutor(len(pods)) as pool:
            for outcome in pool.map(Attachment.add, pods):
                outcome.ok()
        pods[0].sandbox.run("ping", "-n", "-c", "1", "-W", "2", pods[-1].addresses[0])
        with ThreadPoolExecutor(len(pods)) as pool:
            for outcome in pool.map(Attachment.delete, pods):
                outcome.silent()
    assert node.ports() == []
    assert node.addresses_given_out() == []


def test_counting_rows_writes_nothing(openvswitch: PrivateOpenVSwitch) -> None:
    database = openvswitch.folder / "conf.db"
    openvswitch.vsctl("--no-wait", "--", "--may-exist", "add-br", "counted")
    before, rows = database.read_bytes(), openvswitch.rows("Interface")
    client = Client(openvswitch.remote, Deadline(5))
    try:
        assert client.receive_transaction(client.send_transaction("Open_vSwitch", [count("Interface")])) == [
            {"count": len(rows)}
        ]
    finally:
        client.close()
    assert database.read_bytes() == before
    openvswitch.vsctl("del-br", "counted")

"""Whatever step of ADD fails, nothing of the attachment remains (contract point 14)."""

from __future__ import annotations

import os
import shlex
import signal

import pytest

from tests.support.ipam import ScriptedIpam, cni_path, host_local, host_local_files, static
from tests.support.node import Node
from tests.support.plugin import Attachment
from tests.support.processes import wait_for

pytestmark = pytest.mark.contract(14)
KINDS = ["veth", "internal", pytest.param("tap", marks=pytest.mark.userspace)]


@pytest.mark.one_target
@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_bridge_is_found_before_ipam_is_asked(node: Node, kind: str) -> None:
    ipam = node.scripted_ipam()
    pod = node.attachment(
        cniVersion="1.0.0", bridge="nosuchbridge", interface_type=kind, ipam=ipam.config, cni_path=str(ipam.folder)
    )
    pod.add().error(100)
    assert ipam.calls == []
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.parametrize("kind", KINDS[:2])  # a tap is refused by ADD itself
def test_a_port_that_ovs_vswitchd_refuses_is_reported_with_its_words(node: Node, kind: str) -> None:
    """The bridge is a fake datapath type's, so that ovs-vswitchd cannot add any port to it."""
    node.openvswitch.vsctl("--no-wait", "set", "Bridge", node.bridge, "datapath_type=nosuchtype")
    pod = node.attachment(interface_type=kind, ipam=node.host_local(), timeout=3)
    outcome = pod.add()
    outcome.error(101, 11)
    assert outcome.seconds < 6
    node.openvswitch.vsctl("set", "Bridge", node.bridge, "datapath_type=netdev")
    node.assert_nothing_left()


@pytest.mark.one_target
def test_a_port_whose_device_has_vanished_is_refused_with_open_vswitchs_error(node: Node) -> None:
    """A dhcp-like IPAM plugin is not needed: the device is deleted under the plugin while IPAM still runs."""
    ipam = node.scripted_ipam()
    pod = node.attachment(cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder))
    ipam.act(ADD=f'nsenter --net="$CNI_NETNS" ip link delete net1\n{ScriptedIpam.answer("10.77.0.2/24")}')
    pod.add().error(101, 103)
    assert ipam.calls == ["ADD", "DEL"]
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "route",
    [{"dst": "192.168.0.0/16", "gw": "203.0.113.1"}, {"dst": "2001:db8:7::/48", "gw": "2001:db8:8::1"}],
    ids=["v4", "v6"],
)
def test_a_route_that_the_kernel_refuses_undoes_everything(node: Node, kind: str, route: dict[str, str]) -> None:
    """No address of the interface reaches the gateway."""
    pod = node.attachment(interface_type=kind, ipam={**node.host_local(), "routes": [route]})
    pod.add().error(103)
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.parametrize("kind", KINDS)
def test_an_address_that_the_kernel_refuses_undoes_everything(node: Node, kind: str) -> None:
    pod = node.attachment(interface_type=kind, ipam=static("10.1.0.2/24", "::/64"))
    pod.add().error(103, 104)
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", KINDS)
def test_a_namespace_that_vanishes_meanwhile_undoes_everything(node: Node, kind: str) -> None:
    ipam = node.scripted_ipam()
    pod = node.attachment(cniVersion="1.0.0", interface_type=kind, ipam=ipam.config, cni_path=str(ipam.folder))
    ipam.act(ADD=f'ip netns delete "$(basename "$CNI_NETNS")"\n{ScriptedIpam.answer("10.77.0.2/24")}')
    outcome = pod.add()
    if outcome.exit_code == 0:  # it holds the namespace open, so it may finish its work in it
        pod.delete().silent()
    else:
        outcome.error()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.parametrize("kind", KINDS)
def test_a_bridge_that_is_removed_meanwhile_leaves_no_rows_that_belong_to_nothing(node: Node, kind: str) -> None:
    ipam = node.scripted_ipam()
    pod = node.attachment(cniVersion="1.0.0", interface_type=kind, ipam=ipam.config, cni_path=str(ipam.folder))
    ipam.act(
        ADD=f"ovs-vsctl --db={node.openvswitch.remote} del-br {node.bridge} >&2\n{ScriptedIpam.answer('10.77.0.2/24')}"
    )
    pod.config["timeout"] = 5
    outcome = pod.add()
    if outcome.exit_code == 0:
        pod.delete().silent()
    node.assert_nothing_left()


def _hanging(node: Node, kind: str) -> tuple[Attachment, ScriptedIpam]:
    ipam = node.scripted_ipam(ADD="sleep 300")
    pod = node.attachment(
        cniVersion="1.0.0", interface_type=kind, ipam=ipam.config, cni_path=str(ipam.folder), timeout=20
    )
    return pod, ipam


@pytest.mark.contract(8)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("times", [1, 2])
def test_sigterm_during_a_hung_ipam_undoes_everything_also_when_sent_twice(node: Node, kind: str, times: int) -> None:
    pod, ipam = _hanging(node, kind)
    running = pod.start("ADD")
    wait_for("the IPAM plugin runs", lambda: ipam.calls)
    wait_for("the port exists", node.ports)
    for _ in range(times):
        running.signal(signal.SIGTERM)
    running.wait(timeout=10).error()
    assert ipam.calls == ["ADD", "DEL"]
    node.assert_nothing_left()


@pytest.mark.contract(8)
@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_lets_the_ipam_plugin_come_to_its_end_before_the_address_is_returned(node: Node, kind: str) -> None:
    """host-local makes the file of an address first, and then writes into it whose it is; between, no DEL finds it."""
    reserved, address = node.folder / "reserved", ScriptedIpam.answer("10.77.0.2/24")
    pod, ipam = _hanging(node, kind)
    ipam.act(
        ADD=f"touch {reserved}; sleep 0.5; echo {pod.container_id} > {reserved}; {address}",
        DEL=f"grep -q {pod.container_id} {reserved} && rm {reserved}; true",
    )
    running = pod.start("ADD")
    wait_for("ADD waits for the IPAM plugin", lambda: reserved.exists() and len(pod.sandbox.links()) > 1)
    running.signal(signal.SIGTERM)
    running.wait(timeout=10).error()
    assert ipam.calls == ["ADD", "DEL"]
    assert not reserved.exists()
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(8)
@pytest.mark.parametrize("kind", KINDS)
def test_an_ipam_plugin_that_hangs_in_add_and_in_del_cannot_keep_us(node: Node, kind: str) -> None:
    pod, ipam = _hanging(node, kind)
    ipam.act(ADD="sleep 300", DEL="sleep 300")
    pod.config["timeout"] = 2
    outcome = pod.start("ADD").wait(timeout=15)
    outcome.error(11)
    assert outcome.seconds < 10
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.parametrize("answer", ["head -c 3000000 /dev/zero | tr '\\0' x", "yes", "cat /dev/zero"])
@pytest.mark.contract(8)
def test_an_ipam_plugin_that_talks_without_end_cannot_keep_us(node: Node, answer: str) -> None:
    ipam = node.scripted_ipam(ADD=answer)
    pod = node.attachment(cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder), timeout=3)
    outcome = pod.start("ADD").wait(timeout=15)
    outcome.error(104, 11)
    node.assert_nothing_left()


@pytest.mark.one_target
def test_an_ipam_plugin_that_cannot_be_executed_is_named(node: Node) -> None:
    folder = node.folder / "broken"
    folder.mkdir()
    for name, content, mode in (("noexec", "#!/bin/sh\n", 0o644), ("noprogram", "\x00\x01nonsense", 0o755)):
        (folder / name).write_text(content)
        (folder / name).chmod(mode)
        pod = node.attachment(ipam={"type": name}, cni_path=str(folder))
        assert name in pod.add().error(104)["msg"]
        node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(8, 14)
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_at_any_moment_leaves_all_or_nothing(node: Node, kind: str) -> None:
    """ADD is told to end after 0, 4, 8, … ms; either it has succeeded or nothing is left, never anything between."""
    pod = node.attachment(interface_type=kind, ipam=node.host_local("10.10.0.0/16", "2001:db8:10::/64"))
    undone = 0
    for milliseconds in range(0, 120, 4):
        running = pod.start("ADD")
        if not running.ends_within(milliseconds / 1000):
            running.signal(signal.SIGTERM)
        outcome = running.wait(timeout=15)
        if outcome.exit_code == 0:
            pod.delete().silent()
        else:
            undone += 1
        node.assert_nothing_left()
    assert undone > 5


@pytest.mark.one_target
@pytest.mark.parametrize("command", ["DEL", "GC"])
def test_the_address_that_ipam_gives_after_add_was_killed_is_returned(node: Node, command: str) -> None:
    """host-local, but it takes its time; meanwhile ADD is killed, and the runtime's next command comes."""
    data = node.folder / "host-local"
    ipam = node.scripted_ipam()
    real = f"exec '{cni_path('1.1.0')}/host-local' < {shlex.quote(str(ipam.folder))}/scripted.records"
    ipam.act(ADD=f"sleep 1; {real}/ADD.stdin", DEL=f"{real}/DEL.stdin")
    pod = node.attachment(
        cniVersion="1.1.0",
        ipam={**host_local(data, "10.77.0.0/24"), "type": ipam.type},
        cni_path=str(ipam.folder),
    )
    running = pod.start("ADD")
    wait_for("the port exists", node.ports)
    wait_for("the IPAM plugin runs", lambda: ipam.calls)
    running.signal(signal.SIGKILL)
    running.wait()
    if command == "DEL":
        pod.delete().silent()
    else:
        pod.gc(**{"cni.dev/valid-attachments": []}).silent()
    assert ipam.calls[:2] == ["ADD", "DEL"]
    assert host_local_files(data) == []
    node.assert_nothing_left()


@pytest.mark.one_target
@pytest.mark.contract(8)
def test_an_ipam_plugin_that_hangs_after_add_was_killed_does_not_keep_del(node: Node) -> None:
    pod, ipam = _hanging(node, "veth")
    running = pod.start("ADD")
    wait_for("the port exists", node.ports)
    wait_for("the IPAM plugin runs", lambda: ipam.calls)
    running.signal(signal.SIGKILL)
    running.wait()
    pod.config["timeout"] = 3
    try:
        outcome = pod.delete()
        assert outcome.exit_code == 0
        assert "or its IPAM plugin" in outcome.stderr
        assert 1 < outcome.seconds < 4
        assert ipam.calls == ["ADD", "DEL"]
    finally:
        os.killpg(ipam.pid("ADD"), signal.SIGKILL)
    node.assert_nothing_left()

"""A node that is switched over from ovs-cni: its configurations work, and what it has attached is ours to end."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.node import Node
from tests.support.plugin import PATH, REPOSITORY, Attachment, Json
from tests.support.processes import run, wait_for

pytestmark = pytest.mark.one_target

OVS_CNI = REPOSITORY / ".tools/bin/ovs-cni"
PAGE = (REPOSITORY / "docs/ovs-cni.md").read_text()


def theirs(pod: Attachment, command: str) -> None:
    """Lets ovs-cni carry out a command, with a cache folder that only it sees."""
    if not OVS_CNI.exists():
        pytest.skip("no ovs-cni: build/bench builds it, where there is Go")
    script = 'mkdir -p /var/lib/cni && mount -t tmpfs none /var/lib/cni && exec "$0"'
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(OVS_CNI)]
    environment = {**pod.environment(command), "PATH": PATH}
    done = run(pod.plugin.host.command(*words), stdin=json.dumps(pod.stdin(command)), env=environment)
    if command == "ADD":
        pod.result = json.loads(done.stdout)


CONFIGURATIONS: list[Json] = [
    {},
    {"vlan": 5},
    {"trunk": [{"id": 7}, {"minID": 9, "maxID": 11}]},
    {"vlan": 0, "mtu": 1400, "ofport_request": 77, "interface_type": ""},
    {"cni_args": "MAC=02:00:00:00:00:0a;OvnPort=p;K8S_POD_UID=1f4b", "vlan": 4094},
]


# Not internal ports: on the userspace datapath, ovs-cni renames the device, and ovs-vswitchd loses it.
@pytest.mark.parametrize("keys", CONFIGURATIONS)
def test_a_configuration_means_the_same(node: Node, keys: Json) -> None:
    ours, other = (node.attachment(cniVersion="1.0.0", **keys) for _ in range(2))
    ours.add().ok()
    my_port, my_interface, my_link = node.port(ours), node.interface(ours), ours.sandbox.link("net1")
    my_mtu = node.host.link(my_port["name"]).mtu
    ours.delete().silent()
    theirs(other, "ADD")
    (name,) = node.openvswitch.port_names(node.bridge)
    port, interface = (node.openvswitch.row(table, name) for table in ("Port", "Interface"))
    for column in ("tag", "trunks", "cvlans"):
        assert my_port[column] == port[column]
    assert (my_port["vlan_mode"] or "trunk") == port["vlan_mode"]
    assert my_port["external_ids"].get("contPodUid", "") == port["external_ids"]["contPodUid"]
    for column in ("type", "ofport_request", "external_ids"):
        assert my_interface[column] == interface[column]
    link = other.sandbox.link("net1")
    assert (my_mtu, my_link.mtu) == (node.host.link(name).mtu, link.mtu)
    if "cni_args" in keys:
        assert my_link.mac == link.mac == "02:00:00:00:00:0a"
    other.delete().silent()
    node.assert_nothing_left()


def test_what_ovs_cni_has_attached_is_seen_by_check_removed_by_del_and_left_by_gc(node: Node) -> None:
    pod = node.attachment(cniVersion="1.0.0", vlan=5, mtu=1400, ipam=node.host_local())
    theirs(pod, "ADD")
    (name,) = node.openvswitch.port_names(node.bridge)
    wait_for("ovs-vswitchd has it", lambda: node.openvswitch.row("Interface", name)["ofport"] != [])  # ovs-cni does not
    pod.check().silent()
    pod.config["cniVersion"] = "1.1.0"
    pod.gc(**{"cni.dev/valid-attachments": []})
    assert node.openvswitch.port_names(node.bridge) == [name]
    pod.config["cniVersion"] = "1.0.0"
    node.openvswitch.vsctl("set", "Port", name, "tag=6")
    assert "VLAN" in pod.check().error(106)["msg"]
    pod.delete().silent()
    assert node.openvswitch.port_names(node.bridge) == []
    node.assert_nothing_left()


def test_every_line_of_the_page_names_a_test_that_exists() -> None:
    lines = [line for line in PAGE.splitlines() if "test_" in line]
    assert len(lines) > 20
    for line in lines:
        found = re.search(r"\| ([a-z]+/test_\w+\.py): (test_\w*) \|$", line)
        assert found, line
        text = (REPOSITORY / "tests" / found[1]).read_text()
        assert re.search(rf"^def {found[2]}", text, re.MULTILINE), line

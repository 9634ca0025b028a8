"""A flat file: every command takes from it what the configuration leaves out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.node import Node
from tests.support.plugin import Json

pytestmark = pytest.mark.one_target

KUBERNETES, CNI = "kubernetes/cni/net.d/ovs.d/ovs.conf", "cni/net.d/ovs.d/ovs.conf"
LEFT_OUT: Json = {"bridge": None, "socket_file": None}  # these are in the file


def written(node: Node, path: Path, **keys: object) -> str:
    """A flat file with what is needed to reach the node's bridge, and more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"bridge": node.bridge, "socket_file": node.openvswitch.remote, **keys}))
    return str(path)


def test_every_command_takes_from_it_what_the_configuration_leaves_out(node: Node) -> None:
    path = written(node, node.folder / "ovs.conf", vlan=9, mtu=1300, ipam=node.host_local())
    pod = node.attachment(configuration_path=path, mtu=1400, **LEFT_OUT)
    pod.cni_path = node.attachment(ipam=node.host_local()).cni_path
    pod.status().silent()
    pod.add().ok()
    assert node.port(pod)["tag"] == 9
    assert pod.sandbox.link("net1").mtu == 1400
    assert len(pod.addresses) == len(node.addresses_given_out()) == 1  # host-local had its `dataDir` from the file
    pod.check().silent()
    other = node.attachment(configuration_path=path, **LEFT_OUT)
    other.cni_path = pod.cni_path
    other.add().ok()
    other.sandbox.delete()
    kept = [{"containerID": pod.container_id, "ifname": pod.ifname}]
    pod.gc(**{"cni.dev/valid-attachments": kept}).silent()
    node.assert_nothing_left(keep=[pod])
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.parametrize(
    ("named", "there", "vlan"),
    [
        (False, {KUBERNETES: 11, CNI: 12}, 11),
        (False, {CNI: 12}, 12),
        (True, {KUBERNETES: 11, CNI: 12}, 13),
        (True, {}, 13),
    ],
)
def test_the_first_of_these_that_exists_is_taken(node: Node, named: bool, there: dict[str, int], vlan: int) -> None:
    """The plugin runs in a mount namespace whose /etc is ours."""
    etc = node.folder / "etc"
    etc.mkdir()
    for name, of_file in there.items():
        written(node, etc / name, vlan=of_file)
    keys: Json = {"configuration_path": written(node, node.folder / "named", vlan=13)} if named else {}
    pod = node.attachment(**keys, **LEFT_OUT)
    script = 'mount --bind "$0" /etc && exec "$@"'
    wrapper = ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(etc))
    node.plugin.run(pod.environment("ADD"), pod.config, wrapper=wrapper).ok()
    assert node.port(pod)["tag"] == vlan
    node.plugin.run(pod.environment("DEL"), pod.config, wrapper=wrapper).silent()
    node.assert_nothing_left()


def test_one_that_everybody_can_write_is_refused_by_add_and_no_hindrance_to_del(node: Node) -> None:
    path = Path(written(node, node.folder / "ovs.conf", vlan=9))
    pod = node.attached(configuration_path=str(path), vlan=None, ipam=node.host_local())
    path.chmod(0o666)
    error = pod.check().error(7)
    assert str(path) in error["msg"] and "others than root can write" in error["msg"]
    node.attachment(configuration_path=str(path)).add().error(7)
    assert str(path) in pod.delete().silent().stderr
    node.assert_nothing_left()

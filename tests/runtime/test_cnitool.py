"""The CNI project's own small runtime, cnitool, attaches containers with this plugin: libcni as Go clients use it.

libcni keeps its results in /var/lib/cni, a name that is built into cnitool; so it runs in a mount namespace of its own
where that folder is a private one.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.machine import PrivateMounts, install_plugin
from tests.support import ipam
from tests.support.namespace import Namespace
from tests.support.node import Node
from tests.support.plugin import PATH, Json
from tests.support.processes import run

VERSIONS = ("0.4.0", "1.0.0", "1.1.0")  # cnitool checks, and so wants a version that has CHECK
CNITOOL = Path(ipam.TOOLS) / "cnitool"
CACHE = "/var/lib/cni/results"


class Cnitool:
    """cnitool on a node, with one network."""

    def __init__(self, node: Node, mounts: PrivateMounts, folder: Path) -> None:
        """`folder` takes the network's configuration and the plugin."""
        self._node = node
        self._mounts = mounts
        self._configurations = folder / "net.d"
        self._configurations.mkdir()
        self._plugins = folder / "cni-bin"
        install_plugin(node.plugin.target, self._plugins)
        self._cni_path = str(self._plugins)

    def network(self, version: str, *chained: Json, **keys: object) -> None:
        """Writes the network's configuration list: the plugin with `keys`, and what is chained after it."""
        plugin = {**self._node.config(cniVersion=None, name=None), **keys}
        network = {"cniVersion": version, "name": self._node.network, "plugins": [plugin, *chained]}
        (self._configurations / "10-network.conflist").write_text(json.dumps(network))
        self._cni_path = f"{self._plugins}:{ipam.cni_path(version)}"

    def run(self, command: str, sandbox: Namespace, *, ifname: str = "eth0") -> subprocess.CompletedProcess[str]:
        """Runs one command to its end."""
        environment = {
            "PATH": PATH,
            "TMPDIR": str(self._node.temporary),
            "CNI_PATH": self._cni_path,
            "NETCONFPATH": str(self._configurations),
            "CNI_IFNAME": ifname,
        }
        words = self._mounts.command(CNITOOL, command, self._node.network, sandbox.path)
        return run(self._node.host.command(*words), env=environment, check=False)

    def succeeds(self, command: str, sandbox: Namespace, *, ifname: str = "eth0") -> str:
        """Runs a command that has to succeed; what it printed."""
        done = self.run(command, sandbox, ifname=ifname)
        assert done.returncode == 0, done
        return done.stdout

    def add(self, sandbox: Namespace, *, ifname: str = "eth0") -> Json:
        """Attaches a container; the result that cnitool printed."""
        result = json.loads(self.succeeds("add", sandbox, ifname=ifname))
        assert isinstance(result, dict)
        return result

    def forget(self) -> None:
        """Empties libcni's cache, as the loss of a node's disk does."""
        for path in self.cached():
            path.unlink()

    def cached(self) -> list[Path]:
        """The results that libcni has kept."""
        return list(self._mounts.path(CACHE).glob("*"))


@pytest.fixture(scope="module")
def mounts() -> Iterator[PrivateMounts]:
    """A mount namespace with a /var/lib of its own."""
    if not CNITOOL.is_file():
        pytest.skip(f"no {CNITOOL}: build/setup installs it where there is a Go toolchain")
    made = PrivateMounts("/var/lib")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def cnitool(node: Node, mounts: PrivateMounts, tmp_path: Path) -> Iterator[Cnitool]:
    """The network of the test's node, and cnitool to attach to it."""
    made = Cnitool(node, mounts, tmp_path)
    try:
        yield made
    finally:
        made.forget()


def container_id(sandbox: Namespace) -> str:
    """The container id that cnitool derives from the namespace's path."""
    return f"cnitool-{hashlib.sha512(sandbox.path.encode()).digest()[:10].hex()}"


@pytest.mark.parametrize("version", VERSIONS)
def test_cnitool_attaches_checks_and_detaches_two_containers_that_reach_each_other(
    cnitool: Cnitool, node: Node, version: str
) -> None:
    cnitool.network(version, vlan=7, ipam=node.host_local("10.30.0.0/24", "fd00:30::/64"))
    one, two = node.sandbox(), node.sandbox()
    for sandbox in (one, two):
        result = cnitool.add(sandbox)
        assert result["cniVersion"] == version
        assert {entry["address"] for entry in result["ips"]} == sandbox.address_texts("eth0")
        assert sandbox.link("eth0").mac in {interface["mac"] for interface in result["interfaces"]}
    assert {row["external_ids"]["contID"] for row in node.ports()} == {container_id(one), container_id(two)}
    assert [row["tag"] for row in node.ports()] == [7, 7]
    for address in one.address_texts("eth0"):
        assert two.pings(address.partition("/")[0])
    for sandbox in (one, two):
        cnitool.succeeds("check", sandbox)
        cnitool.succeeds("del", sandbox)
        cnitool.succeeds("del", sandbox)
    node.assert_nothing_left()
    assert cnitool.cached() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_cnitool_check_fails_and_says_why_when_the_vlan_was_changed(cnitool: Cnitool, node: Node, version: str) -> None:
    cnitool.network(version, vlan=7)
    sandbox = node.sandbox()
    cnitool.add(sandbox)
    (port,) = node.ports()
    node.openvswitch.vsctl("set", "Port", port["name"], "tag=8")
    done = cnitool.run("check", sandbox)
    assert done.returncode == 1
    assert "7" in done.stderr and "8" in done.stderr, done
    cnitool.succeeds("del", sandbox)
    node.assert_nothing_left()


@pytest.mark.parametrize("version", VERSIONS)
def test_cnitool_detaches_a_container_whose_namespace_is_gone(cnitool: Cnitool, node: Node, version: str) -> None:
    cnitool.network(version, ipam=node.host_local())
    sandbox = node.sandbox()
    cnitool.add(sandbox)
    sandbox.delete()
    cnitool.succeeds("del", sandbox)
    node.assert_nothing_left()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_chained_tuning_plugin_gets_the_result_and_the_interface(cnitool: Cnitool, node: Node, version: str) -> None:
    tuning = {
        "type": "tuning",
        "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"},
        "dataDir": str(node.folder / "tuning"),
    }
    cnitool.network(version, tuning, ipam=node.host_local("10.31.0.0/24"))
    sandbox = node.sandbox()
    result = cnitool.add(sandbox)
    assert [entry["address"] for entry in result["ips"]] == ["10.31.0.2/24"]
    assert sandbox.sysctl("net/ipv4/conf/eth0/arp_filter") == "1"
    cnitool.succeeds("check", sandbox)
    cnitool.succeeds("del", sandbox)
    node.assert_nothing_left()


def test_cnitool_gc_removes_every_attachment_of_the_network_and_no_other(cnitool: Cnitool, node: Node) -> None:
    other = node.attached(name=f"{node.network}-other", ipam=node.host_local("10.33.0.0/24"))
    cnitool.network("1.1.0", ipam=node.host_local("10.32.0.0/24"))
    for ifname in ("eth0", "net1"):
        cnitool.add(node.sandbox(), ifname=ifname)
    assert len(node.ports()) == 3
    cnitool.succeeds("gc", node.sandbox())
    node.assert_nothing_left(keep=[other])


def test_cnitool_gc_removes_nothing_when_it_cannot_say_which_attachments_are_valid(
    cnitool: Cnitool, node: Node
) -> None:
    """Then cnitool has no list to give: libcni leaves the key out, which is not the same as an empty list."""
    cnitool.network("1.1.0", ipam=node.host_local("10.32.0.0/24"))
    sandbox = node.sandbox()
    cnitool.add(sandbox)
    cnitool.forget()
    cnitool.succeeds("gc", node.sandbox())
    assert len(node.ports()) == 1
    assert sandbox.address_texts("eth0") == {"10.32.0.2/24"}
    cnitool.succeeds("del", sandbox)
    node.assert_nothing_left()


def test_cnitool_status_succeeds_on_a_working_node_and_names_the_bridge_that_is_missing(
    cnitool: Cnitool, node: Node
) -> None:
    sandbox = node.sandbox()
    cnitool.network("1.1.0", ipam=node.host_local())
    assert cnitool.succeeds("status", sandbox) == ""
    cnitool.network("1.1.0", bridge="br-missing", ipam=node.host_local())
    done = cnitool.run("status", sandbox)
    assert done.returncode == 1
    assert "br-missing" in done.stderr
    node.assert_nothing_left()


def test_cnitool_add_reports_our_error_and_leaves_nothing(cnitool: Cnitool, node: Node) -> None:
    cnitool.network("1.0.0", bridge="br-missing", ipam=node.host_local())
    done = cnitool.run("add", node.sandbox())
    assert done.returncode == 1
    assert "br-missing" in done.stderr
    node.assert_nothing_left()

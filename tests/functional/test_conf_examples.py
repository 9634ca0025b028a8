"""Every example in conf/ is attached for real: what is documented as an example works.

Only these things differ from the files: `socket_file` is added to the plugin, because the Open vSwitch is a private
one; `dataDir` is added to host-local and tuning, so that their records lie in the test's folder. The bridge that an
example names is made with the userspace datapath, as the machine's kernel may have no other.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.runtime.chain import Chain
from tests.runtime.machine import install_plugin
from tests.support import ipam
from tests.support.namespace import Namespace
from tests.support.node import INTERNAL_KINDS, Node
from tests.support.plugin import REPOSITORY, Json
from tests.support.processes import wait_for

CONF = REPOSITORY / "conf"
KUBERNETES = CONF / "kubernetes"
BRIDGE = "br-cni"

pytestmark = pytest.mark.one_target


@dataclass(frozen=True)
class Expected:
    """What a container has after an example was attached as the first one of its network."""

    kind: str = "veth"
    tag: int | None = None
    trunks: tuple[int, ...] = ()
    mtu: int = 1500
    addresses: tuple[str, ...] = ()
    routes: dict[str, str] = field(default_factory=dict)  # destination -> gateway
    sysctls: dict[str, str] = field(default_factory=dict)
    consumes: bool = False  # copies of packets
    rates: tuple[str, ...] = ()  # of token bucket filters, as tc shows them


EXPECTED = {
    "layer2.conflist": Expected(),
    "vlan-access.conflist": Expected(tag=100, addresses=("10.100.0.10/24",)),
    "trunk.conflist": Expected(tag=100, trunks=(7, *range(200, 210))),
    "dual-stack.conflist": Expected(
        addresses=("10.101.0.2/24", "fd00:101::2/64"),
        routes={"0.0.0.0/0": "10.101.0.1", "10.200.0.0/16": "10.101.0.254", "::/0": "fd00:101::1"},
    ),
    "internal-port.conflist": Expected(kind="internal", mtu=1400, addresses=("10.102.0.2/24",)),
    "tap.conflist": Expected(kind="tap", tag=100, mtu=1400, addresses=("10.107.0.2/24", "fd00:107::2/64")),
    "tuning.conflist": Expected(
        addresses=("10.103.0.2/24",),
        sysctls={"net/core/somaxconn": "1024", "net/ipv4/tcp_keepalive_time": "600"},
    ),
    "bandwidth.conflist": Expected(addresses=("10.105.0.2/24",), rates=("100Mbit", "50Mbit")),
    "spoofing.conflist": Expected(addresses=("10.106.0.2/24", "fd00:106::2/64")),
    "mirror-producer.conflist": Expected(addresses=("10.104.0.2/24",)),
    "mirror-consumer.conflist": Expected(consumes=True),
    "kubernetes/network.yaml": Expected(tag=100, addresses=("10.100.0.10/24",)),
}

ELSEWHERE = ["vhost-user.conflist"]  # no device to look at: tests/functional/test_vhost_user.py


def manifest(name: str) -> Json:
    """The one object in a Kubernetes manifest."""
    loaded = yaml.safe_load((KUBERNETES / name).read_text())
    assert isinstance(loaded, dict)
    return loaded


def example(name: str) -> Json:
    """A network configuration list of conf/; a NetworkAttachmentDefinition's single plugin as a list of one."""
    if name.endswith(".conflist"):
        network = json.loads((CONF / name).read_text())
    else:
        plugin = json.loads(manifest(Path(name).name)["spec"]["config"])
        network = {"cniVersion": plugin.pop("cniVersion"), "name": plugin.pop("name"), "plugins": [plugin]}
    assert isinstance(network, dict)
    return network


@pytest.fixture
def bridge(node: Node) -> Iterator[str]:
    """The bridge that the examples name."""
    node.openvswitch.add_bridge(BRIDGE)
    try:
        yield BRIDGE
    finally:
        node.openvswitch.delete_bridge(BRIDGE)


@pytest.fixture
def cni_bin(node: Node, tmp_path: Path) -> str:
    """A folder with the plugin, for CNI_PATH."""
    folder = tmp_path / "cni-bin"
    install_plugin(node.plugin.target, folder)
    return str(folder)


def prepared(network: Json, node: Node) -> Json:
    """The example with what this module's docstring says."""
    network = copy.deepcopy(network)
    for plugin in network["plugins"]:
        if plugin["type"].startswith("ovs"):
            assert plugin["bridge"] == BRIDGE
            plugin["socket_file"] = node.openvswitch.remote
            if "ipam" in plugin:
                plugin["ipam"]["dataDir"] = str(node.address_files)
        elif plugin["type"] == "tuning":
            plugin["dataDir"] = str(node.folder / "tuning")
    return network


def attach(network: Json, node: Node, cni_bin: str) -> Chain:
    """A new container, attached to the network."""
    chain = Chain(
        network,
        node.host,
        node.sandbox(),
        cni_path=f"{cni_bin}:{ipam.cni_path(network['cniVersion'])}",
        environment={"TMPDIR": str(node.temporary)},
    )
    chain.add()
    return chain


def assert_as_expected(chain: Chain, node: Node, expected: Expected) -> None:
    """Compares the kernel, Open vSwitch and the result with what is expected."""
    ports = [row for row in node.ports() if row["external_ids"]["contID"] == chain.container_id]
    assert len(ports) == 1
    port = ports[0]
    assert port["name"] in node.openvswitch.port_names(BRIDGE)
    assert port["tag"] == ([] if expected.tag is None else expected.tag)
    assert port["trunks"] == list(expected.trunks)
    interface = node.openvswitch.row("Interface", port["name"])
    assert interface["type"] == ("" if expected.kind == "veth" else expected.kind)

    link = chain.sandbox.link("eth0")
    assert link.up
    assert link.mtu == expected.mtu
    assert link.kind in (("veth",) if expected.kind == "veth" else INTERNAL_KINDS)
    assert chain.sandbox.address_texts("eth0") == set(expected.addresses)
    gateways = {route.destination: route.gateways for route in chain.sandbox.routes() if route.gateways}
    assert gateways == {destination: (gateway,) for destination, gateway in expected.routes.items()}
    if node.openvswitch.datapath_type == "netdev":  # else Open vSwitch limits a veth
        shown = chain.sandbox.run("tc", "qdisc", "show").stdout
        assert sorted(line.split(" rate ")[1].split()[0] for line in shown.splitlines() if " rate " in line) == sorted(
            expected.rates
        )
    for key, value in expected.sysctls.items():
        assert chain.sandbox.sysctl(key) == value

    assert chain.result is not None
    assert chain.result["cniVersion"] == chain.network["cniVersion"]
    assert [entry["address"] for entry in chain.result.get("ips", [])] == list(expected.addresses)


def reaches(sandbox: Namespace, address: str) -> bool:
    """True when an address, given with its prefix length, answers."""
    return sandbox.pings(address.partition("/")[0])


def test_every_example_has_an_expectation_here() -> None:
    files = [path.name for path in CONF.glob("*.conflist")]
    files += [
        f"kubernetes/{path.name}"
        for path in KUBERNETES.iterdir()
        if manifest(path.name)["kind"] == "NetworkAttachmentDefinition"
    ]
    assert sorted(files) == sorted([*EXPECTED, *ELSEWHERE])


def test_every_example_is_explained_in_the_readme() -> None:
    readme = (CONF / "README.md").read_text()
    files = [path for path in CONF.rglob("*") if path.is_file() and path.name != "README.md"]
    assert [path.name for path in files if f"**{path.name}**" not in readme] == []


@pytest.mark.parametrize("name", [name for name in (*EXPECTED, *ELSEWHERE) if name.endswith(".conflist")])
def test_a_network_is_called_like_its_file(name: str) -> None:
    assert example(name)["name"] == Path(name).stem


def example_of_another(network: Json, expected: Expected) -> Json:
    """The same; a mirror has one consumer, so another one needs another mirror."""
    network = copy.deepcopy(network)
    if expected.consumes:
        network["plugins"][-1]["mirrors"][0]["name"] = "another"
    return network


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.userspace] if EXPECTED[name].kind == "tap" else []) for name in EXPECTED],
)
def test_an_example_attaches_two_containers_that_reach_each_other_and_leaves_nothing_when_they_go(
    name: str, node: Node, bridge: str, cni_bin: str
) -> None:
    expected = EXPECTED[name]
    network = prepared(example(name), node)

    first = attach(network, node, cni_bin)
    assert_as_expected(first, node, expected)
    second = attach(example_of_another(network, expected), node, cni_bin)
    for address in expected.addresses:
        assert reaches(second.sandbox, address)
    for chain in (first, second):
        chain.check()
    if network["cniVersion"] == "1.1.0":
        first.status()

    for chain in (first, second):
        chain.delete()
    node.assert_nothing_left()


def test_the_example_pod_asks_for_the_example_network() -> None:
    pod, network = manifest("pod.yaml"), manifest("network.yaml")
    assert pod["kind"] == "Pod"
    assert pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"] == network["metadata"]["name"]
    assert pod["metadata"]["namespace"] == network["metadata"]["namespace"]
    assert network["apiVersion"] == "k8s.cni.cncf.io/v1"
    # Multus wants the configuration's name, where there is one, to be the object's.
    assert json.loads(network["spec"]["config"])["name"] == network["metadata"]["name"]


def test_the_daemonset_selects_its_own_pods_and_mounts_what_it_declares() -> None:
    daemonset = manifest("daemonset.yaml")
    assert (daemonset["apiVersion"], daemonset["kind"]) == ("apps/v1", "DaemonSet")
    spec = daemonset["spec"]
    pod = spec["template"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    containers: list[dict[str, Any]] = [*pod["initContainers"], *pod["containers"]]
    assert len({container["image"] for container in containers}) == 1
    declared = {volume["name"] for volume in pod["volumes"]}
    mounted = {mount["name"] for container in containers for mount in container.get("volumeMounts", [])}
    assert mounted == declared


def test_the_waiting_container_of_the_daemonset_ends_at_once_when_the_pod_is_deleted(sandbox: Namespace) -> None:
    command = manifest("daemonset.yaml")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[0] == "/bin/sh"
    process = sandbox.start("busybox", "sh", *command[1:])
    try:
        wait_for("the shell sleeps in a child", lambda: len(sandbox.processes()) == 2)
        process.terminate()
        assert process.wait(3) == 0
    finally:
        sandbox.delete()
        process.communicate(timeout=5)

"""`cni-ovs test --matrix`: every pair of containers of a network."""

from __future__ import annotations

import time

import pytest

from tests.support.cli import Cli
from tests.support.node import Node
from tests.support.plugin import Attachment
from tests.support.processes import wait_for
from tests.support.terminal import in_terminal

pytestmark = pytest.mark.one_target


@pytest.fixture
def cli(node: Node) -> Cli:
    return Cli(node.host, node.openvswitch.remote)


def _pods(node: Node, number: int, **keys: object) -> list[Attachment]:
    return [node.attached(ipam=node.host_local(), **keys) for _ in range(number)]


def test_every_pair_is_tried_and_what_is_in_other_vlans_is_apart_as_it_should_be(node: Node, cli: Cli) -> None:
    pods = [*_pods(node, 3, vlan=5), *_pods(node, 2, vlan=6)]
    report = cli.json("test", "--matrix", "--network", node.network)
    assert report["good"] is True
    vlans = [container["vlan"] for container in report["containers"]]
    assert sorted(vlans) == [5, 5, 5, 6, 6]
    assert len(report["pairs"]) == 10
    for pair in report["pairs"]:
        together = vlans[pair["a"]] == vlans[pair["b"]]
        assert pair["state"] == ("good" if together else "isolated"), pair
        assert (pair["rtt_ms"] is not None) == together
    assert len(pods) == len(report["containers"])
    inner = cli.json("test", "--matrix", "--network", node.network, "--vlan", "6")
    assert [pair["state"] for pair in inner["pairs"]] == ["good"]
    assert not node.strangers()


def test_a_container_that_is_not_reached_is_told_with_the_cause(node: Node, cli: Cli) -> None:
    pods = _pods(node, 3)
    pods[1].sandbox.ip("link", "set", "net1", "down")
    text = (done := cli.run("test", "--matrix", "--bridge", node.bridge, check=False)).stdout
    assert done.returncode == 1
    assert text.count(f"net1 of {pods[1].container_id[:12]} is down") == 2
    assert "pairs that do not reach each other: 2" in text
    assert text.splitlines()[-1].startswith("bad: 3 containers, 3 pairs, 2 of them bad")


def test_a_pair_that_is_apart_and_reached_all_the_same_is_bad(node: Node, cli: Cli) -> None:
    first, second = (*_pods(node, 1, vlan=5), *_pods(node, 1, vlan=6))
    # Another way, of the same interface names: the ports are in other VLANs than Open vSwitch is told.
    switch = f"unix:{node.openvswitch.folder}/{node.bridge}.mgmt"
    ports = [node.interface(pod)["ofport"] for pod in (first, second)]
    for one, other in (ports, reversed(ports)):
        node.host.run("ovs-ofctl", "add-flow", switch, f"priority=9,in_port={one},actions=output:{other}")
    report = cli.json("test", "--matrix", "--network", node.network, check=False)
    assert report["good"] is False
    assert [pair["state"] for pair in report["pairs"]] == ["leak"]


def test_nothing_remains_in_the_kernels_table_of_neighbours_but_what_was_there(node: Node, cli: Cli) -> None:
    """It is one of the machine's, and has a thousand places: 33 containers would fill it, each with all others."""
    pods = _pods(node, 4)
    assert pods[0].sandbox.pings(pods[1].addresses[0])
    before = [pod.sandbox.ip("neighbour", "show", "dev", "net1").split()[:1] for pod in pods]
    assert before == [[pods[1].addresses[0]], [pods[0].addresses[0]], [], []]
    assert cli.json("test", "--matrix", "--network", node.network)["good"] is True
    assert [pod.sandbox.ip("neighbour", "show", "dev", "net1").split()[:1] for pod in pods] == before


def test_containers_with_the_same_address_do_not_reach_each_other(node: Node, cli: Cli) -> None:
    pods = [node.attached(vlan=vlan) for vlan in (5, 5, 6)]
    for pod in pods:
        pod.sandbox.ip("address", "add", "10.3.0.2/24", "dev", "net1")
    report = cli.json("test", "--matrix", "--network", node.network, check=False)
    assert sorted(pair["state"] for pair in report["pairs"]) == ["isolated", "isolated", "silent"]
    assert next(pair["cause"] for pair in report["pairs"] if pair["cause"]).endswith("the same address 10.3.0.2")


def test_different_vlans_are_apart_on_bridges_that_patch_ports_connect_too(node: Node, cli: Cli) -> None:
    other = node.add_bridge()
    for bridge, name, peer in ((node.bridge, "p1", "p2"), (other, "p2", "p1")):
        patch = ("--", "set", "Interface", f"{name}{bridge[-4:]}", "type=patch")
        far = other if bridge == node.bridge else node.bridge
        node.openvswitch.vsctl("add-port", bridge, f"{name}{bridge[-4:]}", *patch, f"options:peer={peer}{far[-4:]}")
    for bridge, vlan in ((node.bridge, 5), (other, 5), (other, 6)):
        _pods(node, 1, bridge=bridge, vlan=vlan)
    report = cli.json("test", "--matrix", "--network", node.network)
    assert sorted(pair["state"] for pair in report["pairs"]) == ["good", "isolated", "isolated"]


def test_a_vhost_user_port_is_left_out_and_that_is_not_bad(node: Node, cli: Cli) -> None:
    pods = _pods(node, 3)
    name = node.port(pods[0])["name"]
    node.openvswitch.vsctl("--no-wait", "set", "Interface", name, "type=dpdkvhostuserclient")  # no DPDK is needed
    report = cli.json("test", "--matrix", "--network", node.network)
    assert report["good"] is True and len(report["pairs"]) == 1
    assert "vhost-user" in report["left_out"][0]["reason"]
    assert "vhost-user" in cli.fails("test", pods[0].sandbox.name, pods[1].sandbox.name)
    node.openvswitch.vsctl("--no-wait", "remove", "Interface", name, "type", "dpdkvhostuserclient", check=False)


def test_throughput_is_measured_where_it_is_asked_for(node: Node, cli: Cli) -> None:
    _pods(node, 2)
    report = cli.json("test", "--matrix", "--network", node.network, "--throughput", "-t", "1")
    assert report["pairs"][0]["bits_per_second"] > 1e6
    assert not node.strangers()


def test_a_container_that_is_gone_is_left_out_and_told(node: Node, cli: Cli) -> None:
    pods = _pods(node, 3)
    node.vanish(pods[0])
    report = cli.json("test", "--matrix", "--network", node.network, check=False)
    assert report["good"] is False
    assert [left["name"] for left in report["left_out"]] == [pods[0].container_id[:12]]
    assert len(report["pairs"]) == 1


def test_names_of_pods_are_shown_without_control_characters(node: Node, cli: Cli) -> None:
    pods = [
        node.attached(ipam=node.host_local(), cni_args="IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web"),
        *_pods(node, 1),
    ]
    assert "shop/web" in cli.run("test", "--matrix", "--network", node.network).stdout
    name = node.port(pods[0])["name"]
    node.openvswitch.transact(
        {
            "op": "mutate",
            "table": "Port",
            "where": [["name", "==", name]],
            "mutations": [
                ["external_ids", "delete", ["set", ["contPodName"]]],
                ["external_ids", "insert", ["map", [["contPodName", "\x1b[2Jweb" + "x" * 200]]]],
            ],
        }
    )
    text = cli.run("test", "--matrix", "--network", node.network).stdout
    assert "\x1b" not in text and "shop/\\x1b[2Jweb" in text


def test_twenty_containers_take_seconds_and_fit_into_a_terminal(node: Node, cli: Cli) -> None:
    _pods(node, 20)
    wait_for("Open vSwitch is quiet", lambda: cli.run("test", "--matrix", "--network", node.network, check=False))
    begun = time.monotonic()
    text = in_terminal(cli, "test", "--matrix", "--network", node.network)
    assert time.monotonic() - begun < 15
    assert "20 containers, 190 pairs" in text
    table = [line for line in text.splitlines() if line[:4].strip().isdigit()]
    assert len(table) == 20
    assert cli.json("test", "--matrix", "--network", node.network, "--limit", "4")["beyond_limit"] == 16


def test_what_does_not_go_together_is_refused(node: Node, cli: Cli) -> None:
    assert "fewer than two attached containers" in cli.fails("test", "--matrix", "--network", "nosuch")
    assert "name two containers" in cli.fails("test", code=2)
    assert "--matrix takes no containers" in cli.fails("test", "--matrix", "a", "b", code=2)
    assert "are for --matrix" in cli.fails("test", "a", "b", "--network", "c", code=2)
    assert "cannot be reached" in cli.fails("test", "--matrix", "--db", "unix:/nowhere/db.sock")

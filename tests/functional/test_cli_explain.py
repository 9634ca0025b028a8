"""`cni-ovs explain`: what it prints is what ADD sends, and it changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Cli
from tests.support.ipam import static
from tests.support.node import Node
from tests.support.plugin import Attachment
from tests.support.processes import run
from tests.support.recording import STRACE, Json, Relay, Sent, comparable, kernel_changes

pytestmark = [pytest.mark.one_target, pytest.mark.userspace]

MAC = "02:00:00:00:00:0a"
ADDRESSES = static(
    "10.1.0.2/24",
    "fd00:1::2/64",
    gateways=("10.1.0.1", "fd00:1::1"),
    routes=({"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.1.0.3", "mtu": 1300}, {"dst": "::/0"}),
)
LIMITS = {"ingressRate": 10_000_000, "egressRate": 5_000_000, "egressBurst": 8_000_000}
CONFIGURATIONS: dict[str, Json] = {
    "veth": {},
    "internal": {"interface_type": "internal"},
    "tap": {"interface_type": "tap"},
    "access": {"vlan": 5},
    "trunk": {"trunk": [{"id": 7}, {"minID": 20, "maxID": 22}], "vlan": 9},
    "mode": {"vlan_mode": "native-tagged", "vlan": 3},
    "mtu": {"mtu": 1400},
    "mtu, internal": {"mtu": 1400, "interface_type": "internal"},
    "MAC": {"runtimeConfig": {"mac": MAC}},
    "MAC, internal": {"runtimeConfig": {"mac": MAC}, "interface_type": "internal"},
    "external_ids": {"external_ids": {"team": "shop", "a b": 'c"d\u00fc'}},
    "ofport_request": {"ofport_request": 77},
    "OVN": {"args": {"cni": {"ovnPort": "a", "mac": MAC}}},
    "addresses": {"ipam": ADDRESSES},
    "addresses, internal": {"ipam": ADDRESSES, "interface_type": "internal"},
    "old version": {"ipam": ADDRESSES, "cniVersion": "0.3.1"},
    "limits": {"bandwidth": LIMITS},
    "limits, internal": {"bandwidth": LIMITS, "interface_type": "internal"},
    "MACs checked": {"macspoofchk": True, "runtimeConfig": {"mac": MAC}, "ofport_request": 78},
    "all checked": {
        "macspoofchk": True,
        "ipspoofchk": True,
        "ipam": ADDRESSES,
        "runtimeConfig": {"mac": MAC},
        "ofport_request": 79,
    },
    "all checked, internal": {
        "interface_type": "internal",
        "macspoofchk": True,
        "ipspoofchk": True,
        "ipam": ADDRESSES,
        "runtimeConfig": {"mac": MAC},
        "ofport_request": 80,
    },
}


@pytest.fixture
def relay(node: Node) -> Iterator[Relay]:
    made = Relay(node.openvswitch, node.bridge)
    try:
        yield made
    finally:
        made.close()


def explained(node: Node, pod: Attachment, *words: str, check: bool = True) -> Json:
    """What `explain` says of the very ADD of an attachment."""
    file = node.folder / "net.conf"
    file.write_text(json.dumps(pod.config))
    cli = Cli(node.host, node.openvswitch.remote)
    which = ("--container", pod.container_id, "--ifname", pod.ifname, "--netns", pod.netns, "--args", pod.args)
    printed = cli.json("explain", str(file), *which, "--cni-path", pod.cni_path, *words, check=check)
    [explanation] = printed["attachments"]
    assert isinstance(explanation, dict)
    return explanation


def actions(explanation: Json, *kinds: str) -> list[Json]:
    return [action for step in explanation["steps"] for action in step["actions"] if action["kind"] in kinds]


def without_chance(transactions: list[list[Json]]) -> list[list[Json]]:
    """The same but for the random UUID of the port, and how long ovs-vswitchd may take."""
    text = json.dumps(transactions)
    for operation in (operation for operations in transactions for operation in operations):
        if "uuid" in operation:
            text = text.replace(operation["uuid"], "UUID")
    again: list[list[Json]] = json.loads(text)
    for operation in (operation for operations in again for operation in operations):
        if operation.get("timeout"):
            operation["timeout"] = "some"
    return again


def without_macs(changes: list[Sent], pod: Attachment) -> list[Sent]:
    """The same without the last one's MAC if that is random: it is the one that the device has."""
    if "mac" in json.dumps(pod.config):
        return changes
    return [
        Sent(each.namespace, each.what, {key: value for key, value in each.content.items() if key != "IFLA_ADDRESS"})
        if isinstance(each.content, dict)
        else each
        for each in changes
    ]


def said_of_kernel(explanation: Json) -> list[Sent]:
    found = []
    for action in actions(explanation, "netlink", "sysctl", "ethtool"):
        content: Any = None
        if action["kind"] == "netlink":
            content = comparable(action["attributes"])
        elif action["kind"] == "sysctl":
            content = (action["key"], action["value"])
        found.append(Sent(action["namespace"], str(action.get("message", action["kind"])), content))
    return found


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_is_explained_is_what_add_sends_to_open_vswitch_and_to_the_kernel(
    node: Node, relay: Relay, name: str
) -> None:
    pod = node.attachment(**{"socket_file": relay.remote, **CONFIGURATIONS[name]})
    said = explained(node, pod)
    assert said["error"] is None, said
    relay.forget()
    trace = node.folder / "trace"
    added = pod.plugin.run(pod.environment("ADD"), pod.config, wrapper=(*STRACE, "-o", str(trace))).ok()
    pod.result = added.result
    operations = [action["operations"] for action in actions(said, "transaction")]
    assert without_chance(operations) == without_chance(relay.transactions())
    flows = [bytes.fromhex(action["message"])[8:] for action in actions(said, "openflow")]
    assert sorted(flows) == sorted(relay.flows())  # some are made in the order of a set
    sent = kernel_changes(trace.read_text(), pod.sandbox)
    assert without_macs(said_of_kernel(said), pod) == without_macs(sent, pod)
    assert len(sent) >= 3
    if "mac" in json.dumps(pod.config) and said["result"]["interfaces"][-1]["mac"]:
        said["result"]["interfaces"][0]["mac"] = added.result["interfaces"][0]["mac"]  # the host's end has a random one
        assert said["result"] == added.result
    pod.delete().silent()
    node.assert_nothing_left()


def dump(node: Node) -> str:
    return run(["ovsdb-client", "dump", node.openvswitch.remote]).stdout


def files(*folders: Path) -> list[str]:
    return sorted(str(path) for folder in folders for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["all checked", "limits, internal", "tap"])
def test_nothing_is_changed(node: Node, name: str) -> None:
    log = node.folder / "log"
    pod = node.attachment(**{**CONFIGURATIONS[name], "ipam": node.host_local(), "log_file": str(log)})

    def everything() -> tuple[Any, ...]:
        database = (node.openvswitch.folder / "conf.db").read_bytes()
        folders = files(node.folder, node.openvswitch.folder, Path("/run/netns"))
        left = [path.name for path in Path("/tmp").iterdir() if path.name.startswith("cni-ovs-")]
        flows = run(
            [
                "ovs-ofctl",
                "-O",
                "OpenFlow13",
                "dump-flows",
                f"unix:{node.openvswitch.folder}/{node.bridge}.mgmt",
                "--no-stats",
            ]
        )
        return dump(node), database, folders, left, flows.stdout, set(node.host.links()), set(pod.sandbox.links())

    (node.folder / "net.conf").write_text("")
    before = everything()
    assert actions(explained(node, pod), "transaction")
    assert everything() == before
    pod.add().ok()  # no sign of another ADD is left, nor a name taken
    assert pod.addresses == ["10.10.0.2"]
    pod.delete().silent()

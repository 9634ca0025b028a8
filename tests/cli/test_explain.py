"""`cni-ovs explain`: what it prints is what ADD sends, and it changes nothing."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import dpdk
from tests.support.cli import Cli
from tests.support.ipam import static
from tests.support.namespace import PREFIX
from tests.support.node import Node
from tests.support.plugin import REPOSITORY, Attachment, Target
from tests.support.processes import run, wait_for
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


def explained(node: Node, pod: Attachment, *, check: bool = True) -> Json:
    """What `explain` says of the very ADD of an attachment."""
    file = node.folder / "net.conf"
    file.write_text(json.dumps(pod.config))
    cli = Cli(node.host, node.openvswitch.remote)
    which = ("--container", pod.container_id, "--ifname", pod.ifname, "--netns", pod.netns, "--args", pod.args)
    printed = cli.json("explain", str(file), *which, "--cni-path", pod.cni_path, check=check)
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


def both(node: Node, relay: Relay, pod: Attachment) -> tuple[Json, list[Sent], Json]:
    """What `explain` says, what the frozen plugin then sends to the kernel, and its result; the relay has the rest."""
    said = explained(node, pod)
    assert said["error"] is None, said
    relay.forget()
    trace = node.folder / "trace"
    added = pod.plugin.run(pod.environment("ADD"), pod.config, wrapper=(*STRACE, "-o", str(trace))).ok()
    pod.result = added.result
    return said, kernel_changes(trace.read_text(), pod.sandbox), added.result


def assert_transactions(said: Json, relay: Relay) -> None:
    operations = [action["operations"] for action in actions(said, "transaction")]
    assert without_chance(operations) == without_chance(relay.transactions())


def compare(node: Node, relay: Relay, pod: Attachment) -> tuple[Json, list[Sent]]:
    """What `explain` says and what the frozen plugin sends is the same; returns both, the latter to the kernel."""
    said, sent, added = both(node, relay, pod)
    assert_transactions(said, relay)
    flows = [bytes.fromhex(action["message"])[8:] for action in actions(said, "openflow")]
    assert sorted(flows) == sorted(relay.flows())  # some are made in the order of a set
    assert without_macs(said_of_kernel(said), pod) == without_macs(sent, pod)
    if "mac" in json.dumps(pod.config):
        if len(said["result"]["interfaces"]) == 2:  # the host's end has a random one
            said["result"]["interfaces"][0]["mac"] = added["interfaces"][0]["mac"]
        assert said["result"] == added
    return said, sent


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_what_is_explained_is_what_add_sends_to_open_vswitch_and_to_the_kernel(
    node: Node, relay: Relay, name: str
) -> None:
    pod = node.attachment(**{"socket_file": relay.remote, **CONFIGURATIONS[name]})
    said, sent = compare(node, relay, pod)
    assert len(sent) >= 3
    assert bool(actions(said, "openflow")) is ("checked" in name)
    pod.delete().silent()
    node.assert_nothing_left()


EXAMPLES = sorted(path.name for path in (REPOSITORY / "conf").glob("*.conflist"))


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "vhost-user.conflist"])  # needs DPDK
def test_so_it_is_with_the_examples_but_for_the_addresses(node: Node, relay: Relay, name: str) -> None:
    network = json.loads((REPOSITORY / "conf" / name).read_text())
    [keys] = [plugin for plugin in network["plugins"] if plugin["type"] == "ovs"]
    if "ipam" in keys:
        keys["ipam"]["dataDir"] = str(node.address_files)
    keys |= {"cniVersion": network["cniVersion"], "bridge": node.bridge, "socket_file": relay.remote}
    pod = node.attachment(**keys)
    said, sent, added = both(node, relay, pod)
    assert_transactions(said, relay)
    assert len(actions(said, "openflow")) == len(relay.flows())
    assert [(each.namespace, each.what) for each in said_of_kernel(said)] == [
        (each.namespace, each.what) for each in sent
    ]
    assert len(said["result"].get("ips", [])) == len(added.get("ips", []))
    destinations = [[route["dst"] for route in result.get("routes", [])] for result in (said["result"], added)]
    assert destinations[0] == destinations[1]
    pod.delete().silent()
    node.assert_nothing_left()


@contextlib.contextmanager
def played(node: Node) -> Iterator[None]:
    """The test plays ovs-vswitchd: it holds its lock, and takes the first port that comes, with the kernel's queue."""
    switch = node.openvswitch
    switch.ovs_vswitchd.stop()
    number = switch.vsctl("--no-wait", "get", "Open_vSwitch", ".", "next_cfg")
    switch.vsctl("--no-wait", "set", "Open_vSwitch", ".", f"cur_cfg={number}")
    lock = node.host.start("ovsdb-client", "lock", switch.remote, "ovs_vswitchd")
    node.helper(lock.pid)

    def take() -> None:
        ours = lambda: [row["name"] for row in switch.rows("Port") if row["name"].startswith("cni")]  # noqa: E731
        name = wait_for("the port is there", ours, timeout=20)[0]
        node.host.run("tc", "qdisc", "add", "dev", name, "root", "handle", "1:", "htb")
        switch.vsctl("--no-wait", "set", "Interface", name, "ofport=3")

    player = threading.Thread(target=take)
    player.start()
    try:
        yield
    finally:
        player.join(25)
        lock.kill()
        lock.communicate(timeout=5)


@pytest.mark.parametrize("keys", [{}, {"mtu": 1400}], ids=["", "mtu"])
def test_so_it_is_with_limits_that_open_vswitch_keeps_on_the_kernels_datapath(private_node: Node, keys: Json) -> None:
    node = private_node
    node.openvswitch.ovs_vswitchd.stop()
    node.openvswitch.vsctl("--no-wait", "set", "Bridge", node.bridge, "datapath_type=system")
    relay = Relay(node.openvswitch, node.bridge)
    try:
        with played(node):
            said, _ = compare(node, relay, node.attachment(socket_file=relay.remote, bandwidth=LIMITS, **keys))
    finally:
        relay.close()
    tables = [operation["table"] for action in actions(said, "transaction") for operation in action["operations"]]
    assert {"QoS", "Queue"} <= set(tables)


@pytest.mark.parametrize("kind", ["dpdkvhostuserclient", "dpdkvhostuser"])
@pytest.mark.parametrize("limits", [{}, {"bandwidth": LIMITS}], ids=["", "limits"])
def test_so_it_is_with_vhost_user_ports(
    dpdk_openvswitch: dpdk.DpdkOpenVSwitch, target: Target, tmp_path: Path, kind: str, limits: Json
) -> None:
    node = Node(dpdk_openvswitch, target, tmp_path)
    relay = Relay(node.openvswitch, node.bridge)
    info = tmp_path / "new" / "info.json"
    folder = node.openvswitch.folder  # where this ovs-vswitchd makes sockets
    pod = node.attachment(
        socket_file=relay.remote,
        interface_type=kind,
        sharedDir=str(folder),
        ipam=ADDRESSES,
        runtimeConfig={"mac": MAC, "CNIDeviceInfoFile": str(info)},
        **limits,
    )
    try:
        before = files(folder)
        explained(node, pod)
        assert files(folder) == before and not info.parent.exists()
        said, sent = compare(node, relay, pod)
        assert sent == []
        [file] = actions(said, "file")
        assert (file["path"], file["content"]) == (str(info), info.read_text())
        pod.delete().silent()
    finally:
        relay.close()
        node.clean()


def dump(node: Node) -> str:
    return run(["ovsdb-client", "dump", node.openvswitch.remote]).stdout


def files(*folders: Path) -> list[str]:
    return sorted(str(path) for folder in folders for path in folder.rglob("*"))


@pytest.fixture
def calm_node(private_node: Node) -> Node:
    """A node whose ovs-vswitchd writes nothing by itself, so that its database can be compared byte by byte."""
    private_node.openvswitch.vsctl("set", "Open_vSwitch", ".", "other_config:stats-update-interval=3600000")
    return private_node


@pytest.mark.parametrize("name", ["all checked", "limits, internal", "tap"])
def test_nothing_is_changed(calm_node: Node, name: str) -> None:
    node, log = calm_node, calm_node.folder / "log"
    pod = node.attachment(**{**CONFIGURATIONS[name], "ipam": node.host_local(), "log_file": str(log)})
    (node.folder / "net.conf").write_text("")

    def everything() -> tuple[Any, ...]:
        database = (node.openvswitch.folder / "conf.db").read_bytes()
        folders = files(node.folder, node.openvswitch.folder)
        names = [
            path.name for path in Path("/run/netns").iterdir() if not path.name.startswith((PREFIX, "cni-ovs-demo"))
        ]
        management = f"unix:{node.openvswitch.folder}/{node.bridge}.mgmt"
        flows = run(["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", management, "--no-stats"]).stdout
        return database, folders, sorted(names), flows, set(node.host.links()), set(pod.sandbox.links())

    before = everything()
    assert actions(explained(node, pod), "transaction")
    assert everything() == before
    pod.add().ok()  # no sign of another ADD is left, nor a name taken
    assert pod.addresses == ["10.10.0.2"]
    pod.delete().silent()


def explain(node: Node, *words: str, check: bool = True, **config: Any) -> tuple[int, Json, str]:
    """Exit code, explanation and stderr for a configuration of the node's network."""
    text = json.dumps(node.config(**config))
    cli = Cli(node.host, node.openvswitch.remote)
    done = cli.run("explain", "-", "--json", *words, stdin=text, check=check)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)["attachments"][0], done.stderr


def inserts(explanation: Json) -> bool:
    return any(step["sentence"].startswith("Insert the port") for step in explanation["steps"])


def test_a_bridge_that_is_missing_is_an_error_and_the_steps_are_for_a_pretended_one(node: Node) -> None:
    code, said, stderr = explain(node, bridge="br-none", check=False)
    assert code == 1
    assert "bridge 'br-none' does not exist" in stderr and "ovs-vsctl add-br br-none" in stderr
    assert (said["error"]["code"], said["pretended"]) == (100, True)
    assert inserts(said) and said["result"]


def test_so_it_is_without_open_vswitch(node: Node) -> None:
    nowhere = f"unix:{node.folder}/none.sock"
    code, said, stderr = explain(node, socket_file=nowhere, check=False)
    assert code == 1 and f"cannot be reached at {nowhere}" in stderr
    assert said["error"]["code"] == 11 and inserts(said)
    code, said, stderr = explain(node, "--offline", socket_file=nowhere)
    assert (code, said["error"], said["pretended"], stderr) == (0, None, True, "")
    assert inserts(said)


def test_so_it_is_when_ovs_vswitchd_is_stopped(private_node: Node) -> None:
    private_node.openvswitch.ovs_vswitchd.stop()
    code, said, stderr = explain(private_node, check=False)
    assert code == 1 and "ovs-vswitchd has not" in stderr and "is not running" in stderr
    assert said["pretended"] and inserts(said)


@pytest.mark.parametrize("kind", ["system", "netdev"])
def test_a_pretended_bridge_has_the_datapath_that_is_asked_for(node: Node, kind: str) -> None:
    _, said, _ = explain(node, "--offline", "--datapath", kind, bandwidth=LIMITS)
    tables = {operation["table"] for action in actions(said, "transaction") for operation in action["operations"]}
    assert ("QoS" in tables) is (kind == "system")
    assert bool(actions(said, "ethtool")) is (kind == "netdev")


def test_nothing_remains_on_the_machine_of_an_explanation_that_is_killed(node: Node) -> None:
    """Wherever it is killed: what it needs of files it has in a file system of its own."""
    (node.folder / "net.conf").write_text(json.dumps(node.config(macspoofchk=True)))
    temporary = node.folder / "temporary"
    temporary.mkdir()
    cli = Cli(node.host, node.openvswitch.remote, environment={"TMPDIR": str(temporary)})
    command = cli.command("explain", str(node.folder / "net.conf"))

    def everything() -> tuple[list[Path], list[str], list[str]]:
        mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(temporary) in line]
        return list(temporary.iterdir()), mounts, node.openvswitch.port_names(node.bridge)

    before = everything()
    for tenths in range(1, 8):
        process = subprocess.Popen(command, env=cli.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(tenths / 10)
        process.kill()
        process.wait(5)
    wait_for("all processes have ended", lambda: not node.strangers())
    assert everything() == before


def test_a_folder_of_sockets_may_have_the_temporary_one_in_it(node: Node) -> None:
    _, said, _ = explain(node, "--offline", interface_type="dpdkvhostuserclient", sharedDir="/tmp")
    assert said["result"]["interfaces"][0]["socketPath"] == f"/tmp/{said['port']}"
    assert not Path("/tmp", said["port"]).exists()


def test_what_add_refuses_is_told_in_its_words(node: Node) -> None:
    node.openvswitch.vsctl("set-controller", node.bridge, "tcp:127.0.0.1:1")
    code, said, stderr = explain(node, macspoofchk=True, check=False)
    assert code == 1 and "has a controller" in stderr
    assert said["error"]["code"] == 7 and not said["pretended"] and not inserts(said)
    code, said, stderr = explain(node, vlan=4095, vlna=3, check=False)
    assert code == 1 and "invalid 'vlan': 4095" in stderr
    assert said["steps"] == []


def test_what_fails_on_the_way_is_shown_with_what_undoes_it(node: Node) -> None:
    code, said, stderr = explain(node, ipam=ADDRESSES, mtu=1000, check=False)
    assert code == 1 and "cannot have IPv6 addresses: its MTU is 1000" in stderr
    sentences = [step["sentence"] for step in said["steps"]]
    assert sentences[-2:] == ["Remove a port from its bridge.", "Delete a device."]


def test_keys_that_nobody_knows_are_warned_of(node: Node) -> None:
    _, said, _ = explain(node, vlna=3)
    [warning] = said["warnings"]
    assert "'vlna'" in warning and "'vlan'" in warning


def test_a_port_that_an_earlier_attachment_has_left_is_replaced_in_words_only(calm_node: Node) -> None:
    node = calm_node
    pod = node.attached()
    node.vanish(pod)
    pod.sandbox = node.sandbox()
    pod.netns = pod.sandbox.path
    before = dump(node)
    said = explained(node, pod)
    assert dump(node) == before
    assert said["error"] is None and "replacing port" in said["warnings"][0]
    sentences = [step["sentence"] for step in said["steps"]]
    assert sentences.index("Remove a port from its bridge.") < [s[:6] for s in sentences].index("Insert")
    pod.add().ok()


def test_ports_whose_containers_are_gone_are_left_alone(calm_node: Node) -> None:
    node = calm_node
    pod = node.attached()
    node.vanish(pod)
    before = dump(node)
    _, said, _ = explain(node)
    assert dump(node) == before
    assert any("other ports that have no device (1)" in note for note in said["notes"])


def test_bridges_are_no_ports_without_a_device(node: Node) -> None:
    assert node.openvswitch.row("Interface", node.bridge)["admin_state"] == "down"
    _, said, _ = explain(node)
    assert not any("no device" in note for note in said["notes"])


def test_an_interface_that_the_container_has_already_is_refused_as_add_does(node: Node) -> None:
    pod = node.attached()
    said = explained(node, pod, check=False)
    refused = pod.add().printed or {}
    assert (said["error"]["code"], said["error"]["msg"]) == (refused["code"], refused["msg"])
    assert said["warnings"] == [] and not inserts(said)


def test_that_an_address_is_returned_with_a_port_that_is_replaced_is_told(calm_node: Node) -> None:
    node = calm_node
    pod = node.attached(ipam=node.host_local())
    node.vanish(pod)
    pod.sandbox = node.sandbox()
    pod.netns = pod.sandbox.path
    assert any("its address is returned" in note for note in explained(node, pod)["notes"])
    assert node.addresses_given_out()


def test_ipam_is_not_asked(node: Node) -> None:
    ipam = node.scripted_ipam()
    _, said, _ = explain(node, "--cni-path", str(ipam.folder), ipam=ipam.config)
    assert ipam.calls == []
    assert [action["program"] for action in actions(said, "ipam")] == [f"{ipam.folder}/{ipam.type}"]
    assert [ip["address"] for ip in said["result"]["ips"]] == ["192.0.2.2/24"]
    _, said, _ = explain(node, "--cni-path", "/nowhere", ipam=node.host_local("10.1.0.0/16", "fd00:7::/64"))
    assert any("'host-local' is not in CNI_PATH '/nowhere'" in text for text in said["warnings"])
    assert [ip["address"] for ip in said["result"]["ips"]] == ["192.0.2.2/24", "2001:db8::2/64"]


def test_of_a_list_the_plugins_of_type_ovs_are_explained(node: Node) -> None:
    plugins = [
        {"type": "ovs", "bridge": node.bridge},
        {"type": "tuning"},
        {"type": "ovs", "bridge": node.bridge, "vlan": 7},
    ]
    text = json.dumps({"cniVersion": "1.0.0", "name": "two", "plugins": plugins})
    said = Cli(node.host, node.openvswitch.remote).run("explain", "-", "--json", stdin=text)
    both = json.loads(said.stdout)["attachments"]
    assert [each["network"] for each in both] == ["two", "two"]
    assert both[0]["result"]["cniVersion"] == "1.0.0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "1:2: no JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"type": "ovs", "name": "\\ud800", "bridge": "b"}', "invalid network name"),
        ("[]", "no network configuration of type 'ovs'"),
        ('{"type": "bridge"}', 'found: "bridge"'),
        ('{"plugins": [{"type": "bridge"}, {"type": 3}, 4]}', "no network configuration of type 'ovs'"),
        ('{"type": "ovs"}', "missing network name"),
        ('{"type": "ovs", "name": "n", "bridge": "b", "deviceID": "0000:03:00.5"}', "'deviceID'"),
        (
            '{"type": "ovs", "name": "n", "bridge": "b", "args": 3, "ipam": {"type": "static", "addresses": [3]}}',
            "IPAM plugin 'static' would refuse",
        ),
        (
            '{"type": "ovs", "name": "n", "bridge": "b", "ipam": {"type": "static", "addresses": [{"address": "x"}]}}',
            "static",
        ),
    ],
)
def test_what_cannot_be_explained_is_an_error_in_one_line_behind_all_mistakes(node: Node, text: str, said: str) -> None:
    file = node.folder / "conf"
    file.write_text(text)
    stderr = Cli(node.host, node.openvswitch.remote).fails("explain", str(file), "--mac", MAC)
    assert said in stderr and "cni-ovs: " in [line[:9] for line in stderr.splitlines()[-2:]]
    assert said in Cli(node.host, node.openvswitch.remote).fails("explain", str(file), "--json", "--mac", MAC)
    assert "explain" in Cli(node.host, node.openvswitch.remote).fails("explain", code=2)


def test_every_mistake_is_told_with_its_place_and_the_key_that_may_be_meant(node: Node) -> None:
    file = node.folder / "net.conf"
    file.write_text(json.dumps({**node.config(), "vlna": 7, "mtu": 1, "vlan": 5000}, indent=2))
    cli = Cli(node.host, node.openvswitch.remote)
    stderr = cli.fails("explain", str(file))
    for line, mistake in ((7, "unknown key 'vlna'"), (8, "invalid 'mtu': 1"), (9, "invalid 'vlan': 5000")):
        assert any(f"net.conf:{line}:" in told and mistake in told for told in stderr.splitlines()), stderr
    assert "did you mean 'vlan'?" in stderr
    told = json.loads(cli.run("explain", str(file), "--json", check=False).stdout)["problems"]
    assert [(problem["line"], problem["severity"]) for problem in told] == [(7, "error"), (8, "error"), (9, "error")]


def test_a_network_of_this_node_and_one_in_kubernetes_can_be_explained(node: Node) -> None:
    file = node.folder / "net.yaml"
    config = json.dumps(node.config(vlan=7))
    file.write_text(
        "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\n"
        f"metadata: {{name: web}}\nspec:\n  config: '{config}'\n"
    )
    cli = Cli(node.host, node.openvswitch.remote)
    assert "tag=7" in cli.run("explain", str(file)).stdout
    assert "no network 'web'" in cli.fails("explain", "web")


def test_only_root_can_rehearse(node: Node) -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    file = Path("/tmp") / f"{node.network}.conf"
    file.write_text(json.dumps(node.config()))
    try:
        stderr = Cli(node.host, node.openvswitch.remote, *nobody).fails("explain", str(file))
    finally:
        file.unlink()
    assert "needs root" in stderr


def test_text_is_for_people_and_raw_is_what_is_sent(node: Node) -> None:
    text = json.dumps(node.config(vlan=5))
    cli = Cli(node.host, node.openvswitch.remote)
    compact = cli.run("explain", "-", stdin=text).stdout
    assert f"mutate Bridge where name == {node.bridge}: ports insert [" in compact
    assert "type veth peer name eth0 netns CONTAINER" in compact
    assert "tag=5" in compact
    raw = cli.run("explain", "-", "--raw", stdin=text).stdout
    assert '"op": "mutate"' in raw and '"tag": 5' in raw


@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_the_commands_that_are_printed_can_be_typed_and_do_what_add_does(node: Node, kind: str) -> None:
    pod = node.attachment(**{**CONFIGURATIONS["all checked"], "bandwidth": LIMITS, "mtu": 1400, "interface_type": kind})
    said = explained(node, pod)
    if kind == "internal":  # Open vSwitch makes the device, with the MTU that is asked for
        node.host.ip("link", "add", said["port"], "mtu", "1400", "type", "veth", "peer", "name", "other-end")
    for action in actions(said, "netlink", "sysctl", "ethtool", "openflow"):
        words = action["text"].replace("CONTAINER", pod.sandbox.name).replace("HOST", node.host.name)
        words = words.replace(f" {node.bridge} ", f" unix:{node.openvswitch.folder}/{node.bridge}.mgmt ")
        (pod.sandbox if action.get("namespace") == "container" else node.host).run("sh", "-c", words)
    typed = state(node, pod)
    node.host.run("ip", "link", "delete", said["port"], check=False)
    pod.sandbox.delete()
    pod.sandbox = node.sandbox()
    pod.netns = pod.sandbox.path
    pod.add().ok()
    assert typed == state(node, pod)
    pod.delete().silent()


def state(node: Node, pod: Attachment) -> tuple[Any, ...]:
    """What an attachment consists of in the kernel and on the bridge, but for what is another number each time."""
    name = pod.sandbox.link(pod.ifname).name
    queues = pod.sandbox.run("tc", "qdisc", "show").stdout
    limits = [
        re.sub(r"(qdisc \w+) \w+:|refcnt \d+", r"\1", line)
        for line in queues.splitlines()
        if " tbf " in line or " ingress " in line
    ]
    filters = pod.sandbox.run("tc", "filter", "show", "dev", name, "ingress").stdout.count("mirred (Egress Redirect")
    management = f"unix:{node.openvswitch.folder}/{node.bridge}.mgmt"
    flows = run(["ovs-ofctl", "-O", "OpenFlow13", "dump-flows", management, "--no-stats"]).stdout.splitlines()
    link, routes = (
        pod.sandbox.link(pod.ifname),
        {(route.destination, route.gateways, route.mtu) for route in pod.sandbox.routes()},
    )
    return pod.sandbox.address_texts(pod.ifname), routes, link.mtu, link.mac, link.up, limits, filters, sorted(flows)


def test_what_could_steer_a_terminal_is_not_printed(node: Node) -> None:
    text = json.dumps(node.config(external_ids={"a": "\x1b[31m\x9b31m\u202e"}))
    said = Cli(node.host, node.openvswitch.remote).run("explain", "-", "--ifname", "e\x1b[2Jx", stdin=text).stdout
    assert not any(each in said for each in "\x1b\x9b\u202e")

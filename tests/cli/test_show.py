"""`cni-ovs show` against a real Open vSwitch: what it tells is what is there."""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from tests.support.cli import Cli
from tests.support.node import Node
from tests.support.plugin import REPOSITORY, Attachment
from tests.support.world import World

pytestmark = pytest.mark.one_target

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '\x1b[2J\x1b]0;title\x07\x9b31m\u202e</text>&"\\\n' + "x" * 5000


@pytest.fixture
def world(node: Node) -> World:
    return World(node)


def titles(picture: str) -> set[str]:
    """The texts of an SVG picture that are bold and large."""
    texts = Xml.fromstring(picture).iter(f"{SVG}text")
    return {text.text or "" for text in texts if text.get("font-size") == "13"}


def test_json_tells_everything_that_hangs_on_two_bridges(world: World) -> None:
    ports = world.ports()
    kinds = {name: port["kind"] for name, port in ports.items()}
    assert kinds == {
        world.inner: "internal",
        world.outer: "internal",
        world.uplink: "uplink",
        world.tunnel: "vxlan",
        world.bad: "uplink",
        **dict.fromkeys(world.patches, "patch"),
        world.name(world.web): "veth",
        world.name(world.router): "veth",
        world.name(world.inside): "internal",
    }
    assert ports[world.patches[0]]["peer"] == {"bridge": world.outer, "port": world.patches[1]}
    assert ports[world.patches[1]]["peer"] == {"bridge": world.inner, "port": world.patches[0]}
    assert ports[world.uplink]["host_device"]["mtu"] == 1400
    assert "No such device" in ports[world.bad]["error"]
    assert ports[world.name(world.router)]["vlan"]["text"] == "trunk 7,20-29, native VLAN 5"

    web = ports[world.name(world.web)]
    expected = world.node.interface(world.web)["ofport"], {"in_bits_per_second": 10**7, "out_bits_per_second": None}
    assert (web["ofport"], web["bandwidth"]) == expected
    attachment, device = web["attachment"], web["attachment"]["device"]
    assert (attachment["pod_namespace"], attachment["pod_name"], attachment["pod_uid"]) == ("shop", "web", "uid-web")
    assert (attachment["container_id"], attachment["netns"]) == (world.web.container_id, world.web.netns)
    link = world.web.sandbox.link("eth1")
    assert (device["name"], device["mac"], device["mtu"], device["up"]) == ("eth1", link.mac, 1300, True)
    assert f"{world.web.addresses[0]}/16" in device["addresses"]

    inside = ports[world.name(world.inside)]["attachment"]["device"]
    assert (inside["name"], inside["alternative_names"]) == (world.name(world.inside), ["eth1"])
    assert f"{world.inside.addresses[0]}/16" in inside["addresses"]


def test_the_tree_tells_the_same_in_words(world: World) -> None:
    limit = ("--", "--id=@q", "create", "QoS", "type=linux-htb", "other_config:max-rate=5000000")
    world.node.openvswitch.vsctl("set", "port", world.uplink, "qos=@q", *limit)
    text = world.cli.run("show").stdout
    assert "\x1b" not in text, "colours in a pipe"
    for expected in (
        rf"{world.inner}  bridge, datapath {world.node.openvswitch.datapath_type}",
        rf"{world.uplink}  uplink, all VLANs, OpenFlow \d+, 10 Gbit/s, MAC \S+, MTU 1400, up",
        rf"{world.tunnel}  vxlan, all VLANs, OpenFlow \d+, to 192\.0\.2\.7, key 5001",
        rf"{world.patches[0]}  patch, all VLANs, OpenFlow \d+, to {world.outer} \({world.patches[1]}\)",
        rf"{world.name(world.web)}  veth, VLAN 5, OpenFlow \d+",
        r"pod shop/web  eth1",
        rf"{re.escape(world.web.addresses[0])}/16, MAC \S+, MTU 1300, up",
        rf"network {world.node.network}, container {world.web.container_id[:12]}, {world.web.netns}",
        r"receives at most 10 Mbit/s",
        rf"{world.uplink}  uplink.*\n.*sends out at most 5 Mbit/s\n.*sent out [\d.]+ k?B in \d+ packets; took in ",
        rf"container {world.inside.container_id[:12]}  eth1",
        rf"{world.bad}  uplink, all VLANs\n.*could not open network device",
    ):
        assert re.search(expected, text), (expected, text)
    without = world.cli.run("show", "--no-addresses").stdout
    assert "pod shop/web  eth1" in without and world.web.addresses[0] not in without


def test_each_filter_leaves_what_it_names(world: World) -> None:
    web, router, inside = map(world.name, (world.web, world.router, world.inside))
    everything = set(world.ports())
    carrying_all = everything - {web, router}
    for words, expected in (
        (("--pod", "web"), {web}),
        (("--pod", "shop/router"), {router}),
        (("--pod", "other/router"), set()),
        (("--container", world.inside.container_id[:8]), {inside}),
        (("--netns", world.web.netns), {web}),
        (("--netns", world.web.sandbox.name), {web}),
        (("--network", world.node.network), {web, router, inside}),
        (("--network", world.node.network, "--bridge", world.outer), {inside}),
        (("--vlan", "5"), {*carrying_all, web, router}),
        (("--vlan", "21"), {*carrying_all, router}),
        (("--vlan", "6"), carrying_all),
    ):
        assert set(world.ports(*words)) == expected, words
    picture = world.cli.run("show", "--pod", "web", "--svg").stdout
    assert titles(picture) == {world.inner, "pod shop/web"}
    assert "shop/router" not in world.cli.run("show", "--pod", "web", "--dot").stdout
    assert "no port" in world.cli.run("show", "--pod", "nobody").stdout


def test_pictures_show_what_hangs_where(world: World, tmp_path: Path) -> None:
    file = tmp_path / "picture.svg"
    assert world.cli.run("show", "--svg", "--output", str(file)).stdout == ""
    expected = {
        *(world.inner, world.outer, f"uplink {world.uplink}", f"uplink {world.bad}", "vxlan to 192.0.2.7"),
        *("pod shop/web", "pod shop/router", f"container {world.inside.container_id[:12]}"),
    }
    assert expected <= titles(file.read_text())
    texts = {text.text for text in Xml.fromstring(file.read_text()).iter(f"{SVG}text")}
    assert {*world.patches, "VLAN 5", f"eth1  {world.web.addresses[0]}/16", "key 5001"} <= texts
    graphviz = world.cli.run("show", "--dot").stdout
    assert f'"bridge {world.inner}" -- "bridge {world.outer}"' in graphviz or (
        f'"bridge {world.outer}" -- "bridge {world.inner}"' in graphviz
    )
    assert all(title in graphviz for title in expected)
    assert "cannot be written" in world.cli.fails("show", "--svg", "--output", "/nowhere/picture.svg")


def test_a_container_that_is_gone_or_whose_interface_has_another_name_is_told(world: World) -> None:
    world.node.vanish(world.web)
    world.router.sandbox.rename("eth1", "other0")
    assert re.search(r"eth1\n.*is called other0 there, \d.*MTU 1500, up\n", world.cli.run("show").stdout)
    assert "its namespace is gone" in world.cli.run("show").stdout
    ports = world.ports()
    gone, renamed = (ports[world.name(pod)]["attachment"] for pod in (world.web, world.router))
    assert (gone["netns_state"], gone["device"]) == ("gone", None)
    assert (renamed["interface"], renamed["device"]["name"]) == ("eth1", "other0")
    assert world.port(world.web, "--no-addresses")["attachment"]["netns_state"] is None
    assert set(world.ports("--netns", world.web.netns)) == {world.name(world.web)}
    picture = world.cli.run("show", "--svg").stdout
    assert "its namespace is gone" in picture and "eth1, now other0" in picture


def test_an_interface_of_the_same_name_that_is_not_the_ports_is_not_shown_as_its_own(world: World) -> None:
    """The path of a namespace (that of a process, say) is another container's now; or the interface was renamed."""
    stranger = world.node.sandbox()
    for sandbox in (stranger, world.router.sandbox):
        if sandbox is not stranger:
            sandbox.rename("eth1", "other0")
        sandbox.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth1p")
        sandbox.ip("address", "add", "203.0.113.9/24", "dev", "eth1")
    name = world.name(world.web)
    world.node.openvswitch.vsctl("set", "port", name, f"external_ids:contNetns={stranger.path}")
    assert world.ports()[name]["attachment"]["device"] is None
    text = world.cli.run("show").stdout
    assert "203.0.113.9" not in text and "this interface is not in its namespace" in text
    assert f"is called other0 there, {world.router.addresses[0]}/16" in text


def kernels_packets(pod: Attachment, device: str) -> tuple[int, int]:
    """How many packets a device in a container has received and sent."""
    words = pod.sandbox.run("ip", "-j", "-s", "link", "show", "dev", device).stdout
    [link] = json.loads(words)
    return link["stats64"]["rx"]["packets"], link["stats64"]["tx"]["packets"]


def test_the_counters_are_those_of_the_container(world: World) -> None:
    node = world.node
    other = world.pod("other", bridge=world.outer)
    assert world.inside.sandbox.pings(other.addresses[0], count=5)
    for pod, source in ((world.inside, "container"), (other, "host")):
        device = "eth1" if pod is other else world.name(pod)
        before = kernels_packets(pod, device)
        counted = world.port(pod)["counters"]
        after = kernels_packets(pod, device)
        assert counted["source"] == source
        for way, least, most in zip(("in_packets", "out_packets"), before, after, strict=True):
            assert least <= counted[way] <= most
        assert counted["in_packets"] >= 5 and counted["out_bytes"] >= 5 * 98
    assert re.search(r"received [\d.]+ k?B in \d+ packets; sent", world.cli.run("show").stdout)
    node.openvswitch.delete_bridge(world.outer)
    assert world.name(world.web) in world.ports()


def test_ports_of_ovs_cni_and_of_others_are_shown(world: World) -> None:
    names = {kind: f"{kind}{secrets.token_hex(3)}" for kind in ("oc", "vm", "bond")}
    sandbox, host = world.web.sandbox, world.node.host
    for kind, name in names.items():
        world.node.device(name)
        world.node.device(f"{name}p")
        where = ("eth2", "netns", sandbox.name) if kind == "oc" else (f"{name}p",)
        host.ip("link", "add", name, "type", "veth", "peer", "name", *where)
    sandbox.ip("address", "add", "10.77.0.2/24", "dev", "eth2")
    ids = ["owner=ovs-cni.network.kubevirt.io", f"contNetns={world.web.netns}", "contIface=eth2"]
    vsctl = world.node.openvswitch.vsctl
    vsctl(
        "add-port", world.outer, names["oc"], *("--", "set", "Port", names["oc"], *(f"external_ids:{x}" for x in ids))
    )
    vsctl("add-port", world.outer, names["vm"], "--", "set", "Interface", names["vm"], "external_ids:iface-id=vm-7")
    bond = f"bo{secrets.token_hex(3)}"
    vsctl("add-bond", world.outer, bond, names["bond"], f"{names['bond']}p")
    ports = world.ports()
    of_ovs_cni = ports[names["oc"]]["attachment"]
    assert of_ovs_cni["owner"] == "ovs-cni.network.kubevirt.io"
    assert "10.77.0.2/24" in of_ovs_cni["device"]["addresses"]
    assert (ports[names["vm"]]["kind"], ports[names["vm"]]["attachment"]["container_id"]) == ("veth", "vm-7")
    assert (ports[bond]["kind"], len(ports[bond]["interfaces"])) == ("bond", 2)
    assert f"bond {bond}" in titles(world.cli.run("show", "--svg").stdout)


def test_mirrors_are_under_their_bridge(world: World) -> None:
    source, output = (world.node.port(pod)["_uuid"] for pod in (world.web, world.router))
    columns = ("name=tap-all", f"select_src_port={source}", f"output_port={output}", "select_vlan=5")
    create = ("--", "--id=@m", "create", "Mirror", *columns)
    world.node.openvswitch.vsctl(*create[1:], "--", "set", "Bridge", world.inner, "mirrors=@m")
    assert "tap-all  mirror, copies from pod shop/web in VLAN 5, for pod shop/router" in world.cli.run("show").stdout
    bridges = {bridge["name"]: bridge for bridge in world.cli.json("show")["bridges"]}
    ports = {"from_ports": [world.name(world.web)], "to_ports": [], "output_port": world.name(world.router)}
    copied = {"name": "tap-all", "all": False, "vlans": [5], "output_vlan": None, **ports}
    assert bridges[world.inner]["mirrors"] == [copied]
    assert bridges[world.outer]["mirrors"] == []


def test_hostile_texts_are_printed_and_not_obeyed(world: World, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    name = world.name(world.web)
    this = [["name", "==", name]]
    keys = ("contPodName", "contPodNamespace", "contID", "contIface", "contNetwork")
    for netns in (str(fifo), HOSTILE, "relative", "/etc/passwd"):
        ids = {"owner": "cni-ovs", **dict.fromkeys(keys, HOSTILE), "contNetns": netns}
        row = {"external_ids": ["map", [list(pair) for pair in ids.items()]]}
        world.node.openvswitch.transact({"op": "update", "table": "Port", "where": this, "row": row})
        for words in ([], ["--svg"], ["--dot"], ["--json"]) if netns == HOSTILE else ([],):
            text = world.cli.run("show", *words).stdout
            assert text.replace("\n", "").isprintable(), words
            assert max(map(len, text.splitlines())) < 1000 or words == ["--json"]
            if words == ["--svg"]:
                Xml.fromstring(text)
        found = world.ports()[name]["attachment"]
        assert (found["pod_name"], found["netns"]) == (HOSTILE, netns)
        assert found["netns_state"] in ("gone", "unreadable")


def test_the_secret_of_a_tunnel_is_not_printed(world: World) -> None:
    world.node.openvswitch.vsctl("--no-wait", "set", "Interface", world.tunnel, "options:psk=swordfish")
    for words in ([], ["--svg"], ["--dot"], ["--json"]):
        assert "swordfish" not in world.cli.run("show", *words).stdout
    assert world.ports()[world.tunnel]["interfaces"][0]["options"]["psk"] == "(secret)"


def test_what_cannot_be_done_is_said_in_a_line(node: Node, tmp_path: Path) -> None:
    cli = Cli(node.host, f"unix:{tmp_path}/nobody.sock")
    for words in ([], ["--json"], ["--watch"], ["--svg"]):
        said = cli.fails("show", *words)
        assert "cannot be reached" in said and len(said.splitlines()) == 2
    said = Cli(node.host, node.openvswitch.remote).fails("show", "--bridge", "nowhere")
    assert "bridge 'nowhere' does not exist" in said
    for wrong in (["--json", "--svg"], ["--output", "x"], ["--svg", "--watch"], ["--vlan", "4095"], ["--watch", "0"]):
        assert "to do: cni-ovs show --help" in cli.fails("show", *wrong, code=2)


def test_a_reader_that_goes_away_is_no_traceback(world: World) -> None:
    command = " ".join(world.cli.command("show", "--json"))
    done = world.node.host.run("sh", "-c", f"{command} | head -c 10", env=world.cli.environment)
    assert "Traceback" not in done.stderr


def test_the_commands_of_the_documentation_work(node: Node, tmp_path: Path) -> None:
    section = (REPOSITORY / "docs/command.md").read_text().partition("## cni-ovs show\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    web = node.attached(ifname="eth1", ipam=node.host_local("10.1.0.0/24"))
    cli = Cli(node.host, node.openvswitch.remote)
    for line in block.splitlines():
        words = [{"br0": node.bridge, "web": web.sandbox.name}.get(word, word) for word in line.split()]
        words = [str(tmp_path / Path(word).name) if word.startswith("/tmp/") else word for word in words]
        assert words[0] == "cni-ovs"
        printed = cli.run(*words[1:]).stdout or Path(words[-1]).read_text()
        assert node.bridge in printed
    [bridge] = cli.json("show", "--netns", web.sandbox.name)["bridges"]
    assert documented_keys(section) >= keys_of(bridge)


def documented_keys(section: str) -> set[str]:
    return set(re.findall(r"`(\w+)(?:\[\])?`", section)) | {
        f"out_{name}" for name in re.findall(r"`in_(\w+)`", section)
    }


def keys_of(value: Any) -> set[str]:
    """Every key in a bridge's JSON, but for what others have chosen and the columns of Open vSwitch."""
    found: set[str] = set()
    for key, item in value.items():
        found.add(key)
        if key not in ("external_ids", "other_config", "interfaces"):
            for inner in item if isinstance(item, list) else [item]:
                found |= keys_of(inner) if isinstance(inner, dict) else set()
    return found

"""What anybody may have written into Open vSwitch's database, in texts of any form: no command minds, or touches it.

ovsdb-server itself refuses a text that is no UTF-8 ("constraint violation"), and closes the connection of a client that
sends an escaped NUL, half a surrogate pair, or a control character without an escape (Open vSwitch 3.1).
"""

from __future__ import annotations

import json
import secrets
import socket
from typing import Any

import pytest

from cni_ovs.plugin.attachment import port_name
from tests.support.node import Node

pytestmark = pytest.mark.one_target

TEXTS = {
    "quotes": "\"quotes\" 'and' \\backslashes\\ }{][,:",
    "lines": "one\r\ntwo\n\n\tthree\x01\x1b[2J\x7f",
    "not ascii": "ünïcödé \u2028 \ufeff \ufffe 𝄞",
    "escapes": "\\u0000 \\ud800 %s %n $(reboot) `reboot` ; reboot #",
    "json": json.dumps({"owner": "cni-ovs", "contID": {"a": []}}),
    "256 KiB": "x" * (256 << 10),
    "nothing": "",
}
NOTE = "cni-ovs-detaching-"


def of(values: dict[str, str]) -> list[Any]:
    """A map in the notation of RFC 7047."""
    return ["map", [list(pair) for pair in values.items()]]


def put_on_bridge(node: Node, external_ids: dict[str, str]) -> None:
    """Write to the bridge's external_ids."""
    mutation = ["external_ids", "insert", of(external_ids)]
    this = [["name", "==", node.bridge]]
    node.openvswitch.transact({"op": "mutate", "table": "Bridge", "where": this, "mutations": [mutation]})


def put_port(node: Node, name: str, external_ids: dict[str, str], **interface: Any) -> None:
    """Insert a port; ovs-vswitchd finds no device for it."""
    ids = of(external_ids)
    this = [["name", "==", node.bridge]]
    row = {"name": name, "interfaces": ["named-uuid", "i"], "external_ids": ids}
    node.openvswitch.transact(
        {
            "op": "insert",
            "table": "Interface",
            "uuid-name": "i",
            "row": {"name": name, "external_ids": ids, **interface},
        },
        {"op": "insert", "table": "Port", "uuid-name": "p", "row": row},
        {
            "op": "mutate",
            "table": "Bridge",
            "where": this,
            "mutations": [["ports", "insert", ["set", [["named-uuid", "p"]]]]],
        },
    )


def everything(node: Node) -> list[Any]:
    """What the bridge and all ports have in their external_ids."""
    columns = ["_uuid", "name", "external_ids"]
    asked: list[Any] = [
        {"op": "select", "table": table, "where": [], "columns": columns} for table in ("Port", "Interface")
    ]
    asked.append(
        {"op": "select", "table": "Bridge", "where": [["name", "==", node.bridge]], "columns": ["external_ids"]}
    )
    return [sorted(map(json.dumps, result["rows"])) for result in node.openvswitch.transact(*asked)]


def odd_name() -> str:
    """One of fifteen characters, as long as ours, with what breaks texts in it."""
    return f"cni\"'\n}}{{{secrets.token_hex(4)[:7]}"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_no_text_of_somebody_else_bothers_a_command(node: Node, kind: str, text: str) -> None:
    put_on_bridge(node, {"note": text, NOTE + "x": text, NOTE: text, text[:100] or "empty": text, "owner": text})
    put_port(node, odd_name(), {"owner": text, "contID": text, "contIface": text, "contNetns": text})
    put_port(
        node, odd_name(), {"owner": "cni-ovs", "contNetwork": node.network, "k": text}, other_config=of({"k": text})
    )
    before = everything(node)
    pod = node.attachment(interface_type=kind, ipam=node.host_local())
    pod.add().ok()
    pod.check().silent()
    pod.status().silent()
    pod.delete().silent()
    pod.add().ok()
    pod.gc(**{"cni.dev/valid-attachments": []}).silent()
    assert everything(node) == before
    assert node.addresses_given_out() == []


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_an_interfaces_error_may_be_any_text(node: Node, text: str) -> None:
    pod = node.attached()
    name = node.port(pod)["name"]
    row = {"error": text}
    node.openvswitch.transact({"op": "update", "table": "Interface", "where": [["name", "==", name]], "row": row})
    if text:
        assert text in pod.check().error(106)["msg"]
    else:
        pod.check().silent()
    pod.delete().silent()


@pytest.mark.parametrize("key", ["contID", "contIface"])
@pytest.mark.parametrize("value", ["../../etc/passwd", "a/b", "..", "a b", "one\ntwo", "", "x" * 5000, "x" * 200_000])
def test_gc_leaves_alone_what_names_a_container_as_no_runtime_does(node: Node, key: str, value: str) -> None:
    ids = {"owner": "cni-ovs", "contNetwork": node.network, "contID": "pod", "contIface": "eth0", key: value}
    put_port(node, odd_name(), {**ids, "contNetns": "/run/netns/no-such"})
    put_on_bridge(node, {NOTE + port_name(node.network, ids["contID"], ids["contIface"]): json.dumps(ids)})
    before = everything(node)
    ipam = node.scripted_ipam()
    pod = node.attached(ipam=ipam.config, cni_path=str(ipam.folder))  # it would sweep it, if it were stale
    pod.gc(**{"cni.dev/valid-attachments": [{"containerID": pod.container_id, "ifname": "net1"}]}).silent()
    pod.delete().silent()
    assert everything(node) == before
    assert ipam.calls == ["ADD", "GC", "DEL"]


@pytest.mark.parametrize(
    "netns", ["/" + "n" * 100_000, "/" + "n" * 300_000, "", "relative/../x", "\\u0000", "/a\nb", "/proc/self/ns/net"]
)
def test_gc_removes_what_is_ours_whatever_its_namespace_is_called(node: Node, netns: str) -> None:
    ids = {"owner": "cni-ovs", "contNetwork": node.network, "contID": "pod", "contIface": "eth0", "contNetns": netns}
    put_port(node, "cni0123456789ab", ids)
    put_on_bridge(node, {NOTE + port_name(node.network, "other", "eth0"): json.dumps({**ids, "contID": "other"})})
    ipam = node.scripted_ipam()
    pod = node.attachment(ipam=ipam.config, cni_path=str(ipam.folder))
    pod.gc(**{"cni.dev/valid-attachments": []}).silent()
    node.assert_nothing_left()
    assert ipam.calls == ["DEL", "DEL", "GC"]
    if "\n" not in netns:
        assert ipam.environment("DEL")["CNI_NETNS"] == (netns if len(netns) < 4096 else "")


@pytest.mark.parametrize(
    "note",
    [
        "rubbish",
        "{",
        "[" * 5000,
        '{"owner":"cni-ovs","contNetwork":"NETWORK","contID":"a\\u0000b","contIface":"eth0"}',
        '{"owner":"cni-ovs","contNetwork":"NETWORK","contID":"pod","contIface":"eth0","contNetns":"/a\\u0000b"}',
        '{"owner":"cni-ovs","contNetwork":"NETWORK","contID":"pod","contIface":"eth0","contNetns":"\\ud800"}',
        '{"owner":"cni-ovs","contNetwork":"NETWORK","contID":5,"contIface":"eth0"}',
        '{"owner":"cni-ovs","contNetwork":"another","contID":"pod","contIface":"eth0"}',
        '{"owner":"somebody","contNetwork":"NETWORK","contID":"pod","contIface":"eth0"}',
    ],
    ids=range(9),
)
def test_a_note_that_is_none_of_ours_stays_and_does_nothing(node: Node, note: str) -> None:
    put_on_bridge(node, {NOTE + port_name(node.network, "pod", "eth0"): note.replace("NETWORK", node.network)})
    before = everything(node)
    ipam = node.scripted_ipam()
    pod = node.attached(ipam=ipam.config, cni_path=str(ipam.folder))
    pod.delete().silent()
    pod.gc(**{"cni.dev/valid-attachments": []}).silent()
    assert ipam.calls == ["ADD", "DEL", "GC"]
    assert everything(node) == before


def test_a_note_does_not_make_gc_remove_another_device(node: Node) -> None:
    node.host.ip("link", "add", "others", "type", "veth", "peer", "name", "others-peer")
    ids = {"owner": "cni-ovs", "contNetwork": node.network, "contID": "pod", "contIface": "eth0"}
    put_on_bridge(node, {NOTE + "others": json.dumps(ids), NOTE + "x" * 300: json.dumps(ids)})
    before = everything(node)
    node.attachment().gc(**{"cni.dev/valid-attachments": []}).silent()
    assert "others" in node.host.links()
    assert everything(node) == before
    node.host.ip("link", "delete", "others")


def test_a_port_of_our_very_name_with_odd_ids_is_not_taken_over(node: Node) -> None:
    pod = node.attached()
    name = node.port(pod)["name"]
    pod.delete().silent()
    put_port(node, name, {"owner": "cni-ovs", "contID": TEXTS["lines"], "contNetwork": TEXTS["256 KiB"]})
    before = everything(node)
    pod.add().error(102)
    pod.check().error(106)
    pod.delete().silent()
    assert everything(node) == before


@pytest.mark.parametrize("sent", [rb'"\u0000"', rb'"\ud800"', b'"\x01"', b'"\xff"', b'"\xed\xa0\x80"'], ids=ascii)
def test_ovsdb_server_keeps_no_text_that_is_none(node: Node, sent: bytes) -> None:
    # So the plugin does not have to know what to do about it.
    before = everything(node)
    insertion = (
        b'{"op":"mutate","table":"Bridge","where":[],"mutations":[["external_ids","insert",["map",[["k",%s]]]]]}'
    )
    request = b'{"id":0,"method":"transact","params":["Open_vSwitch",%s]}' % (insertion % sent)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(node.openvswitch.socket)
        connection.sendall(request)
        answer = connection.recv(1 << 16)
    assert answer == b"" or b"not a valid UTF-8 string" in answer
    assert everything(node) == before


# Names


@pytest.mark.parametrize("name", ["--help", "-n", "-", "br;x$(y)"])
def test_a_bridge_may_be_called_like_an_option(node: Node, name: str) -> None:
    missing = node.attachment(bridge=name).add().error(100)
    assert repr(name) in missing["msg"]
    node.openvswitch.bridges.add(name)
    node.openvswitch.vsctl("--", "add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev")
    try:
        pod = node.attached(bridge=name)
        pod.check().silent()
        pod.status().silent()
        pod.delete().silent()
        node.assert_nothing_left()
    finally:
        node.openvswitch.vsctl("--no-wait", "--", "del-br", name)


@pytest.mark.parametrize(
    ("container_id", "ifname"), [("a..b", "a..b"), ("a...", "..."), ("0-", "-n"), ("A_.-", "--help")]
)
def test_names_with_dots_and_dashes_are_names(node: Node, container_id: str, ifname: str) -> None:
    ipam = node.host_local("10.10.0.0/16", "fd00:10::/64")
    pod = node.attached(container_id=container_id, ifname=ifname, ipam=ipam)
    assert len(pod.sandbox.address_texts(ifname)) == 2
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.parametrize("ifname", ["all", "default"])
def test_an_interface_cannot_be_called_like_the_settings_of_all_interfaces(node: Node, ifname: str) -> None:
    # Or what is set for it, below /proc/sys/net/ipv6/conf, would be set for them. The kernel refuses it (4.17).
    pod = node.attachment(ifname=ifname, ipam=node.host_local("10.10.0.0/16", "fd00:10::/64"))
    pod.add().error(103)
    node.assert_nothing_left()


# Symbolic links: followed, as the reference plugins and libcni do (os.Stat, not Lstat)


def test_symbolic_links_are_followed_to_socket_namespace_and_ipam_plugin(node: Node) -> None:
    (node.folder / "db").symlink_to(node.openvswitch.socket)
    ipam = node.scripted_ipam()
    (node.folder / "linked").symlink_to(ipam.folder / ipam.type)
    pod = node.attachment(
        socket_file=f"unix:{node.folder}/db", ipam={"type": "linked"}, cni_path=f"{node.folder}/none:{node.folder}"
    )
    netns = node.folder / "netns"
    netns.symlink_to(pod.sandbox.path)
    pod.netns = str(netns)
    assert pod.add().result["interfaces"][1]["sandbox"] == str(netns)
    pod.check().silent()
    pod.status().silent()
    pod.delete().silent()
    node.assert_nothing_left()
    assert ipam.calls == ["ADD", "CHECK", "STATUS", "DEL"]


def test_a_link_to_our_own_namespace_is_our_own(node: Node) -> None:
    pod = node.attachment()
    netns = node.folder / "netns"
    netns.symlink_to("/proc/self/ns/net")
    pod.netns = str(netns)
    pod.add().error(8)
    node.assert_nothing_left()


def test_a_port_whose_namespace_is_a_link_that_leads_nowhere_is_not_swept(node: Node) -> None:
    # The folder with the namespaces may just not be mounted.
    netns = node.folder / "netns"
    netns.symlink_to(node.folder / "not-mounted/netns")
    ids = {"owner": "cni-ovs", "contNetwork": node.network, "contID": "pod", "contIface": "eth0"}
    put_port(node, "cni0123456789ab", {**ids, "contNetns": str(netns)})
    node.wait_until_noticed("cni0123456789ab")
    other = node.attached()
    assert "cni0123456789ab" in node.openvswitch.port_names(node.bridge)
    netns.unlink()
    other.delete().silent()
    assert "cni0123456789ab" not in node.openvswitch.port_names(node.bridge)

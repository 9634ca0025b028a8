"""`cni-ovs attach`: the code of ADD, for containers that run already."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import ipam
from tests.support.cli import Cli
from tests.support.namespace import Namespace
from tests.support.node import Node
from tests.support.plugin import Attachment
from tests.support.processes import wait_for

pytestmark = pytest.mark.one_target

KINDS = ["veth", "internal"]


def attachment_of(node: Node, sandbox: Namespace, ifname: str = "eth1") -> Attachment:
    """What a runtime would know of an attachment of the command: to let the plugin itself work on it."""
    pod = node.attachment(sandbox=sandbox, ifname=ifname, container_id=sandbox.name)
    pod.config["name"] = "cni-ovs"
    return pod


@pytest.mark.parametrize("kind", [*KINDS, pytest.param("tap", marks=pytest.mark.userspace)])
def test_two_containers_are_attached_reach_each_other_and_are_detached(cli: Cli, node: Node, kind: str) -> None:
    web, db = node.sandbox(), node.sandbox()
    printed = cli.run(
        "attach", web.name, "eth1", node.bridge, "--type", kind, "--ip", "10.1.0.2/24", "--ip", "fd01::2/64"
    )
    assert "10.1.0.2/24" in printed.stdout and f"cni-ovs detach {web.name} eth1" in printed.stdout
    assert printed.stderr == ""
    cli.run("attach", db.path, "eth1", node.bridge, "--type", kind, "--ip", "10.1.0.3/24", "--ip", "fd01::3/64")
    for address in ("10.1.0.3", "fd01::3"):
        assert web.pings(address)
    assert len(node.ports()) == 2
    cli.run("detach", web.name, "eth1")
    cli.run("detach", db.name, "--all")
    node.assert_nothing_left()


def test_what_is_attached_is_what_the_plugin_itself_checks_and_detaches(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    result = cli.json("attach", sandbox.name, "eth1", node.bridge, "--ip", "10.1.0.2/24", "--gateway", "10.1.0.1")
    assert [ip["address"] for ip in result["ips"]] == ["10.1.0.2/24"]
    assert sandbox.route("0.0.0.0/0").gateways == ("10.1.0.1",)
    pod = attachment_of(node, sandbox)
    pod.result = result
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left()


def test_every_option_arrives(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    options = ("--vlan", "5", "--trunk", "10,20-22", "--mtu", "1400", "--mac", "02:00:00:00:00:0a")
    cli.run("attach", sandbox.name, "eth1", node.bridge, *options)
    (port,) = node.ports()
    assert (port["tag"], port["trunks"], port["vlan_mode"]) == (5, [10, 20, 21, 22], "native-untagged")
    link = sandbox.link("eth1")
    assert (link.mtu, link.mac) == (1400, "02:00:00:00:00:0a")
    cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


def test_addresses_of_the_command_line_are_those_that_may_be_sent_where_the_network_checks_them(
    cli: Cli, node: Node
) -> None:
    path, (web, db) = node.folder / "net.conf", (node.sandbox(), node.sandbox())
    path.write_text(json.dumps(node.config(cniVersion="1.0.0", ipspoofchk=True)))
    for sandbox, address in ((web, "10.1.0.2/24"), (db, "10.1.0.3/24")):
        cli.run("attach", sandbox.name, "eth1", "--from", str(path), "--ip", address)
    assert web.pings("10.1.0.3")
    cli.run("reattach", web.name, "--force")
    assert web.pings("10.1.0.3")
    web.ip("address", "add", "10.1.0.9/24", "dev", "eth1")
    web.ip("address", "del", "10.1.0.2/24", "dev", "eth1")
    assert not web.pings("10.1.0.3", timeout=1)
    for sandbox in (web, db):
        cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


def test_show_finds_a_container_by_whatever_it_is_called(cli: Cli, node: Node) -> None:
    web, db = node.sandbox(), node.sandbox()
    cli.run("attach", web.name, "eth1", node.bridge, "--ip", "10.1.0.2/24")
    cli.run("attach", db.name, "eth1", node.bridge, "--ip", "10.1.0.3/24")
    process = web.start("sleep", "60")
    for name in (web.name, web.path, str(process.pid)):
        shown = cli.run("show", name).stdout
        assert "10.1.0.2/24" in shown and "10.1.0.3/24" not in shown
    process.kill()
    process.wait(5)
    assert "no namespace, process or running container" in cli.fails("show", "nobody")
    for sandbox in (web, db):
        cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


def test_a_process_is_a_container_too(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    process = sandbox.start("sleep", "60")
    cli.run("attach", str(process.pid), "eth1", node.bridge, "--ip", "10.1.0.2/24")
    assert sandbox.address_texts("eth1") == {"10.1.0.2/24"}
    cli.run("detach", sandbox.name, "eth1")  # it is the namespace that counts
    process.kill()
    process.wait(5)
    node.assert_nothing_left()


def test_a_network_configuration_gives_port_and_address_and_detach_needs_it_no_more(
    cli: Cli, node: Node, tmp_path: Path
) -> None:
    sandbox = node.sandbox()
    plugin = node.config(cniVersion=None, name=None, ipam=node.host_local("10.9.0.0/24"), vlan=7)
    network = {"cniVersion": "1.0.0", "name": node.network, "plugins": [plugin, {"type": "tuning"}]}
    path = tmp_path / "10-net.conflist"
    path.write_text(json.dumps(network))
    done = cli.run("attach", sandbox.name, "eth1", "--from", str(path), "--cni-path", ipam.DEBIAN)
    assert "tuning" in done.stderr
    (port,) = node.ports()
    assert (port["tag"], port["external_ids"]["contNetwork"]) == (7, node.network)
    assert len(node.addresses_given_out()) == 1
    path.unlink()
    cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


@pytest.mark.parametrize("version", ["0.2.0", "0.4.0"])
def test_a_configuration_of_any_version_is_taken(cli: Cli, node: Node, version: str) -> None:
    sandbox = node.sandbox()
    path = node.folder / "net.conf"
    path.write_text(json.dumps(node.config(cniVersion=version, ipam=node.host_local())))
    printed = cli.run("attach", sandbox.name, "eth1", "--from", str(path)).stdout
    (address,) = sandbox.address_texts("eth1")
    assert f"addresses {address}" in printed
    cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


def test_keys_are_found_as_the_plugin_finds_them(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    path = node.folder / "net.conf"
    keys = {"Bridge": node.bridge, "bridge": None, "External_IDs": {"why": "test"}, "RuntimeConfig": {}}
    path.write_text(json.dumps(node.config(cniVersion="1.0.0", **keys)))
    printed = cli.run("attach", sandbox.name, "eth1", "--from", str(path), "--mac", "02:00:00:00:00:0a").stdout
    assert f"to bridge {node.bridge}\n" in printed
    assert node.ports()[0]["external_ids"]["why"] == "test"
    assert sandbox.link("eth1").mac == "02:00:00:00:00:0a"


@pytest.mark.parametrize("keys", [{"external_ids": [1]}, {"runtimeConfig": "x"}, {"bridge": None}])
def test_a_wrong_configuration_is_told_and_nothing_is_left(cli: Cli, node: Node, keys: dict[str, Any]) -> None:
    path = node.folder / "net.conf"
    path.write_text(json.dumps(node.config(cniVersion="1.0.0", **keys)))
    (key,) = keys
    said = cli.fails("attach", node.sandbox().name, "eth1", "--from", str(path), "--mac", "02:00:00:00:00:0a")
    assert f"'{key}'" in said and "defect" not in said
    node.assert_nothing_left()


def test_the_gateway_of_ipv6_may_be_a_router_s_link_local_address(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    cli.run("attach", sandbox.name, "eth1", node.bridge, "--ip", "fd01::2/64", "--gateway", "fe80::1")
    assert sandbox.route("::/0").gateways == ("fe80::1",)
    cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_container_that_ends_meanwhile_leaves_nothing_that_gc_does_not_remove(
    cli: Cli, node: Node, when: str
) -> None:
    scripted = node.scripted_ipam(ADD=f"sleep 1; {ipam.ScriptedIpam.answer('10.77.0.2/24')}")
    sandbox = node.sandbox()
    path = node.folder / "net.conf"
    path.write_text(json.dumps(node.config(cniVersion="1.0.0", ipam=scripted.config)))
    process = sandbox.start("sleep", "60")
    words = ("attach", str(process.pid), "eth1", "--from", str(path), "--cni-path", str(scripted.folder))
    if when == "before":
        process.kill()
        process.wait()
        sandbox.delete()
        assert "there is no namespace, process or running container" in cli.fails(*words)
    else:
        attaching = subprocess.Popen(
            cli.command(*words), env=cli.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        wait_for("IPAM is asked", lambda: scripted.calls == ["ADD"])
        sandbox.delete()  # the command itself keeps the namespace until it ends
        assert "Traceback" not in attaching.communicate(timeout=30)[1]
        wait_for("its veth is gone", lambda: not any(link.kind == "veth" for link in node.host.links().values()))
        cli.run("gc", "--network", node.network, "--cni-path", str(scripted.folder))
        assert scripted.calls == ["ADD", "DEL"]
    node.assert_nothing_left()


def test_a_user_who_is_not_root_is_told_so(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    nobody = ("/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    for words in (("attach", sandbox.name, "eth1", node.bridge), ("detach", sandbox.name, "eth1"), ("gc",)):
        said = Cli(node.host, node.openvswitch.remote, *nobody).fails(*words)
        assert "Operation not permitted\n  to do: run it as root" in said or "Permission denied" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nobody", "eth1", "BRIDGE"), "there is no namespace, process or running container 'nobody'"),
        (("/proc/self/ns/net", "eth1", "BRIDGE"), "has the network namespace of this host"),
        (("/etc/passwd", "eth1", "BRIDGE"), "it is no network namespace"),
        (("SANDBOX", "eth1", "br-missing"), "bridge 'br-missing' does not exist"),
        (("SANDBOX", "lo", "BRIDGE"), "interface 'lo' exists already"),
        (("SANDBOX", "eth1", "--from", "no-such-network"), "no network 'no-such-network'"),
    ],
)
def test_what_cannot_be_attached_is_told_in_a_line_with_a_remedy_and_nothing_is_left(
    cli: Cli, node: Node, words: tuple[str, ...], message: str
) -> None:
    sandbox = node.sandbox()
    given = {"SANDBOX": sandbox.name, "BRIDGE": node.bridge}
    said = cli.fails("attach", *(given.get(word, word) for word in words)).splitlines()
    assert message in said[0], said
    assert len(said) <= 2
    node.assert_nothing_left()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--ip", "10.1.0.2"), "prefix length"),
        (("--ip", "fe80::1%eth1/64"), "needs no zone"),
        (("--ip", "10.1.0.2/24", "--gateway", "10.2.0.1"), "in the network of no --ip"),
        (("--ip", "10.1.0.2/24", "--gateway", "10.1.0.1", "--gateway", "10.1.0.3"), "one for each"),
        (("--trunk", "ten"), "must be VLANs from 0 to 4094"),
        (("--trunk", "1_0"), "must be VLANs from 0 to 4094"),
        (("--vlan", "4095"), "4095"),
        (("--trunk", "5000"), "must be VLANs from 0 to 4094"),
        (("--trunk", "20-10"), "must be VLANs from 0 to 4094"),
        (("--mac", "nonsense"), "'nonsense'"),
    ],
)
def test_a_wrong_option_is_a_mistake_of_usage(cli: Cli, node: Node, words: tuple[str, ...], message: str) -> None:
    assert message in cli.fails("attach", node.sandbox().name, "eth1", node.bridge, *words, code=2)


def test_words_that_cannot_be_names_are_mistakes_of_usage(cli: Cli, node: Node) -> None:
    for ifname in ("a/b", "", "a-name-of-16-byte"):
        cli.fails("attach", node.sandbox().name, ifname, node.bridge, code=2)
    assert "TARGET is empty" in cli.fails("attach", "", "eth1", node.bridge)


def test_swapped_words_are_noticed(cli: Cli, node: Node) -> None:
    said = cli.fails("attach", node.sandbox().name, node.bridge, "eth1")
    assert f"'{node.bridge}' is one: the order is TARGET IFNAME BRIDGE" in said
    assert "add-br" not in said


def test_a_name_that_is_nearly_right_is_offered(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    assert f"did you mean '{sandbox.name}'?" in cli.fails("attach", f"{sandbox.name[:-1]}x", "eth1", node.bridge)


def test_addresses_of_the_command_line_come_before_ipam_which_then_is_never_asked(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    scripted = node.scripted_ipam()
    path = node.folder / "net.conf"
    path.write_text(json.dumps(node.config(ipam=scripted.config, cniVersion="1.0.0")))
    options = ("--from", str(path), "--cni-path", str(scripted.folder), "--ip", "10.1.0.2/24")
    cli.run("attach", sandbox.name, "eth1", *options)
    assert sandbox.address_texts("eth1") == {"10.1.0.2/24"}
    cli.run("detach", sandbox.name, "eth1")
    assert scripted.calls == []
    node.assert_nothing_left()


def test_a_second_default_route_is_refused_because_the_kernel_would_not_take_it(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    cli.run("attach", sandbox.name, "eth1", node.bridge, "--ip", "10.1.0.2/24", "--gateway", "10.1.0.1")
    words = ("attach", sandbox.name, "eth2", node.bridge, "--ip", "10.2.0.2/24", "--gateway", "10.2.0.1")
    assert "has a default route already: via 10.1.0.1" in cli.fails(*words)
    cli.run("detach", sandbox.name, "--all")
    node.assert_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_attach_that_is_interrupted_undoes_what_it_has_done(cli: Cli, node: Node, number: signal.Signals) -> None:
    scripted = node.scripted_ipam(ADD="sleep 30")
    sandbox = node.sandbox()
    path = node.folder / "net.conf"
    path.write_text(json.dumps(node.config(ipam=scripted.config, cniVersion="1.0.0")))
    words = ("attach", sandbox.name, "eth1", "--from", str(path), "--cni-path", str(scripted.folder))
    process = subprocess.Popen(
        cli.command(*words), env=cli.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    wait_for("IPAM is asked", lambda: scripted.calls == ["ADD"])
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "stopped by a signal" in said and "Traceback" not in said
    node.assert_nothing_left()


def test_without_open_vswitch_it_says_so(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    for words in (
        ("attach", sandbox.name, "eth1", node.bridge),
        ("detach", sandbox.name, "eth1"),
        ("reattach", "--all"),
    ):
        assert "ovsdb-server cannot be reached" in cli.fails(*words, "--db", "/nonexistent/db.sock")
    node.assert_nothing_left()

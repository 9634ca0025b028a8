"""`cni-ovs reattach`: what a container has lost comes back as it was, and is not lost by the very attempt."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.machine import PrivateMounts
from tests.support import ipam
from tests.support.cli import Cli
from tests.support.namespace import Namespace
from tests.support.node import Node
from tests.support.openvswitch import Row
from tests.support.plugin import REPOSITORY
from tests.support.processes import run, wait_for

pytestmark = pytest.mark.one_target


def port_of(node: Node, sandbox: Namespace, ifname: str = "eth1") -> Row:
    """The port of an interface that the command has attached."""
    (port,) = (
        row
        for row in node.ports()
        if (row["external_ids"]["contID"], row["external_ids"]["contIface"]) == (sandbox.name, ifname)
    )
    return port


def lose(node: Node, sandbox: Namespace, ifname: str = "eth1") -> None:
    """Somebody deletes the veth pair."""
    node.host.ip("link", "delete", port_of(node, sandbox, ifname)["name"])


@pytest.mark.userspace
@pytest.mark.parametrize("kind", ["internal", "tap"])
def test_reattach_brings_back_what_a_restart_of_ovs_vswitchd_took(private_node: Node, kind: str) -> None:
    node = private_node
    cli = Cli(node.host, node.openvswitch.remote)
    peer = node.attached(ipam=ipam.static("10.1.0.9/24", "fd01::9/64"))
    sandbox = node.sandbox()
    words = ("--ip", "10.1.0.2/24", "--ip", "fd01::2/64", "--gateway", "10.1.0.1", "--vlan", "0")
    cli.run("attach", sandbox.name, "eth1", node.bridge, "--type", kind, *words)
    sandbox.ip("route", "add", "192.0.2.0/24", "via", "10.1.0.7")  # somebody else's
    before, mac = sandbox.routes(), sandbox.link("eth1").mac
    assert "has lost nothing" in cli.run("reattach", sandbox.name).stdout

    node.openvswitch.ovs_vswitchd.kill()
    assert "ovs-vswitchd does not answer" in cli.fails("reattach", sandbox.name)
    node.openvswitch.start_ovs_vswitchd()
    assert not sandbox.pings("10.1.0.9", timeout=1)
    (planned,) = cli.json("reattach", sandbox.name, "--dry-run")
    assert planned["lost"] and planned["result"] is None
    (done,) = [entry for entry in cli.json("reattach", "--all") if entry["lost"]]
    assert done["ifname"] == "eth1"
    for address in ("10.1.0.9", "fd01::9"):
        assert sandbox.pings(address)
    assert sandbox.routes() == before
    assert sandbox.link("eth1").mac == mac
    assert port_of(node, sandbox)["tag"] == 0
    assert all(not entry["lost"] for entry in cli.json("reattach", "--all"))
    cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left(keep=[peer])


def test_reattach_brings_back_a_veth_pair_that_somebody_has_deleted_with_the_address_that_was_recorded(
    cli: Cli, node: Node
) -> None:
    sandbox = node.sandbox()
    cli.run("attach", sandbox.name, "eth1", node.bridge, "--ip", "10.1.0.2/24")
    (port,) = node.ports()
    node.host.ip("link", "delete", port["name"])
    assert "eth1" in cli.run("reattach", sandbox.name, "eth1").stdout
    assert sandbox.address_texts("eth1") == {"10.1.0.2/24"}
    cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


@pytest.fixture
def machine() -> Iterator[PrivateMounts]:
    mounts = PrivateMounts("/etc", "/opt", "/var/lib")
    try:
        yield mounts
    finally:
        mounts.close()


@pytest.mark.skipif(not (Path(ipam.TOOLS) / "cnitool").is_file(), reason="no cnitool: build/setup needs Go for it")
def test_reattach_finds_what_a_runtime_has_attached_in_libcnis_cache(machine: PrivateMounts, node: Node) -> None:
    cli = Cli(node.host, node.openvswitch.remote, *machine.command()[:-1], "--")
    networks = node.folder / "net.d"
    networks.mkdir()
    config = node.config(ipam=node.host_local("10.9.0.0/24"), cniVersion="1.0.0", vlan=3)
    (networks / "10-net.conf").write_text(json.dumps(config))
    sandbox = node.sandbox()
    variables = {"CNI_PATH": f"{REPOSITORY}/dist:{ipam.DEBIAN}", "NETCONFPATH": str(networks), "PATH": "/usr/bin:/bin"}
    cnitool = [str(Path(ipam.TOOLS) / "cnitool")]
    run(node.host.command(*machine.command(*cnitool, "add", node.network, sandbox.path)), env=variables)
    (port,) = node.ports()
    address = sandbox.address_texts("eth0")
    node.host.ip("link", "delete", port["name"])
    for words in ((), ("--force",)):
        cli.run("reattach", sandbox.name, *words)
        assert sandbox.address_texts("eth0") == address
        assert node.ports()[0]["tag"] == 3
        assert len(node.addresses_given_out()) == 1
        run(node.host.command(*machine.command(*cnitool, "check", node.network, sandbox.path)), env=variables)
    run(node.host.command(*machine.command(*cnitool, "del", node.network, sandbox.path)), env=variables)
    node.assert_nothing_left()


@pytest.mark.parametrize("kind", ["veth", pytest.param("internal", marks=pytest.mark.userspace)])
def test_everything_of_the_attachment_is_as_it_was(cli: Cli, node: Node, kind: str) -> None:
    sandbox = node.sandbox()
    words = ("--type", kind, "--vlan", "5", "--trunk", "7,10-12", "--mtu", "1400", "--ip", "fd01::2/64")
    cli.run("attach", sandbox.name, "eth1", node.bridge, *words, "--gateway", "fe80::1")
    before, link, routes = port_of(node, sandbox), sandbox.link("eth1"), sandbox.routes()
    if kind == "veth":
        lose(node, sandbox)
    cli.run("reattach", sandbox.name, "eth1", "--force")
    after, link_after = port_of(node, sandbox), sandbox.link("eth1")
    assert after["_uuid"] != before["_uuid"]
    assert [after[key] for key in ("name", "tag", "trunks", "vlan_mode")] == [
        before[key] for key in ("name", "tag", "trunks", "vlan_mode")
    ]
    assert (link_after.mac, link_after.mtu) == (link.mac, link.mtu)
    assert sandbox.address_texts("eth1") == {"fd01::2/64"}
    assert sandbox.routes() == routes
    assert "cniOvsAttach" not in after["external_ids"]["cniOvsAttach"]  # or it would grow each time
    cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


def test_the_address_of_an_ipam_plugin_comes_back_and_is_returned_in_the_end(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    path = node.folder / "net.conf"
    path.write_text(json.dumps(node.config(cniVersion="1.0.0", ipam=node.host_local())))
    cli.run("attach", sandbox.name, "eth1", "--from", str(path))
    path.unlink()
    addresses, given_out = sandbox.address_texts("eth1"), node.addresses_given_out()
    lose(node, sandbox)
    cli.run("reattach", sandbox.name)
    assert sandbox.address_texts("eth1") == addresses
    assert node.addresses_given_out() == given_out
    cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


@pytest.mark.userspace
def test_routes_come_back_whatever_their_order_but_not_those_that_come_by_themselves(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    cli.run(
        "attach", sandbox.name, "eth1", node.bridge, "--type", "internal", "--ip", "10.1.0.2/32", "--ip", "fd01::2/64"
    )
    device = port_of(node, sandbox)["name"]
    for words in (
        ("10.9.0.1", "dev", device),
        ("default", "via", "10.9.0.1"),
        ("192.0.2.0/24", "via", "169.254.1.1", "dev", device, "onlink", "metric", "7", "mtu", "1400"),
    ):
        sandbox.ip("route", "add", *words)
    kept = {route.destination: route for route in sandbox.routes()}
    sandbox.ip("-6", "route", "add", "default", "via", "fe80::9", "dev", device, "proto", "ra")
    assert "warning" not in cli.run("reattach", sandbox.name, "--force").stderr
    after = {route.destination: route for route in sandbox.routes()}
    assert set(after) == set(kept)
    for destination in ("0.0.0.0/0", "10.9.0.1/32", "192.0.2.0/24"):
        for value in ("gateways", "scope", "priority", "mtu"):
            assert getattr(after[destination], value) == getattr(kept[destination], value)


@pytest.mark.userspace
def test_a_device_that_somebody_has_set_down_has_lost_nothing(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    cli.run("attach", sandbox.name, "eth1", node.bridge, "--type", "internal")
    sandbox.ip("link", "set", port_of(node, sandbox)["name"], "down")
    assert "has lost nothing" in cli.run("reattach", sandbox.name).stdout


# When it cannot be done


def test_another_interface_of_the_name_or_an_end_that_is_elsewhere_is_told_and_the_port_stays(
    cli: Cli, node: Node
) -> None:
    sandbox, other = node.sandbox(), node.sandbox()
    for ifname in ("eth1", "eth2"):
        cli.run("attach", sandbox.name, ifname, node.bridge)
    lose(node, sandbox, "eth1")
    sandbox.ip("link", "add", "eth1", "type", "veth", "peer", "name", "eth9")
    node.host.ip("link", "set", port_of(node, sandbox, "eth2")["name"], "netns", other.name)
    said = cli.fails("reattach", sandbox.name)
    for ifname in ("eth1", "eth2"):
        assert f"{ifname} in the container is another interface" in said
        assert f"nsenter --net={sandbox.path} ip link delete {ifname}" in said
    assert len(node.ports()) == 2


def test_what_could_not_be_attached_is_noted_and_the_next_time_it_is(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    cli.run("attach", sandbox.name, "eth1", node.bridge, "--ip", "fd01::2/64")
    mac = sandbox.link("eth1").mac
    lose(node, sandbox)
    thief = node.attached(ipam=ipam.static("fd01::2/64"))
    said = cli.fails("reattach", sandbox.name)
    assert "in use by another node" in said
    assert "the port is gone; how it was is noted: `cni-ovs reattach` tries again" in said
    thief.delete().silent()
    assert not node.ports()
    (planned,) = cli.json("reattach", "--all", "--dry-run")
    assert (planned["ifname"], planned["bridge"], planned["lost"]) == (
        "eth1",
        node.bridge,
        "attaching it anew was interrupted",
    )
    cli.run("reattach", sandbox.name, "eth1")
    assert (sandbox.address_texts("eth1"), sandbox.link("eth1").mac) == ({"fd01::2/64"}, mac)
    cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


@pytest.mark.parametrize("then", ["reattach", "detach"])
def test_killed_after_the_port_was_removed_the_next_command_goes_on(cli: Cli, node: Node, then: str) -> None:
    sandbox = node.sandbox()
    path = node.folder / "net.conf"
    path.write_text(json.dumps(node.config(cniVersion="1.0.0", ipam=node.host_local())))
    cli.run("attach", sandbox.name, "eth1", "--from", str(path))
    addresses = sandbox.address_texts("eth1")
    _killed_before_add(cli, node, "reattach", sandbox.name, "--force")
    assert not node.ports()
    cli.run(then, sandbox.name, "eth1")
    if then == "reattach":
        assert sandbox.address_texts("eth1") == addresses
        cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


def test_what_a_runtime_has_attached_comes_back_too_after_a_kill_and_its_del_finds_it(cli: Cli, node: Node) -> None:
    pod = node.attached(ifname="eth0", interface_type="internal", vlan=4)
    pod.sandbox.ip("address", "add", "10.1.0.2/24", "dev", node.port(pod)["name"])
    _killed_before_add(cli, node, "reattach", pod.sandbox.name, "--force")
    assert not node.ports()
    assert "attached by a container runtime" in cli.fails("detach", pod.sandbox.name, "eth0")
    cli.run("reattach", pod.sandbox.name)
    assert pod.sandbox.address_texts("eth0") == {"10.1.0.2/24"}
    assert node.port(pod)["tag"] == 4
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.parametrize("when", ["never", "before ADD", "after ADD"])
def test_mirrors_and_the_macs_of_both_ends_come_back_also_after_a_kill(cli: Cli, node: Node, when: str) -> None:
    sandbox, other, vsctl = node.sandbox(), node.sandbox(), node.openvswitch.vsctl
    for one in (sandbox, other):
        cli.run("attach", one.name, "eth1", node.bridge)
    ports = [port_of(node, one)["name"] for one in (sandbox, other)]
    gets = [word for name in ports for word in ("--", f"--id=@{name}", "get", "port", name)]
    for number, (source, output) in enumerate((ports, ports[::-1])):
        create = (f"--id=@m{number}", "create", "mirror", f"name=m{number}", f"output_port=@{output}")
        sources = (f"select_src_port=@{source}", f"select_dst_port=@{source}")
        vsctl(*gets, "--", *create, *sources, "--", "add", "bridge", node.bridge, "mirrors", f"@m{number}")
    macs = node.host.link(ports[0]).mac, sandbox.link("eth1").mac
    if when == "never":
        cli.run("reattach", sandbox.name, "--force")
    elif when == "before ADD":
        _killed_before_add(cli, node, "reattach", sandbox.name, "--force")
        cli.run("reattach", sandbox.name)
    else:
        cli.dies_in("attaching._finish", "reattach", sandbox.name, "--force")
        cli.run("reattach", sandbox.name)
    assert not _notes(node)
    uuids = {one.name: port_of(node, one)["_uuid"] for one in (sandbox, other)}
    mirrors = {row["name"]: row for row in node.openvswitch.rows("Mirror")}
    for name, source, output in (("m0", sandbox, other), ("m1", other, sandbox)):
        row = mirrors[name]
        assert row["select_src_port"] == row["select_dst_port"] == uuids[source.name]
        assert row["output_port"] == uuids[output.name]
    assert (node.host.link(ports[0]).mac, sandbox.link("eth1").mac) == macs


def test_flat_files_do_not_bring_an_ipam_plugin_to_addresses_of_the_command_line(cli: Cli, node: Node) -> None:
    flat, path, sandbox = node.folder / "flat.conf", node.folder / "net.conf", node.sandbox()
    flat.write_text(json.dumps({"ipam": {"type": "no-such-plugin"}, "vlan": 9}))
    path.write_text(json.dumps(node.config(cniVersion="1.0.0", configuration_path=str(flat))))
    cli.run("attach", sandbox.name, "eth1", "--from", str(path), "--ip", "10.1.0.2/24")
    assert port_of(node, sandbox)["tag"] == 9
    cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


def _killed_before_add(cli: Cli, node: Node, *words: str) -> None:
    """Runs a command that is killed when it puts up the sign of ADD, the second one of the port's name."""
    with tempfile.NamedTemporaryFile(prefix="calls-") as log:
        trace = ("/usr/bin/strace", "-f", "-qqq", "-e", "trace=bind", "-o", log.name)
        traced = Cli(node.host, node.openvswitch.remote, *trace, environment=cli.environment)
        traced.run(*words)
        calls = re.findall(r"bind\(.*", Path(log.name).read_text())
    signs = [number for number, call in enumerate(calls, 1) if "cni-ovs-add-cni" in call and "-reattach" not in call]
    kill = ("/usr/bin/strace", "-f", "-qqq", "-e", "trace=bind", "-e", f"inject=bind:signal=KILL:when={signs[1]}")
    Cli(node.host, node.openvswitch.remote, *kill, environment=cli.environment).run(*words, check=False)


def test_two_at_once_do_not_take_the_port_from_each_other(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    cli.run("attach", sandbox.name, "eth1", node.bridge, "--ip", "10.1.0.2/24")
    lose(node, sandbox)
    commands = [
        subprocess.Popen(
            cli.command("reattach", sandbox.name, "--force"), env=cli.environment, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    said = [command.communicate(timeout=60)[1] for command in commands]
    assert 0 in [command.returncode for command in commands]
    assert not any("the port is gone" in text for text in said), said
    assert sandbox.address_texts("eth1") == {"10.1.0.2/24"}
    cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


def test_a_namespace_that_another_process_has_by_the_number_of_a_dead_one_gets_nothing(cli: Cli, node: Node) -> None:
    web, other = node.sandbox(), node.sandbox()
    process = web.start("sleep", "60")
    time.sleep(0.03)  # the kernel tells when a process began in hundredths of a second
    another = other.start("sleep", "60")
    cli.run("attach", str(process.pid), "eth1", node.bridge, "--ip", "10.1.0.2/24")
    (port,) = node.ports()
    # As if the other one had got the number.
    netns = f"/proc/{another.pid}/ns/net"
    wait_for("it is there", lambda: netns != web.path and Path(netns).stat().st_ino == other.inode)
    node.openvswitch.vsctl("set", "Port", port["name"], f"external_ids:contNetns={netns}")
    web.delete()
    wait_for("its veth is gone", lambda: port["name"] not in node.host.links())
    assert "is another one than that which had 'eth1'" in cli.run("reattach", "--all").stderr
    assert "has nothing attached" in cli.fails("detach", other.name, "--all")
    assert set(other.links()) == set(other.initial_devices)
    assert "1 removed" in cli.run("gc", "--network", "cni-ovs").stdout
    other.delete()
    node.assert_nothing_left()


def test_a_logical_port_of_ovn_that_nobody_has_recorded_is_kept(cli: Cli, node: Node) -> None:
    pod = node.attached(args={"cni": {"ovnPort": "storage"}})
    cli.run("reattach", pod.sandbox.name, "--force")
    assert node.interface(pod)["external_ids"]["iface-id"] == "storage"


@pytest.mark.parametrize("keys", [{"macspoofchk": True}, {"bandwidth": {"ingressRate": 10**7, "ingressBurst": 10**6}}])
def test_what_was_protected_or_limited_is_not_attached_anew_without_that(
    cli: Cli, node: Node, keys: dict[str, Any]
) -> None:
    pod = node.attached(ifname="eth0", **keys)  # by a runtime that keeps no record
    assert "restart the container" in cli.fails("reattach", pod.sandbox.name, "--force")
    pod.check().silent()


def test_a_signal_ends_it_before_the_next_one(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    for number in range(8):
        cli.run("attach", sandbox.name, f"eth{number}", node.bridge)
    process = subprocess.Popen(
        cli.command("reattach", "--all", "--force"),
        env=cli.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "stopped by a signal" in said and "attached anew" not in said
    assert len(node.ports()) + len(_notes(node)) == 8
    cli.run("reattach", "--all")
    assert len(node.ports()) == 8
    cli.run("detach", sandbox.name, "--all")
    node.assert_nothing_left()


def _notes(node: Node) -> list[str]:
    rows = node.openvswitch.rows("Bridge")
    return [key for row in rows for key in row["external_ids"] if key.startswith("cni-ovs-detaching-")]


def test_all_are_attached_anew_although_nobody_reads_and_some_containers_are_gone(cli: Cli, node: Node) -> None:
    sandboxes = [node.sandbox() for _ in range(3)]
    for number, sandbox in enumerate(sandboxes):
        cli.run("attach", sandbox.name, "eth1", node.bridge, "--ip", f"10.1.0.{number + 2}/24")
        lose(node, sandbox)
    sandboxes[2].delete()
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(cli.command("reattach", "--all"), env=cli.environment, stdout=writer, timeout=60, check=False)
    os.close(writer)
    assert done.returncode == 0
    for number, sandbox in enumerate(sandboxes[:2]):
        assert sandbox.address_texts("eth1") == {f"10.1.0.{number + 2}/24"}
        cli.run("detach", sandbox.name, "eth1")
    cli.run("detach", sandboxes[2].name, "eth1")
    node.assert_nothing_left()

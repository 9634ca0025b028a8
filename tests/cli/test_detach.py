"""`cni-ovs detach`: everything goes, the address too, and nothing of anybody else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import ipam
from tests.support.cli import Cli
from tests.support.node import Node
from tests.support.processes import wait_for

pytestmark = pytest.mark.one_target

VALID = "cni.dev/valid-attachments"


def attach_from(cli: Cli, node: Node, target: str, *words: str, **keys: Any) -> Path:
    """Attaches a container as eth1 by a network configuration in a file, whose path is returned."""
    path = node.folder / "net.conf"
    path.write_text(json.dumps(node.config(cniVersion="1.0.0", **keys)))
    cli.run("attach", target, "eth1", "--from", str(path), *words)
    return path


def rewrite(node: Node, name: str, **external_ids: str) -> None:
    """Somebody writes into the external_ids of a port."""
    ids = {**node.openvswitch.row("Port", name)["external_ids"], **external_ids}
    row = {"external_ids": ["map", [list(pair) for pair in ids.items()]]}
    node.openvswitch.transact({"op": "update", "table": "Port", "where": [["name", "==", name]], "row": row})


def test_what_a_runtime_has_attached_is_detached_only_by_force(cli: Cli, node: Node) -> None:
    pod = node.attached(ifname="eth0")
    assert "attached by a container runtime" in cli.fails("detach", pod.sandbox.name, "eth0")
    assert len(node.ports()) == 1
    cli.run("detach", pod.sandbox.name, "eth0", "--force")
    node.assert_nothing_left()
    pod.delete().silent()


def test_an_attachment_is_found_by_name_when_its_container_is_gone(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    cli.run("attach", sandbox.name, "eth1", node.bridge, "--type", "internal")
    sandbox.delete()
    assert cli.json("detach", sandbox.name, "eth1")[0]["ifname"] == "eth1"
    node.assert_nothing_left()


def test_of_several_each_is_detached_though_one_fails_and_what_failed_is_told(cli: Cli, node: Node) -> None:
    scripted = node.scripted_ipam()
    sandbox = node.sandbox()
    attach_from(cli, node, sandbox.name, "--cni-path", str(scripted.folder), ipam=scripted.config)
    cli.run("attach", sandbox.name, "eth2", node.bridge)
    words = ("detach", sandbox.name, "--all", "--cni-path", str(scripted.folder))
    scripted.act(DEL=scripted.refuse(11, "not now"))
    said = cli.fails(*words)
    assert "1 of 2 are not detached: eth1: IPAM plugin 'scripted': not now" in said
    assert "its address is not returned: type the same again" in said
    assert not node.ports()
    scripted.act()
    (done,) = cli.json(*words)
    assert (done["ifname"], done["bridge"]) == ("eth1", node.bridge)
    assert scripted.calls == ["ADD", "DEL", "DEL"]
    node.assert_nothing_left()


def test_an_ipam_plugin_is_run_where_the_command_line_says_and_not_where_a_row_does(cli: Cli, node: Node) -> None:
    scripted = node.scripted_ipam()
    sandbox = node.sandbox()
    attach_from(cli, node, sandbox.name, "--cni-path", str(scripted.folder), ipam=scripted.config)
    said = cli.fails("detach", sandbox.name, "eth1")
    assert f"it was attached with --cni-path {scripted.folder}" in said
    assert scripted.calls == ["ADD"]
    cli.run("detach", sandbox.name, "eth1", "--cni-path", str(scripted.folder))
    assert scripted.calls == ["ADD", "DEL"]
    node.assert_nothing_left()


def test_what_detach_could_not_return_gc_returns_when_the_container_is_gone(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    attach_from(cli, node, sandbox.name, ipam=node.host_local())
    cli.fails("detach", sandbox.name, "eth1", "--cni-path", "/var/empty")
    assert len(node.addresses_given_out()) == 1
    sandbox.delete()
    cli.run("gc", "--network", node.network)  # no file tells of the network; the note does
    node.assert_nothing_left()


def test_while_an_add_is_at_work_it_waits_and_then_detaches(cli: Cli, node: Node) -> None:
    scripted = node.scripted_ipam(ADD=f"sleep 1; {ipam.ScriptedIpam.answer('10.77.0.2/24')}")
    sandbox = node.sandbox()
    path = node.folder / "net.conf"
    path.write_text(json.dumps(node.config(cniVersion="1.0.0", ipam=scripted.config)))
    words = ("--from", str(path), "--cni-path", str(scripted.folder))
    attaching = subprocess.Popen(
        cli.command("attach", sandbox.name, "eth1", *words), env=cli.environment, stdout=subprocess.DEVNULL
    )
    wait_for("the port is there", node.ports)
    cli.run("detach", sandbox.name, "eth1", "--cni-path", str(scripted.folder))
    assert attaching.wait(30) == 0
    assert scripted.calls == ["ADD", "DEL"]
    node.assert_nothing_left()


@pytest.mark.parametrize("number", ["12", "13"])
def test_the_ports_of_others_that_are_stale_stay_where_nothing_tells_how_to_return_their_addresses(
    cli: Cli, node: Node, number: str
) -> None:
    stale = node.attached(ipam=node.host_local())
    node.vanish(stale)
    sandbox = node.sandbox()
    attach_from(cli, node, sandbox.name, "--ip", f"10.9.0.{number}/24", ipam=node.host_local())
    if number == "13":
        cli.run("reattach", sandbox.name, "--force")
    cli.run("detach", sandbox.name, "eth1")
    assert [row["external_ids"]["contID"] for row in node.ports()] == [stale.container_id]
    assert node.addresses_given_out() == stale.addresses
    stale.delete().silent()
    node.assert_nothing_left()


def test_the_gc_of_a_runtime_leaves_alone_what_a_person_has_attached(cli: Cli, node: Node) -> None:
    sandbox, stale = node.sandbox(), node.attached(ipam=node.host_local())
    attach_from(cli, node, sandbox.name, ipam=node.host_local())
    stale.gc(**{VALID: []}).silent()
    (port,) = node.ports()
    assert port["external_ids"]["contID"] == sandbox.name
    assert len(node.addresses_given_out()) == 1
    cli.run("detach", sandbox.name, "eth1")
    node.assert_nothing_left()


# Names


def test_a_name_that_says_nothing_is_nobody_s(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    process = sandbox.start("sleep", "60")
    cli.run("attach", str(process.pid), "eth1", node.bridge)
    for word in ("net", "None", "None/None", "ns", ""):  # the path is /proc/PID/ns/net, and there is no pod
        cli.fails("detach", word, "--all")
    assert len(node.ports()) == 1
    cli.run("detach", sandbox.name, "--all")


def test_a_name_that_two_containers_had_is_not_guessed(cli: Cli, node: Node) -> None:
    ids = [f"abcdef{number:058}" for number in (1, 2)]
    pods = [node.attached(container_id=container_id) for container_id in ids]
    for pod in pods:
        rewrite(node, node.port(pod)["name"], contName="web")
        pod.sandbox.delete()
    for word in ("web", "abcdef"):
        said = cli.fails("detach", word, "--all", "--force")
        assert "more than one container" in said and f"say which: {ids[0]}, {ids[1]}" in said
    cli.run("detach", ids[0], "--all", "--force")
    assert [row["external_ids"]["contID"] for row in node.ports()] == [ids[1]]


# Hostile rows


def test_what_a_row_tells_cannot_command_the_terminal(cli: Cli, node: Node) -> None:
    sandbox = node.sandbox()
    cli.run("attach", sandbox.name, "eth1", node.bridge)
    (port,) = node.ports()
    rewrite(node, port["name"], contPodName="a\x1b[2Jb", contPodNamespace="\x9b", contIface="\u202ee")
    for words in (("reattach", "--all", "--dry-run"), ("reattach", "--all"), ("detach", sandbox.name, "--all")):
        done = cli.run(*words, check=False)
        printed = (done.stdout + done.stderr).replace("\n", "")
        assert printed.isprintable(), printed
        assert printed


@pytest.mark.parametrize(
    "record",
    [
        "{",
        "[]",
        "[" * 100_000,
        {"config": []},
        {"config": {}, "ips": [{"address": "x"}], "routes": [], "cniPath": ""},
        {"config": {}, "ips": [], "routes": [{"dst": 5}], "cniPath": ""},
    ],
)
def test_a_record_that_is_none_does_not_count(cli: Cli, node: Node, record: Any) -> None:
    pod = node.attached()
    text = record if isinstance(record, str) else json.dumps(record)
    rewrite(node, node.port(pod)["name"], cniOvsAttach=text)
    assert "attached by a container runtime" in cli.fails("detach", pod.sandbox.name, "--all")
    pod.check().silent()
    pod.delete().silent()


def test_a_record_says_neither_whose_the_port_is_nor_which_file_is_written(cli: Cli, node: Node) -> None:
    pod, other = node.attached(), node.attached(name="other")
    log = node.folder / "log"
    config = {"cniVersion": "1.0.0", "name": "other", "type": "tuning", "log_file": str(log), "log_level": "debug"}
    record = {"config": {**config, "bridge": node.bridge}, "ips": [], "routes": [], "cniPath": "/x"}
    rewrite(node, node.port(pod)["name"], cniOvsAttach=json.dumps(record))
    cli.run("reattach", pod.sandbox.name, "--force")
    assert node.port(pod)["external_ids"]["contNetwork"] == node.network
    cli.run("detach", pod.sandbox.name, "--all")
    assert not log.exists()
    node.assert_nothing_left(keep=[other])


@pytest.mark.parametrize("keys", [{"external_ids": [1]}, {"runtimeConfig": "x"}, {"cniVersion": {}}, {"bridge": 5}])
def test_a_record_that_add_would_refuse_does_not_cost_the_port(cli: Cli, node: Node, keys: dict[str, Any]) -> None:
    pod = node.attached()
    config = {"cniVersion": "1.0.0", "mtu": 1400, "runtimeConfig": {"mac": "02:00:00:00:00:0a"}, **keys}
    record = {"config": config, "ips": [{"address": "10.1.0.2/24"}], "routes": [], "mac": "5", "cniPath": ""}
    rewrite(node, node.port(pod)["name"], cniOvsAttach=json.dumps(record))
    node.host.ip("link", "delete", node.port(pod)["name"])
    if "bridge" in keys:
        keys["mtu"] = "x"
        rewrite(node, node.port(pod)["name"], cniOvsAttach=json.dumps({**record, "config": {**config, "mtu": "x"}}))
    said = cli.fails("reattach", pod.sandbox.name)
    assert "defect" not in said and "the port is gone" not in said
    assert node.port(pod)

"""`cni-ovs gc`: what belongs to containers that are gone goes, and nothing that belongs to one that may live."""

from __future__ import annotations

import contextlib
import json
import os
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

KINDS = ["veth", pytest.param("internal", marks=pytest.mark.userspace)]


def _options(node: Node, pod: Attachment | None = None, cni_path: str | None = None) -> list[str]:
    """Where the network's configuration is, which is written there for a pod, and the IPAM plugins."""
    folder = node.folder / "net.d"
    folder.mkdir(exist_ok=True)
    if pod is not None:
        plugin = {key: value for key, value in pod.config.items() if key not in ("name", "cniVersion")}
        values = {"cniVersion": "1.0.0", "name": pod.config["name"], "plugins": [plugin, {"type": "tuning"}]}
        (folder / "10-test.conflist").write_text(json.dumps(values))
    return ["--network", node.network, "--conf-dir", str(folder), "--cni-path", cni_path or ipam.DEBIAN]


def _vanish(node: Node, *pods: Attachment) -> None:
    """Their namespaces go, and the kernel has removed their veths."""
    names = [node.port(pod)["name"] for pod in pods]
    for pod in pods:
        pod.sandbox.delete()
    wait_for("the devices are gone", lambda: not set(names) & set(node.host.links()))
    if any(pod.config.get("interface_type") == "internal" for pod in pods):
        # The namespace of an internal port is destroyed a moment later, and nothing on the host tells of it.
        wait_for("the taps are gone", lambda: not set(names) & _taps(node))


def _taps(node: Node) -> set[str]:
    found = set()
    for path in Path(f"/proc/{node.openvswitch.ovs_vswitchd.pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found |= {line[4:].strip() for line in path.read_text().splitlines() if line.startswith("iff:")}
    return found


def _collect(cli: Cli, *options: str, code: int = 0) -> Any:
    """A dry run, and what a real run then does: the same."""
    expected = cli.json("gc", "--dry-run", *options)
    assert expected["dry_run"] is True
    done = cli.run("gc", *options, "--json", check=False)
    assert done.returncode == code, done
    found = json.loads(done.stdout)
    assert found["removed"] + [_without_error(item) for item in found["failed"]] == expected["removed"]
    assert found["kept"] == expected["kept"]
    assert found["alive"] == expected["alive"]
    return found


def _without_error(item: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in item.items() if key != "error"}


# What goes


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_whose_container_is_gone_goes_with_its_address_and_a_living_one_stays(
    node: Node, cli: Cli, kind: str
) -> None:
    stale, living = (node.attached(interface_type=kind, ipam=node.host_local()) for _ in range(2))
    name = node.port(stale)["name"]
    _vanish(node, stale)
    found = _collect(cli, *_options(node, stale))
    assert [(item["kind"], item["name"], item["container_id"]) for item in found["removed"]] == [
        ("port", name, stale.container_id)
    ]
    assert found["removed"][0]["address"] == "is returned by host-local"
    assert (found["kept"], found["alive"]) == ([], 1)
    node.assert_nothing_left(keep=[living])
    living.check().silent()
    assert _collect(cli, *_options(node))["removed"] == []


def test_limits_and_rules_go_with_their_port(node: Node, cli: Cli) -> None:
    keys: dict[str, Any] = {"macspoofchk": True, "bandwidth": {"egressRate": 10**7, "egressBurst": 10**6}}
    keys["bandwidth"] |= {"ingressRate": 10**7, "ingressBurst": 10**6}
    before = node.openvswitch.flows(node.bridge)
    stale = node.attached(ipam=node.host_local(), **keys)
    assert node.openvswitch.flows(node.bridge) > before
    _vanish(node, stale)
    _collect(cli, *_options(node, stale))
    assert node.openvswitch.flows(node.bridge) == before
    node.assert_nothing_left()


def test_rules_and_limits_whose_port_somebody_has_removed_go(private_node: Node) -> None:
    node = private_node
    cli = Cli(node.host, node.openvswitch.remote)
    before = node.openvswitch.flows(node.bridge)
    pod = node.attached(macspoofchk=True)
    external_ids = ["map", [[key, value] for key, value in node.port(pod)["external_ids"].items()]]
    for table, more in (("Queue", {}), ("QoS", {"type": "linux-htb"})):  # as limits of an internal port are kept
        node.openvswitch.transact({"op": "insert", "table": table, "row": {"external_ids": external_ids, **more}})
    node.openvswitch.vsctl("del-port", node.port(pod)["name"])
    _vanish_bare(node, pod)
    found = _collect(cli)
    assert sorted(item["kind"] for item in found["removed"]) == ["limits", "rules"], found
    assert node.openvswitch.flows(node.bridge) == before
    node.assert_nothing_left()


def _vanish_bare(node: Node, pod: Attachment) -> None:
    pod.sandbox.delete()
    wait_for("its veth is gone", lambda: not any(link.kind == "veth" for link in node.host.links().values()))


def test_a_removal_that_was_not_finished_is_finished(node: Node, cli: Cli) -> None:
    pod = node.attached(ipam=node.host_local())
    pod.delete(CNI_PATH="/var/empty").error()
    assert pod.addresses == node.addresses_given_out()
    kept = _collect(cli, *_options(node, pod))["kept"]
    assert [item["kind"] for item in kept] == ["note"]  # the namespace is there: DEL will come
    pod.sandbox.delete()
    found = _collect(cli, *_options(node, pod))
    assert [item["kind"] for item in found["removed"]] == ["note"]
    node.assert_nothing_left()


def test_only_the_network_that_is_named_is_looked_at(node: Node, cli: Cli) -> None:
    pods = [node.attached(name=name) for name in (node.network, "another")]
    _vanish(node, *pods)
    _collect(cli, "--network", "another")
    node.assert_nothing_left(keep=[pods[0]])


def test_without_a_configuration_the_address_stays_and_that_is_told(node: Node, cli: Cli) -> None:
    pod = node.attached(ipam=node.host_local())
    _vanish(node, pod)
    text = cli.run("gc", *_options(node)).stdout
    assert "its address stays: no configuration of the network was found" in text
    assert pod.container_id in text
    assert node.addresses_given_out() == pod.addresses
    assert not node.ports()


def test_a_missing_ipam_plugin_fails_is_told_and_the_next_run_returns_the_address(node: Node, cli: Cli) -> None:
    pod = node.attached(ipam=node.host_local())
    _vanish(node, pod)
    (item,) = _collect(cli, *_options(node, pod, "/var/empty"), code=1)["failed"]
    assert "host-local" in item["error"] and "/var/empty" in item["error"]
    assert node.addresses_given_out() == pod.addresses
    _collect(cli, *_options(node))
    node.assert_nothing_left()


def test_what_cni_ovs_attach_has_recorded_is_enough_and_no_address_is_said_to_stay(node: Node, cli: Cli) -> None:
    sandbox = node.sandbox()
    cli.run("attach", sandbox.name, "eth1", node.bridge, "--ip", "10.1.0.2/24")
    sandbox.delete()
    wait_for("its veth is gone", lambda: not any(link.kind == "veth" for link in node.host.links().values()))
    text = cli.run("gc", "--network", "cni-ovs").stdout
    assert "1 removed" in text and "stays" not in text
    node.assert_nothing_left()


# What stays


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_whose_namespace_lost_its_path_and_is_held_by_a_process_is_kept_and_told(
    node: Node, cli: Cli, kind: str
) -> None:
    pod = node.attached(interface_type=kind, ipam=node.host_local())
    name = node.port(pod)["name"]
    holder = _hold(pod.sandbox)
    try:
        node.host.run("ip", "netns", "delete", pod.sandbox.name)
        found = _collect(cli, *_options(node, pod))
        assert found["removed"] == []
        assert [item["name"] for item in found["kept"]] == [name]
        assert "lives" in found["kept"][0]["why"]
        assert "kept" in cli.run("gc", *_options(node)).stdout
        assert node.port(pod)["name"] == name
        assert node.addresses_given_out() == pod.addresses
    finally:
        holder.kill()
        holder.wait()
    wait_for("its device is gone", lambda: name not in _taps(node) | set(node.host.links()))
    _collect(cli, *_options(node))
    node.assert_nothing_left()


def _hold(namespace: Namespace) -> subprocess.Popen[bytes]:
    """A process in a namespace, with mounts of its own in which the path is still there."""
    words = namespace.command("unshare", "--mount", "--propagation", "private", "sleep", "300")
    process = subprocess.Popen(words)
    wait_for("it sleeps", lambda: Path(f"/proc/{process.pid}/comm").read_text().strip() == "sleep")
    return process


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_that_is_stopped_is_alive(node: Node, cli: Cli, kind: str) -> None:
    pod = node.attached(interface_type=kind)
    sleeping = pod.sandbox.start("sleep", "300")
    pod.sandbox.ip("link", "set", "net1", "down")
    sleeping.send_signal(signal.SIGSTOP)
    found = _collect(cli, *_options(node))
    assert (found["removed"], found["kept"], found["alive"]) == ([], [], 1)
    sleeping.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["/no/such/folder/web", "relative", "", "/proc/1/ns/net", "/run/netns"])
def test_a_path_that_proves_nothing_is_kept_and_told(node: Node, cli: Cli, kind: str, path: str) -> None:
    pod = node.attached(interface_type=kind)
    name = node.port(pod)["name"]
    node.openvswitch.vsctl("set", "Port", name, f'external_ids:contNetns="{path}"')
    found = _collect(cli, *_options(node))
    assert found["removed"] == []
    assert found["alive"] + len(found["kept"]) == 1
    assert node.openvswitch.row("Port", name)
    node.openvswitch.vsctl("set", "Port", name, f"external_ids:contNetns={pod.netns}")


def test_a_renamed_internal_port_of_a_container_without_a_path_is_kept(node: Node, cli: Cli) -> None:
    """Then the taps of ovs-vswitchd do not tell which of them is gone."""
    pod = node.attached(interface_type="internal")
    name = node.port(pod)["name"]
    holder = _hold(pod.sandbox)
    try:
        pod.sandbox.ip("link", "set", name, "down")
        pod.sandbox.ip("link", "set", name, "name", "eth0")
        node.host.run("ip", "netns", "delete", pod.sandbox.name)
        found = _collect(cli, *_options(node))
        assert (found["removed"], len(found["kept"])) == ([], 1)
    finally:
        holder.kill()
        holder.wait()


def test_a_container_that_is_attached_anew_under_the_same_name_is_alive(node: Node, cli: Cli) -> None:
    pod = node.attached()
    _vanish(node, pod)
    run = node.host.run("ip", "netns", "add", pod.sandbox.name)
    assert run.returncode == 0
    found = _collect(cli, *_options(node))
    assert (found["removed"], found["alive"]) == ([], 1)


def test_it_refuses_where_open_vswitch_is_not_or_is_not_beside_it(node: Node, cli: Cli) -> None:
    """In another network namespace no veth is seen, which would prove that every container is gone."""
    pod = node.attached()
    assert "cannot be reached" in cli.fails("gc", "--db", "unix:/nowhere/db.sock")
    elsewhere = Cli(node.sandbox(), node.openvswitch.remote)
    assert "is an interface of this network namespace" in elsewhere.fails("gc")
    assert node.port(pod)


def test_hostile_records_are_told_without_control_characters(node: Node, cli: Cli) -> None:
    pod = node.attached()
    name = node.port(pod)["name"]
    node.openvswitch.transact(
        {
            "op": "update",
            "table": "Port",
            "where": [["name", "==", name]],
            "row": {
                "external_ids": ["map", [["owner", "cni-ovs"], ["contNetwork", "\x1b[2J"], ["contNetns", "/run/x"]]]
            },
        },
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", node.bridge]],
            "mutations": [["external_ids", "insert", ["map", [["cni-ovs-detaching-x", '{"owner":"cni-ovs"}']]]]],
        },
    )
    text = cli.run("gc", "--dry-run").stdout
    assert f"kept port {name}" in text and "does not say whose it is" in text
    assert "\x1b" not in text
    node.openvswitch.vsctl("remove", "Bridge", node.bridge, "external_ids", "cni-ovs-detaching-x")


def test_an_unreadable_configuration_is_told_and_does_not_matter(node: Node, cli: Cli) -> None:
    options = _options(node)
    folder = Path(options[3])
    (folder / "00-bad.conf").write_text("{")
    (folder / "01-list.conflist").write_text('{"name": 5, "plugins": [1, {"type": "ovs"}]}')
    text = cli.run("gc", *options).stdout
    assert "ignored" in text and "00-bad.conf" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_it_leaves_nothing_running_and_the_next_run_finishes(
    node: Node, cli: Cli, number: signal.Signals
) -> None:
    scripted = node.scripted_ipam()
    pod = node.attached(ipam=scripted.config, cni_path=str(scripted.folder))
    _vanish(node, pod)
    scripted.act(DEL="exec sleep 60")
    options = _options(node, pod, str(scripted.folder))
    process = subprocess.Popen(cli.command("gc", *options), env=cli.environment, stderr=subprocess.PIPE, text=True)
    wait_for("it returns the address", lambda: "DEL" in scripted.calls)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode != 0
    assert "Traceback" not in stderr, stderr
    if number == signal.SIGKILL:  # the IPAM plugin goes on, as with every CNI plugin that is killed
        node.host.run("kill", "-9", str(scripted.pid("DEL")))
        wait_for("it has ended", lambda: not node.strangers())
    assert not node.strangers()
    scripted.act()
    found = _collect(cli, *options)
    assert [item["kind"] for item in found["removed"]] == ["note"]
    node.assert_nothing_left()


def test_everything_is_removed_although_nobody_reads(node: Node, cli: Cli) -> None:
    pods = [node.attached() for _ in range(3)]
    _vanish(node, *pods)
    reader, writer = os.pipe()
    os.close(reader)
    options = _options(node, pods[0])
    done = subprocess.run(cli.command("gc", *options), env=cli.environment, stdout=writer, timeout=60, check=False)
    os.close(writer)
    assert done.returncode == 0
    node.assert_nothing_left()

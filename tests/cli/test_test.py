"""`cni-ovs test`: containers that reach each other, broken paths with their causes, and nothing that remains."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.namespace import Namespace, needs_link_watch, processes_in
from tests.support.node import Node
from tests.support.plugin import Attachment
from tests.support.processes import ends, wait_for
from tests.support.terminal import in_terminal

pytestmark = pytest.mark.one_target

SUBNETS = ("10.10.0.0/24", "fd00:10::/64")


@pytest.fixture
def cli(node: Node) -> Cli:
    return Cli(node.host, node.openvswitch.remote)


def _pod(node: Node, **keys: object) -> Attachment:
    return node.attached(ipam=node.host_local(*SUBNETS), **keys)


def _names(*pods: Attachment) -> list[str]:
    return [pod.sandbox.name for pod in pods]


@pytest.fixture
def pair(node: Node) -> tuple[Attachment, Attachment]:
    return _pod(node), _pod(node)


# Good connections


@pytest.mark.userspace
def test_internal_ports_that_reach_each_other_are_good(node: Node, cli: Cli) -> None:
    report = cli.json("test", *_names(*(_pod(node, interface_type="internal") for _ in range(2))), "--no-throughput")
    assert report["good"] is True and report["tcp_connect_ms"] > 0
    assert report["a"]["interface"] == "net1" and report["throughput"] == []


def test_two_containers_that_reach_each_other_are_measured(
    node: Node, cli: Cli, pair: tuple[Attachment, Attachment]
) -> None:
    report = cli.json("test", *_names(*pair), "-t", "1", "--both")
    assert report["good"] is True
    pings = report["reachability"]
    assert {(ping["family"], ping["from"], ping["to"]) for ping in pings} == {
        (family, *way) for family in ("ipv4", "ipv6") for way in (("a", "b"), ("b", "a"))
    }
    assert all(ping["sent"] == ping["received"] == 5 and ping["method"] == "ping" for ping in pings)
    assert all(0 < ping["rtt_ms"]["min"] <= ping["rtt_ms"]["avg"] <= ping["rtt_ms"]["max"] for ping in pings)
    assert [(found["family"], found["largest"]) for found in report["path_mtu"]] == [("ipv4", 1500), ("ipv6", 1500)]
    assert [(rate["protocol"], rate["from"], rate["method"]) for rate in report["throughput"]] == [
        (protocol, way, "iperf3") for protocol in ("tcp", "udp") for way in ("a", "b")
    ]
    for rate in report["throughput"]:
        assert rate["bits_per_second"] > 1e6
        assert (rate["retransmits"] is None) == (rate["protocol"] == "udp")
        assert (rate["jitter_ms"] is None) == (rate["protocol"] == "tcp")
        assert 0 <= rate["machine_busy_percent"] <= 100
    assert report["a"]["interface"] == report["b"]["interface"] == "net1"
    assert report["a"]["port"] == node.port(pair[0])["name"]
    assert not node.strangers()


def test_without_ping_and_iperf3_it_measures_with_sockets_of_its_own(
    node: Node, pair: tuple[Attachment, Attachment]
) -> None:
    cli = Cli(node.host, node.openvswitch.remote, environment={"PATH": "/var/empty"})
    report = cli.json("test", *_names(*pair), "-t", "1", "-P", "2", "-b", "20M", "--both")
    assert report["good"] is True, report
    assert {ping["method"] for ping in report["reachability"]} == {"echo"}
    assert all(ping["sent"] == ping["received"] == 5 for ping in report["reachability"])
    assert {rate["method"] for rate in report["throughput"]} == {"sockets"}
    tcp, udp = ([rate for rate in report["throughput"] if rate["protocol"] == name] for name in ("tcp", "udp"))
    assert all(rate["bits_per_second"] > 1e7 and rate["retransmits"] >= 0 for rate in tcp)
    assert all(2e7 < rate["bits_per_second"] < 6e7 and rate["lost_percent"] < 50 for rate in udp)


def test_the_options_of_iperf3_reach_it(node: Node, cli: Cli, pair: tuple[Attachment, Attachment]) -> None:
    a, b = pair
    process = subprocess.Popen(
        cli.command("test", *_names(a, b), "-u", "-b", "2M", "-P", "3", "-t", "2", "-p", "5999", "--reverse", "--json"),
        env=cli.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def listening() -> str:
        found = a.sandbox.run("ss", "-Hltn").stdout
        return found if "5999" in found else ""

    at = wait_for("iperf3 listens", listening)
    assert f"{a.addresses[0]}:5999" in at  # at the receiver, and at its address alone
    (rate,) = json.loads(process.communicate(timeout=30)[0])["throughput"]
    assert (rate["protocol"], rate["from"], rate["to"]) == ("udp", "b", "a")
    assert 4e6 < rate["bits_per_second"] < 8e6


def test_without_throughput_it_is_quick_and_in_a_pipe_plain(
    node: Node, cli: Cli, pair: tuple[Attachment, Attachment]
) -> None:
    begun = time.monotonic()
    text = cli.run("test", *_names(*pair), "--no-throughput").stdout
    assert time.monotonic() - begun < 6
    assert text.rstrip().splitlines()[-1].startswith("good: 0 % loss, ")
    assert text.rstrip().endswith("MTU 1500")
    assert "\x1b" not in text


def test_processes_and_paths_can_be_tested_too(node: Node, cli: Cli, pair: tuple[Attachment, Attachment]) -> None:
    sleeping = pair[0].sandbox.start("sleep", "60")
    report = cli.json("test", str(sleeping.pid), pair[1].sandbox.path, "--no-throughput")
    assert report["good"] is True
    assert report["a"]["netns"] == f"/proc/{sleeping.pid}/ns/net"
    assert report["a"]["port"] == node.port(pair[0])["name"]


@pytest.fixture
def bare(sandbox: Namespace) -> Iterator[tuple[Namespace, Namespace]]:
    """Two namespaces that a veth pair connects, without Open vSwitch."""
    other = Namespace()
    try:
        sandbox.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", other.name)
        for number, namespace in enumerate((sandbox, other), 1):
            namespace.ip("address", "add", f"10.20.0.{number}/24", "dev", "eth0")
            namespace.ip("link", "set", "eth0", "up")
        yield sandbox, other
    finally:
        other.delete()


def test_namespaces_are_tested_without_open_vswitch(bare: tuple[Namespace, Namespace], node: Node) -> None:
    cli = Cli(node.host, "unix:/nowhere/db.sock")
    words = ("test", bare[0].name, bare[1].name, "--no-throughput")
    report = cli.json(*words)
    assert report["good"] is True
    assert report["a"]["bridge"] is None
    assert "without Open vSwitch" in cli.run(*words).stdout


def test_an_interface_with_a_carrier_that_the_kernel_has_not_acted_on_is_waited_for(
    bare: tuple[Namespace, Namespace], node: Node
) -> None:
    """Many changes of other links make that seconds. A dormant one, which looks the same to us, stands in for it."""
    late, other = bare
    late.ip("link", "set", "eth0", "mode", "dormant", "state", "dormant")
    wait_for("it is not up", lambda: "LOWER_UP" in (text := late.ip("link", "show", "eth0")) and "state UP" not in text)
    cli = Cli(node.host, "unix:/nowhere/db.sock")
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(cli.json, "test", late.name, other.name, "--no-throughput")
        assert wait([report], timeout=2).not_done  # without waiting it is done in a second
        late.ip("link", "set", "eth0", "mode", "default", "state", "up")
        assert report.result(30)["good"] is True


@needs_link_watch
@pytest.mark.parametrize("matrix", [False, True], ids=["pair", "matrix"])
def test_a_host_end_that_the_kernel_has_not_acted_on_is_waited_for(node: Node, cli: Cli, matrix: bool) -> None:
    """An interface that goes down and up takes its host's end with it."""
    pods = [_pod(node), _pod(node)]
    pods[0].sandbox.ip("link", "set", "net1", "down")
    with node.sandbox().burst():
        pods[0].sandbox.ip("link", "set", "net1", "up")
        words = ["--matrix", "--network", node.network] if matrix else [*_names(*pods), "--no-throughput"]
        assert cli.json("test", *words)["good"] is True


def test_a_pair_whose_rate_is_limited_is_good(node: Node, cli: Cli) -> None:
    slow = {"egressRate": 200_000}
    pods = [_pod(node, bandwidth=slow), _pod(node)]
    assert cli.json("test", *_names(*pods), "--no-throughput")["good"] is True


@pytest.mark.parametrize("path", ["/usr/bin:/bin", "/var/empty"], ids=["ping", "own sockets"])
def test_a_switch_that_stands_still_for_moments_makes_no_pair_bad(
    node: Node, pair: tuple[Attachment, Attachment], path: str
) -> None:
    cli = Cli(node.host, node.openvswitch.remote, environment={"PATH": path})
    for _ in range(2):
        process = subprocess.Popen(
            cli.command("test", *_names(*pair), "--no-throughput"), env=cli.environment, stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        while process.poll() is None:
            node.openvswitch.ovs_vswitchd.freeze()
            time.sleep(0.5)
            node.openvswitch.ovs_vswitchd.thaw()
            time.sleep(0.4)
        printed, _ = process.communicate()
        assert process.returncode == 0, printed


# Broken paths


def _bad(cli: Cli, *words: str) -> tuple[str, str]:
    """The verdict and the remedy, which are the last two lines; and nothing remains."""
    done = cli.run("test", *words, check=False)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr, done.stderr
    verdict, remedy = done.stdout.rstrip().splitlines()[-2:]
    assert verdict.startswith("bad: "), done.stdout
    assert remedy.startswith("  to do: "), done.stdout
    return verdict, remedy.removeprefix("  to do: ")


def _do(node: Node, remedy: str) -> None:
    """What the remedy says, which is a command."""
    node.host.run("sh", "-c", remedy)


@pytest.mark.parametrize("kind", ["veth", pytest.param("internal", marks=pytest.mark.userspace)])
def test_different_vlans_are_told(node: Node, cli: Cli, kind: str) -> None:
    pods = [_pod(node, vlan=vlan, interface_type=kind) for vlan in (5, 6)]
    verdict, _ = _bad(cli, *_names(*pods))
    assert "VLAN" in verdict and "5" in verdict and "6" in verdict


@pytest.mark.userspace
def test_a_device_that_died_with_ovs_vswitchd_is_told_and_the_remedy_helps(private_node: Node) -> None:
    cli = Cli(private_node.host, private_node.openvswitch.remote)
    names = [private_node.sandbox().name for _ in range(2)]
    for number, name in enumerate(names):
        cli.run("attach", name, "eth1", private_node.bridge, "--type", "internal", "--ip", f"10.1.0.{number + 2}/24")
    private_node.openvswitch.ovs_vswitchd.kill()
    private_node.openvswitch.start_ovs_vswitchd()
    verdict, remedy = _bad(cli, *names)
    assert "died" in verdict or "dead" in verdict
    assert remedy == f"cni-ovs reattach {names[0]} eth1"
    cli.run("reattach", "--all")
    assert cli.json("test", *names, "--no-throughput")["good"] is True


def test_a_link_that_is_down_is_told_and_the_remedy_helps(
    node: Node, cli: Cli, pair: tuple[Attachment, Attachment]
) -> None:
    pair[1].sandbox.ip("link", "set", "net1", "down")
    verdict, remedy = _bad(cli, *_names(*pair))
    assert f"net1 of {pair[1].sandbox.name} is down" in verdict
    _do(node, remedy)
    assert cli.json("test", *_names(*pair), "--no-throughput", check=False)["reachability"][0]["received"] == 5


def test_a_host_end_that_is_down_is_told_and_the_remedy_helps(
    node: Node, cli: Cli, pair: tuple[Attachment, Attachment]
) -> None:
    name = node.port(pair[0])["name"]
    node.host.ip("link", "set", name, "down")
    verdict, remedy = _bad(cli, *_names(*pair))
    assert name in verdict and "down" in verdict
    _do(node, remedy)
    wait_for("packets pass", lambda: pair[0].sandbox.pings(pair[1].addresses[0]))


@pytest.mark.userspace
def test_transmit_checksum_offload_is_told_and_the_remedy_helps(
    node: Node, cli: Cli, pair: tuple[Attachment, Attachment]
) -> None:
    pair[0].sandbox.run("ethtool", "-K", "net1", "tx", "on")
    verdict, remedy = _bad(cli, *_names(*pair))
    assert "transmit checksum offload is on for net1" in verdict
    assert pair[0].sandbox.name in verdict
    _do(node, remedy)
    assert cli.json("test", *_names(*pair), "--no-throughput")["good"] is True


@pytest.mark.parametrize("path", ["/usr/bin:/bin", "/var/empty"], ids=["ping", "own sockets"])
def test_a_smaller_mtu_on_the_way_is_told_and_the_remedy_helps(
    node: Node, pair: tuple[Attachment, Attachment], path: str
) -> None:
    cli = Cli(node.host, node.openvswitch.remote, environment={"PATH": path})
    name = node.port(pair[1])["name"]
    node.host.ip("link", "set", name, "mtu", "1400")
    wait_for("Open vSwitch has seen it", lambda: node.openvswitch.row("Interface", name)["mtu"] == 1400)
    report = cli.json("test", *_names(*pair), "--no-throughput", check=False)
    assert "more than 1400 bytes" in report["verdict"] and name in report["verdict"]
    assert {found["largest"] for found in report["path_mtu"]} == {1400}
    _do(node, report["remedy"])
    assert cli.json("test", *_names(*pair), "--no-throughput")["good"] is True


def test_mtus_that_differ_are_a_warning(node: Node, cli: Cli, pair: tuple[Attachment, Attachment]) -> None:
    pair[0].sandbox.ip("link", "set", "net1", "mtu", "1400")
    done = cli.run("test", *_names(*pair), "--no-throughput")
    assert "MTU 1400" in done.stdout and "warning" in done.stdout


def test_different_bridges_are_told(node: Node, cli: Cli) -> None:
    pods = [_pod(node, bridge=bridge) for bridge in (node.bridge, node.add_bridge())]
    verdict, _ = _bad(cli, *_names(*pods))
    assert "different bridges" in verdict and node.bridge in verdict


def test_a_missing_address_and_a_missing_route_are_told(node: Node, cli: Cli) -> None:
    pods = [node.attached(), node.attached()]
    verdict, _ = _bad(cli, *_names(*pods))
    assert "has no address" in verdict
    for number, pod in enumerate(pods):
        pod.sandbox.ip("address", "add", f"10.3{number}.0.2/24", "dev", "net1")
    verdict, remedy = _bad(cli, *_names(*pods))
    assert f"{pods[0].sandbox.name} has no route to 10.31.0.2" in verdict
    _do(node, remedy)
    verdict, remedy = _bad(cli, *_names(*pods))
    assert f"{pods[1].sandbox.name} has no route to 10.30.0.2" in verdict
    _do(node, remedy)
    assert cli.json("test", *_names(*pods), "--no-throughput")["good"] is True


def test_arp_that_nobody_answers_is_told(node: Node, cli: Cli, pair: tuple[Attachment, Attachment]) -> None:
    for pod in pair:
        pod.sandbox.ip("-6", "address", "flush", "dev", "net1")
    switch = f"unix:{node.openvswitch.folder}/{node.bridge}.mgmt"
    node.host.run("ovs-ofctl", "add-flow", switch, "priority=9,arp,actions=drop")
    for pod in pair:
        pod.sandbox.ip("neighbour", "flush", "dev", "net1")
    verdict, _ = _bad(cli, *_names(*pair))
    assert f"nobody answers ARP for {pair[1].addresses[0]}" in verdict


def test_pings_that_are_ignored_are_told(node: Node, cli: Cli, pair: tuple[Attachment, Attachment]) -> None:
    pair[1].sandbox.sysctl("net/ipv4/icmp_echo_ignore_all", 1)
    verdict, remedy = _bad(cli, *_names(*pair), "--no-throughput")
    assert "answers ARP but no ping" in verdict
    assert "icmp_echo_ignore_all = 1" in node.host.run("sh", "-c", remedy.partition("; ")[2]).stdout


def test_one_address_twice_is_told(node: Node, cli: Cli) -> None:
    pods = [node.attached(), node.attached()]
    for pod in pods:
        pod.sandbox.ip("address", "add", "10.3.0.2/24", "dev", "net1")
    verdict, _ = _bad(cli, *_names(*pods), "--no-throughput")
    assert "have the same address 10.3.0.2" in verdict


def test_an_address_that_the_kernel_holds_for_a_duplicate_is_told(node: Node, cli: Cli) -> None:
    pods = [node.attached(ipam=node.host_local("fd00:10::/64")) for _ in range(2)]
    late = node.attached()
    node.wait_for_flows()
    late.sandbox.ip("address", "add", f"{pods[0].addresses[0]}/64", "dev", "net1")
    wait_for("it is a duplicate", lambda: late.sandbox.addresses("net1")[0].duplicate)
    verdict, _ = _bad(cli, *_names(pods[1], late), "--no-throughput")
    assert f"{pods[0].addresses[0]} of {late.sandbox.name} is a duplicate" in verdict


def test_containers_that_a_router_connects_are_good_and_a_router_that_is_down_is_told(node: Node, cli: Cli) -> None:
    router, pods = node.sandbox(), []
    router.sysctl("net/ipv4/ip_forward", 1)
    for vlan in (5, 6):
        node.attached(sandbox=router, ifname=f"net{vlan}", vlan=vlan)
        router.ip("address", "add", f"10.{vlan}.0.1/24", "dev", f"net{vlan}")
        pods.append(node.attached(vlan=vlan))
        pods[-1].sandbox.ip("address", "add", f"10.{vlan}.0.2/24", "dev", "net1")
        pods[-1].sandbox.ip("route", "add", "default", "via", f"10.{vlan}.0.1")
    assert cli.json("test", *_names(*pods), "--no-throughput")["good"] is True
    # In a table of all pairs they are apart all the same: nothing but a router connects their VLANs.
    report = cli.json("test", "--matrix", "--network", node.network)
    assert sorted(pair["state"] for pair in report["pairs"]) == ["good"] * 2 + ["isolated"] * 3 + ["same"]
    assert report["good"] is True
    router.ip("link", "set", "net6", "down")
    verdict, _ = _bad(cli, *_names(*pods), "--no-throughput")
    assert "router 10.5.0.1 is there, and no answer comes from 10.6.0.2 behind it" in verdict
    router.ip("link", "set", "net5", "down")
    pods[0].sandbox.ip("neighbour", "flush", "dev", "net1")
    verdict, remedy = _bad(cli, *_names(*pods), "--no-throughput")
    assert "nobody answers ARP for 10.5.0.1, the router to 10.6.0.2" in verdict
    traced = remedy.replace("ovs-appctl", f"ovs-appctl -t {_control(node)}")
    assert "Datapath actions:" in node.host.run("sh", "-c", traced).stdout


def _control(node: Node) -> str:
    """Where this ovs-vswitchd takes commands: not where it does on a host."""
    (path,) = node.openvswitch.folder.glob("ovs-vswitchd.*.ctl")
    return str(path)


# What is meant


def test_of_several_interfaces_that_on_the_common_network_is_meant(
    node: Node, cli: Cli, pair: tuple[Attachment, Attachment]
) -> None:
    for number, pod in enumerate(pair):
        other = node.config(name="other", bridge=node.add_bridge())
        node.attached(sandbox=pod.sandbox, ifname=f"eth{number}", ipam=node.host_local("10.50.0.0/24"), **other)
    report = cli.json("test", *_names(*pair), "--no-throughput")
    assert [report[end]["interface"] for end in ("a", "b")] == ["net1", "net1"]
    report = cli.json(
        "test", *_names(*pair), "--interface", "eth0", "--interface", "eth1", "--no-throughput", check=False
    )
    assert [report[end]["interface"] for end in ("a", "b")] == ["eth0", "eth1"]


def test_what_cannot_be_tested_is_refused_in_one_line(
    node: Node, cli: Cli, pair: tuple[Attachment, Attachment], bare: tuple[Namespace, Namespace]
) -> None:
    a, b = _names(*pair)
    assert "have the same network namespace" in cli.fails("test", a, a)
    assert "has no interface eth9" in cli.fails("test", a, b, "--interface", "eth9")
    assert "no namespace, process or running container" in cli.fails("test", a, "nowhere")
    assert "has no interface with an address" in cli.fails("test", a, node.sandbox().name)
    bare[0].ip("link", "add", "eth7", "type", "veth", "peer", "name", "eth8")
    bare[0].ip("address", "add", "10.70.0.1/24", "dev", "eth7")
    assert "has several interfaces: eth0, eth7" in cli.fails("test", bare[0].name, bare[1].name)
    for words in (("--reverse", "--both"), ("-b", "nonsense"), ("-t", "0"), ("--interface", "a") * 3):
        cli.fails("test", a, b, *words, code=2)


def test_a_port_that_is_taken_is_told(node: Node, cli: Cli, pair: tuple[Attachment, Attachment]) -> None:
    pair[1].sandbox.start("iperf3", "-s", "-p", "5998")
    wait_for("it listens", lambda: "5998" in pair[1].sandbox.run("ss", "-Hltn").stdout)
    verdict, remedy = _bad(cli, *_names(*pair), "-p", "5998", "-t", "1")
    assert "5998" in verdict and "-p" in remedy


# Nothing remains


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("what", ["ping", "iperf3"])
def test_nothing_remains_of_a_test_that_is_stopped(
    node: Node, cli: Cli, pair: tuple[Attachment, Attachment], number: signal.Signals, what: str
) -> None:
    sandboxes = [pod.sandbox for pod in pair]
    process = subprocess.Popen(
        cli.command("test", *_names(*pair), "-t", "20"), env=cli.environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wanted = 2 if what == "iperf3" else 1  # a server and a client

    def are_running() -> set[int]:
        found = _running(sandboxes, what)
        return found if len(found) >= wanted else set()

    running = wait_for(f"{what} runs", are_running)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode != 0
    assert "Traceback" not in stderr, stderr
    for pid in running:
        ends(pid, timeout=5 if number != signal.SIGKILL else 10)
    wait_for("all processes have ended", lambda: not processes_in(sandboxes))
    assert not node.strangers()


def _running(sandboxes: list[Namespace], program: str) -> set[int]:
    found = set()
    for pid in processes_in(sandboxes):
        with contextlib.suppress(OSError):  # it has just ended
            if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                found.add(pid)
    return found


def test_on_a_terminal_there_is_a_bar_which_goes_away(
    node: Node, cli: Cli, pair: tuple[Attachment, Attachment]
) -> None:
    text = in_terminal(cli, "test", *_names(*pair), "-t", "1")
    assert "━" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is seen again
    assert "━" not in text[text.rindex("good") :]

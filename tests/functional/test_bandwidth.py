"""Limits of bandwidth: what iperf3 measures, whether anybody else suffers, and what is left."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.iperf import mbits
from tests.support.node import Node
from tests.support.plugin import Attachment
from tests.support.processes import wait_for

pytestmark = pytest.mark.one_target

KINDS = ["veth", "internal"]
MEGA = 1_000_000
# Of 1,514 bytes on the wire, 1,448 are TCP's payload, which is what iperf3 counts.
PAYLOAD = 1448 / 1514
STEADY = ("--omit", "1")  # of seconds: TCP begins with more than may pass, and pauses after what it loses so


def limited(node: Node, kind: str, **bandwidth: int) -> Attachment:
    """A container that is attached with these limits."""
    return node.attached(interface_type=kind, ipam=node.host_local(), bandwidth=bandwidth)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", KINDS)
def test_a_container_sends_and_receives_as_fast_as_it_may(
    node: Node, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = node.attached(ipam=node.host_local())
    lines = []
    for rate in (10, 50, 100, 200):
        pod = limited(node, kind, ingressRate=rate * MEGA, egressRate=rate * MEGA)
        received, sent = mbits(pod, other, *STEADY, seconds=2), mbits(other, pod, *STEADY, seconds=2)
        lines.append(f"{kind}: asked {rate} Mbit/s, received {received:.1f}, sent {sent:.1f}")
        assert 0.9 * rate * PAYLOAD < received < 1.1 * rate
        assert 0.9 * rate * PAYLOAD < sent < 1.1 * rate
        pod.check().silent()
        pod.delete().silent()
    with capsys.disabled():
        print("", *lines, sep="\n")  # noqa: T201 - the figures are what the test is for
    node.assert_nothing_left(keep=[other])


def lost(sender: Attachment, receiver: Attachment) -> float:
    """Percent of 200 echo requests, a hundred a second, that are not answered."""
    said = sender.sandbox.run(
        "ping", "-q", "-i", "0.01", "-c", "200", receiver.addresses[0], check=False, timeout=30
    ).stdout
    return float(said.split("% packet loss")[0].split()[-1])


@pytest.mark.userspace
@pytest.mark.parametrize("kind", KINDS)
def test_others_lose_nothing_while_a_limited_container_is_flooded(node: Node, kind: str) -> None:
    """With a QoS row of Open vSwitch instead, two of three echo requests between the others were lost."""
    pod = limited(node, kind, ingressRate=10 * MEGA)
    flooding, one, other = (node.attached(ipam=node.host_local()) for _ in range(3))
    server = pod.sandbox.start("iperf3", "-s", "-1")
    try:
        wait_for("iperf3 listens", lambda: "5201" in pod.sandbox.run("ss", "-Hltn").stdout)
        flood = flooding.sandbox.start("iperf3", "-c", pod.addresses[0], "-u", "-b", "60M", "-t", "4", "-J")
        try:
            wait_for("packets come", lambda: received_bytes(pod) > MEGA)
            assert lost(one, other) < 2
        finally:
            flood.communicate(timeout=20)
    finally:
        server.kill()
        server.communicate(timeout=5)


def received_bytes(pod: Attachment) -> int:
    """What the interface has received."""
    (link,) = json.loads(pod.sandbox.run("ip", "-s", "-j", "link", "show", pod.ifname).stdout)
    return int(link["stats64"]["rx"]["bytes"])


def device(pod: Attachment) -> str:
    """The name of the device: that of an internal port has CNI_IFNAME as its alternative name."""
    return pod.sandbox.link(pod.ifname).name


def shaped(pod: Attachment) -> dict[str, str]:
    """What `tc` says of each token bucket filter in the container, by device."""
    lines = pod.sandbox.run("tc", "qdisc", "show").stdout.splitlines()
    return {line.split()[4]: line for line in lines if line.startswith("qdisc tbf")}


@pytest.mark.userspace
@pytest.mark.parametrize("kind", KINDS)
def test_a_burst_is_honoured_and_the_endless_one_of_runtimes_is_none(node: Node, kind: str) -> None:
    given = limited(node, kind, egressRate=10 * MEGA, egressBurst=8 * 200_000)
    endless = limited(node, kind, egressRate=10 * MEGA, egressBurst=(1 << 32) - 1)
    without = limited(node, kind, egressRate=10 * MEGA)
    assert "rate 10Mbit burst 200000b" in shaped(given)[device(given)].replace("burst 195.312Kb", "burst 200000b")
    bursts = [shaped(pod)[device(pod)].split("burst ")[1].split()[0] for pod in (endless, without)]
    assert bursts[0] == bursts[1]


@pytest.mark.userspace
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_runtime_asks_for_is_before_what_is_configured(node: Node, kind: str) -> None:
    pod = node.attachment(
        interface_type=kind,
        bandwidth={"ingressRate": 5 * MEGA, "egressRate": 5 * MEGA},
        runtimeConfig={"bandwidth": {"egressRate": 20 * MEGA}},
    )
    pod.add().ok()
    assert list(shaped(pod)) == [device(pod)]
    assert "rate 20Mbit" in shaped(pod)[device(pod)]


@pytest.mark.userspace
@pytest.mark.parametrize("kind", KINDS)
def test_check_finds_limits_that_are_gone_or_others(node: Node, kind: str) -> None:
    pod = limited(node, kind, ingressRate=10 * MEGA, egressRate=20 * MEGA)
    pod.check().silent()
    name = device(pod)
    ifb = next(other for other in shaped(pod) if other != name)
    pod.sandbox.run("tc", "qdisc", "change", "dev", name, "root", "tbf", "rate", "1gbit", "burst", "1m", "limit", "1m")
    said = pod.check().error(106)["msg"]
    assert "'egressRate'" in said and "20000000" in said and "1000000000" in said and name in said
    pod.sandbox.run("tc", "qdisc", "del", "dev", name, "root")
    assert "found no limit" in pod.check().error(106)["msg"]
    del pod.config["bandwidth"]["egressRate"]
    pod.check().silent()
    pod.sandbox.ip("link", "delete", ifb)
    assert "'ingressRate'" in pod.check().error(106)["msg"]


@pytest.mark.userspace
@pytest.mark.parametrize("kind", KINDS)
def test_del_takes_the_limits_out_of_a_container_that_lives(node: Node, kind: str) -> None:
    pod = limited(node, kind, ingressRate=10 * MEGA, egressRate=20 * MEGA)
    assert len(pod.sandbox.links()) == 3
    del pod.config["bandwidth"]  # what is recorded counts
    pod.delete().silent()
    assert set(pod.sandbox.links()) == {"lo"}
    pod.config["bandwidth"] = {"ingressRate": MEGA}
    pod.add().ok()
    assert len(shaped(pod)) == 1
    pod.gc(**{"cni.dev/valid-attachments": []}).silent()
    assert set(pod.sandbox.links()) == {"lo"}
    node.assert_nothing_left()


@pytest.mark.userspace
@pytest.mark.parametrize("kind", KINDS)
def test_an_add_that_fails_leaves_no_limits(node: Node, kind: str) -> None:
    ipam = node.scripted_ipam(ADD="sleep 0.2; exit 1")
    pod = node.attachment(
        cniVersion="1.0.0",
        interface_type=kind,
        ipam=ipam.config,
        cni_path=str(ipam.folder),
        bandwidth={"ingressRate": MEGA, "egressRate": MEGA},
    )
    pod.add().error(104)
    assert set(pod.sandbox.links()) == {"lo"}
    node.assert_nothing_left()


@pytest.mark.userspace
@pytest.mark.parametrize("kind", KINDS)
def test_an_ifb_device_that_was_left_behind_is_replaced(node: Node, kind: str) -> None:
    pod = limited(node, kind, ingressRate=10 * MEGA)
    (ifb,) = shaped(pod)
    pod.delete().silent()
    pod.sandbox.ip("link", "add", ifb, "type", "ifb")
    pod.add().ok()
    assert list(shaped(pod)) == [ifb]


def test_gc_removes_rows_of_limits_whose_port_somebody_else_has_removed(node: Node) -> None:
    kept, gone = (node.attached(ipam=node.host_local()) for _ in range(2))
    whose = node.port(gone)["external_ids"]
    stranger = {**whose, "contNetwork": "another"}
    for external_ids in (whose, node.port(kept)["external_ids"], stranger):
        for table in ("Queue", "QoS"):
            row: dict[str, Any] = {"external_ids": ["map", [[key, value] for key, value in external_ids.items()]]}
            row |= {"type": "linux-htb"} if table == "QoS" else {}
            node.openvswitch.transact({"op": "insert", "table": table, "row": row})
    node.openvswitch.vsctl("del-port", node.port(gone)["name"])
    kept.gc(**{"cni.dev/valid-attachments": [{"containerID": kept.container_id, "ifname": kept.ifname}]}).silent()
    for table in ("QoS", "Queue"):
        found = [row["external_ids"] for row in node.openvswitch.rows(table)]
        assert len(found) == 2 and whose not in found


@pytest.mark.parametrize(
    ("bandwidth", "said"),
    [
        (
            {"ingressRate": 999},
            "'ingressRate': 999: must be an integer of bits per second, 1000 to 1000000000000000, or 0 for no limit",
        ),
        ({"egressRate": 10**15 + 1}, "'egressRate'"),
        ({"egressRate": "10M"}, "'egressRate': \"10M\""),
        ({"egressRate": 1e6}, "'egressRate'"),
        ({"egressRate": True}, "'egressRate'"),
        ({"ingressBurst": 8000}, "'ingressBurst' needs 'ingressRate', which is missing"),
        ({"ingressRate": MEGA, "ingressBurst": -1}, "'ingressBurst': -1"),
        ({"ingressRate": MEGA, "unshapedSubnets": ["10.0.0.0/8"]}, "'unshapedSubnets' is not supported"),
        ([1], "must be an object with some of ingressRate, ingressBurst, egressRate, egressBurst"),
        ("fast", "must be an object"),
    ],
)
@pytest.mark.parametrize("where", ["bandwidth", "runtimeConfig"])
def test_limits_that_are_none_are_refused(node: Node, bandwidth: object, said: str, where: str) -> None:
    keys: dict[str, Any] = {where: bandwidth if where == "bandwidth" else {"bandwidth": bandwidth}}
    pod = node.attachment(**keys)
    error = pod.add().error(7)
    assert said in error["msg"]
    assert "'runtimeConfig.bandwidth'" in error["msg"] or "'bandwidth'" in error["msg"]
    node.assert_nothing_left()


@pytest.mark.parametrize("bandwidth", [{}, None, {"ingressRate": 0, "ingressBurst": 0}, {"egressRate": None}])
def test_no_limits_are_none(node: Node, bandwidth: object) -> None:
    pod = node.attached(bandwidth=bandwidth)
    assert set(pod.sandbox.links()) == {"lo", pod.ifname}
    assert "contRateLimiter" not in node.port(pod)["external_ids"]


def foreign_limits(node: Node, external_ids: dict[str, str]) -> None:
    """Somebody else's QoS and Queue rows, with these external_ids."""
    ids = ["map", [list(pair) for pair in external_ids.items()]]
    for table, more in (("QoS", {"type": "linux-htb"}), ("Queue", {})):
        node.openvswitch.transact({"op": "insert", "table": table, "row": {"external_ids": ids, **more}})


@pytest.mark.parametrize("recorded", ["ifb", "qos", "x"])
def test_a_port_whose_record_is_damaged_does_not_take_the_limits_of_others_with_it(node: Node, recorded: str) -> None:
    foreign_limits(node, {"owner": "somebody"})
    pod = node.attached()
    vsctl, name = node.openvswitch.vsctl, node.port(pod)["name"]
    vsctl("clear", "port", name, "external_ids", "--", "set", "port", name, f"external_ids:contRateLimiter={recorded}")
    pod.delete().silent()
    assert [row["external_ids"] for row in node.openvswitch.rows("QoS")] == [{"owner": "somebody"}]
    node.openvswitch.vsctl("--all", "destroy", "QoS", "--", "--all", "destroy", "Queue")


def test_gc_leaves_limits_alone_that_do_not_say_whose_they_are(node: Node) -> None:
    pod = node.attached()
    whose = node.port(pod)["external_ids"]
    foreign_limits(node, {"owner": "cni-ovs", "contNetwork": whose["contNetwork"]})
    foreign_limits(node, whose)
    kept = [{"containerID": pod.container_id, "ifname": pod.ifname}]
    pod.gc(**{"cni.dev/valid-attachments": kept}).silent()
    assert len(node.openvswitch.rows("QoS")) == len(node.openvswitch.rows("Queue")) == 2
    pod.delete().silent()


@pytest.mark.userspace
@pytest.mark.parametrize("kind", KINDS)
def test_a_container_that_gives_the_name_of_its_limiter_away_does_not_hold_up_del(node: Node, kind: str) -> None:
    pod = limited(node, kind, ingressRate=MEGA)
    (ifb,) = shaped(pod)
    pod.sandbox.ip("link", "delete", ifb)
    pod.sandbox.ip("link", "property", "add", "dev", "lo", "altname", ifb)
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.userspace
def test_what_is_recorded_removes_no_device_of_the_host(node: Node) -> None:
    pod = limited(node, "veth", ingressRate=MEGA)
    name = node.port(pod)["name"]
    node.host.ip("link", "add", f"ifb{name[3:]}", "type", "ifb")
    node.openvswitch.vsctl("set", "port", name, f"external_ids:contNetns=/run/netns/{node.host.name}")
    pod.delete().silent()
    assert f"ifb{name[3:]}" in node.host.links()
    node.host.ip("link", "delete", f"ifb{name[3:]}")


@pytest.mark.userspace
def test_the_highest_rate_is_one(node: Node) -> None:
    pod = limited(node, "veth", ingressRate=10**15, egressRate=10**15)
    pod.check().silent()
    pod.delete().silent()
    node.assert_nothing_left()


@pytest.mark.parametrize("bandwidth", [{"egressrates": MEGA}, {"ingresRate": MEGA}, [], False, 0])
def test_a_mistyped_limit_is_no_silence(node: Node, bandwidth: object) -> None:
    pod = node.attachment(bandwidth=bandwidth)
    assert "ingressRate, ingressBurst, egressRate, egressBurst" in pod.add().error(7)["msg"]

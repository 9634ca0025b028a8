"""Limits of bandwidth on the kernel's datapath: Open vSwitch limits a veth pair, and not an internal port."""

from __future__ import annotations

import pytest

from tests.support.iperf import mbits
from tests.support.node import Node

MEGA = 1_000_000
# Of 1,514 bytes on the wire, 1,448 are TCP's payload, which is what iperf3 counts.
PAYLOAD = 1448 / 1514
STEADY = ("--omit", "1")  # of seconds: TCP begins with more than may pass, and pauses after what it loses so


@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_a_container_sends_and_receives_as_fast_as_it_may(
    node: Node, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = node.attached(ipam=node.host_local())
    lines = []
    for rate in (2, 5, 10):  # an emulated processor, which other tests share, passes little more than 20
        limits = {"ingressRate": rate * MEGA, "egressRate": rate * MEGA}
        pod = node.attached(interface_type=kind, ipam=node.host_local(), bandwidth=limits)
        assert len(node.openvswitch.rows("QoS")) == len(node.openvswitch.rows("Queue")) == (kind == "veth")
        received, sent = mbits(pod, other, *STEADY, seconds=2), mbits(other, pod, *STEADY, seconds=2)
        lines.append(f"{kind}: asked {rate} Mbit/s, received {received:.1f}, sent {sent:.1f}")
        pod.check().silent()
        pod.delete().silent()
        assert 0.9 * rate * PAYLOAD < received < 1.1 * rate, lines
        assert 0.9 * rate * PAYLOAD < sent < 1.1 * rate, lines
        assert not node.openvswitch.rows("QoS") and not node.openvswitch.rows("Queue")
    with capsys.disabled():
        print("", *lines, sep="\n")  # noqa: T201 - the figures are what the test is for
    node.assert_nothing_left(keep=[other])


def test_check_finds_rows_of_limits_that_are_gone_or_others(node: Node) -> None:
    pod = node.attached(ipam=node.host_local(), bandwidth={"ingressRate": 10 * MEGA, "egressRate": 20 * MEGA})
    name, vsctl = node.port(pod)["name"], node.openvswitch.vsctl
    pod.check().silent()
    vsctl("set", "interface", name, "ingress_policing_rate=1")
    assert "'egressRate' differs: expected 20000000, found 1000 " in pod.check().error(106)["msg"]
    vsctl("set", "interface", name, "ingress_policing_rate=0")
    assert "found no limit" in pod.check().error(106)["msg"]
    vsctl("set", "interface", name, "ingress_policing_rate=20000")
    pod.check().silent()
    vsctl("clear", "port", name, "qos")
    assert "'ingressRate' differs: expected 10000000, found no limit" in pod.check().error(106)["msg"]
    pod.delete().silent()
    assert not node.openvswitch.rows("QoS") and not node.openvswitch.rows("Queue")


def test_an_add_that_fails_leaves_no_rows_of_limits(node: Node) -> None:
    ipam = node.scripted_ipam(ADD="sleep 0.5; exit 1")
    pod = node.attachment(
        cniVersion="1.0.0", ipam=ipam.config, cni_path=str(ipam.folder), bandwidth={"ingressRate": MEGA}
    )
    pod.add().error(104)
    assert not node.openvswitch.rows("QoS") and not node.openvswitch.rows("Queue")
    node.assert_nothing_left()

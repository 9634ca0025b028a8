"""A third container hears who has which address, as neighbours with an old entry must (contract point 17)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.ipam import static
from tests.support.namespace import Namespace
from tests.support.node import Node
from tests.support.processes import wait_for

pytestmark = [pytest.mark.contract(17), pytest.mark.one_target]


@contextmanager
def _listening(sandbox: Namespace, node: Node) -> Iterator[list[str]]:
    """While the body runs, tcpdump writes every ARP and neighbour packet; the lines are there after it."""
    out = node.folder / "tcpdump.out"
    with open(out, "wb") as writing:
        process = sandbox.start("tcpdump", "-Z", "root", "-i", "net1", "-l", "-n", "-e", "arp or icmp6", stdout=writing)
        try:
            wait_for("tcpdump listens", lambda: b"listening on" in out.read_bytes())
            lines: list[str] = []
            yield lines
            # What was sent until now has arrived when an own packet, sent after it over the same port, has.
            sandbox.run("ping", "-c", "1", "-W", "0.2", "10.1.0.254", check=False)
            wait_for("tcpdump has seen the end", lambda: b"who-has 10.1.0.254" in out.read_bytes())
        finally:
            process.terminate()
            process.wait(5)
    lines.extend(out.read_text().splitlines())


@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_neighbours_hear_every_ipv4_address_with_its_mac(node: Node, kind: str) -> None:
    listener = node.attached(ipam=static("10.1.0.1/24"))
    with _listening(listener.sandbox, node) as lines:
        pod = node.attached(interface_type=kind, ipam=static("10.1.0.2/24", "10.1.0.3/24"))
    mac = pod.container_interface["mac"]
    for address in ("10.1.0.2", "10.1.0.3"):
        texts = (f"who-has {address} .*tell {address}\\b", f"Announcement {address}\\b", f"Reply {address} is-at {mac}")
        pattern = rf"{mac} > ff:ff:ff:ff:ff:ff, ethertype ARP .*({'|'.join(texts)})"
        assert [line for line in lines if re.search(pattern, line)], (address, lines)


@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_neighbours_hear_every_ipv6_address_with_its_mac(node: Node, kind: str) -> None:
    listener = node.attached(ipam=static("10.1.0.1/24"))
    with _listening(listener.sandbox, node) as lines:
        pod = node.attached(interface_type=kind, ipam=static("2001:db8:1::2/64", "2001:db8:1::3/64"))
    mac = pod.container_interface["mac"]
    for address in ("2001:db8:1::2", "2001:db8:1::3"):
        pattern = rf"{mac} > 33:33:00:00:00:01, .*neighbor advertisement, tgt is {address}\b"
        assert [line for line in lines if re.search(pattern, line)], (address, lines)


@pytest.mark.parametrize("kind", ["veth", "internal"])
def test_an_old_neighbour_entry_is_renewed_without_any_traffic_of_the_new_owner(node: Node, kind: str) -> None:
    """The second container has the first one's address and another MAC, and the neighbour goes on at once."""
    neighbour = node.attached(ipam=static("10.1.0.1/24", "2001:db8:1::1/64"))
    addresses = ("10.1.0.2/24", "2001:db8:1::2/64")
    first = node.attached(interface_type=kind, ipam=static(*addresses), runtimeConfig={"mac": "02:00:00:00:00:01"})
    for address in first.addresses:
        assert neighbour.sandbox.pings(address)
    first.delete().silent()
    second = node.attached(interface_type=kind, ipam=static(*addresses), runtimeConfig={"mac": "02:00:00:00:00:02"})
    assert second.addresses == first.addresses

    def macs() -> list[str]:
        entries = [neighbour.sandbox.ip("neigh", "show", address) for address in first.addresses]
        return [mac[0] for mac in (re.findall(r"lladdr (\S+)", entry) for entry in entries) if mac]

    wait_for("the neighbour knows the new MAC", lambda: macs() == ["02:00:00:00:00:02"] * 2, timeout=2)


def test_nothing_is_announced_without_addresses_but_the_interface_is_up(node: Node) -> None:
    listener = node.attached(ipam=static("10.1.0.1/24"))
    with _listening(listener.sandbox, node) as lines:
        pod = node.attached()
    mac = pod.container_interface["mac"]
    assert not [line for line in lines if mac in line and "ethertype ARP" in line], lines
    assert pod.sandbox.link("net1").up

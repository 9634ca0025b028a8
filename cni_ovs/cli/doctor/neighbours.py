"""Gateways of a container, and whether they answer: the kernel's neighbour table, and one packet if that is allowed."""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any

from .. import kernel

# linux/neighbour.h
_INCOMPLETE, _FAILED = 0x01, 0x20
_ANSWERED = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable, stale, delay, probe, permanent
_RTN_UNICAST = 1  # linux/rtnetlink.h
_SECONDS = 2.0  # for an answer: the kernel asks each second
_PAUSE = 0.02
_ECHO, _ECHO6 = 8, 128  # ICMP (RFC 792), ICMPv6 (RFC 4443)
SILENT, ANSWERS, UNKNOWN = "silent", "answers", "unknown"


@dataclass(frozen=True)
class Gateway:
    """The next hop of some route, and the interface to it."""

    address: str
    index: int


def gateways(netns: str) -> tuple[list[Gateway], bool]:
    """The gateways of all routes in a namespace; and whether there is a default route, which may have none."""
    found: dict[Gateway, None] = {}
    has_default = False
    with kernel.connected(netns) as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            for route in netlink.get_routes(family=family):
                if route["type"] != _RTN_UNICAST:
                    continue
                has_default = has_default or route["dst_len"] == 0
                found.update((Gateway(address, index), None) for address, index in _hops(route))
    return list(found), has_default


def state(netns: str, gateway: Gateway) -> str:
    """What the kernel knows of a gateway: ANSWERS, SILENT if it was asked in vain, UNKNOWN if it was not asked."""
    number = _number(netns, gateway)
    return SILENT if number & (_FAILED | _INCOMPLETE) else ANSWERS if number & _ANSWERED else UNKNOWN


def probe(netns: str, gateway: Gateway) -> str:
    """Send one echo request, before which the kernel asks by ARP or neighbour discovery; whether that was answered."""
    _send(netns, gateway)
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        if _number(netns, gateway) & _ANSWERED:
            return ANSWERS
        time.sleep(_PAUSE)
    return SILENT


def _hops(route: Any) -> list[tuple[str, int]]:
    hops = route.get_attr("RTA_MULTIPATH") or [route]
    found = []
    for hop in hops:
        address = hop.get_attr("RTA_GATEWAY")
        index = hop["oif"] if hop is not route else route.get_attr("RTA_OIF")
        if address and index:
            found.append((address, index))
    return found


def _number(netns: str, gateway: Gateway) -> int:
    """The state of a neighbour, as the kernel has it; 0 if it knows none."""
    wanted = ipaddress.ip_address(gateway.address)
    with kernel.connected(netns) as netlink:
        for message in netlink.get_neighbours(ifindex=gateway.index):
            address = message.get_attr("NDA_DST")
            if message["ifindex"] == gateway.index and address and ipaddress.ip_address(address) == wanted:
                return int(message["state"])
    return 0


def _send(netns: str, gateway: Gateway) -> None:
    is_ipv6 = ":" in gateway.address
    family, protocol = (socket.AF_INET6, socket.IPPROTO_ICMPV6) if is_ipv6 else (socket.AF_INET, socket.IPPROTO_ICMP)
    with kernel.inside(netns):
        sending = socket.socket(family, socket.SOCK_RAW, protocol)
    with sending:
        # Type, code, checksum, identifier, number. The kernel makes the checksum of ICMPv6.
        checksum = 0 if is_ipv6 else 0xFFFF - (_ECHO << 8)
        packet = struct.pack("!BBHHH", _ECHO6 if is_ipv6 else _ECHO, 0, checksum, 0, 0)
        sending.sendto(packet, (gateway.address, 0, 0, gateway.index) if is_ipv6 else (gateway.address, 0))

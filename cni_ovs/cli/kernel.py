"""What the kernel has in a network namespace: interfaces, addresses and routes, read with pyroute2."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyroute2 import IPRoute, netns

_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
OWN = "/proc/self/ns/net"


@dataclass(frozen=True)
class Link:
    """A network interface."""

    index: int
    name: str
    mac: str | None
    mtu: int
    up: bool
    carrier: bool
    kind: str | None  # "veth", "tun", "openvswitch", …; None for hardware and lo
    altnames: tuple[str, ...] = ()
    addresses: list[str] = field(default_factory=list)  # as 10.1.0.2/24, with link-local ones

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and its alternative names."""
        return (self.name, *self.altnames)


@contextlib.contextmanager
def inside(path: str) -> Iterator[None]:
    """Let this thread work in the network namespace of a path, such as /run/netns/NAME."""
    netns.pushns(path)
    try:
        yield
    finally:
        netns.popns()


@contextlib.contextmanager
def connected(path: str = OWN) -> Iterator[IPRoute]:
    """A netlink socket of the namespace of a path. What is asked over it may come from anywhere."""
    with inside(path):
        kernel = IPRoute()
    with kernel:
        yield kernel


def links(path: str = OWN) -> list[Link]:
    """Every interface of a namespace, by index, with its addresses."""
    with connected(path) as kernel:
        messages = list(kernel.get_links())
        addresses: dict[int, list[str]] = {}
        for message in kernel.get_addr():
            text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            addresses.setdefault(message["index"], []).append(f"{text}/{message['prefixlen']}")
    found = [_link(message, addresses.get(message["index"], [])) for message in messages]
    return sorted(found, key=lambda link: link.index)


def link(name: str, path: str = OWN) -> Link | None:
    """The interface that has this name or alternative name."""
    return next((link for link in links(path) if name in link.names), None)


def identity(path: str) -> tuple[int, int]:
    """What tells one namespace from another, whatever the path; OSError if there is none."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _link(message: Any, addresses: list[str]) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    properties = message.get_attr("IFLA_PROP_LIST")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mac=message.get_attr("IFLA_ADDRESS"),
        mtu=message.get_attr("IFLA_MTU"),
        up=bool(message["flags"] & _IFF_UP),
        carrier=bool(message["flags"] & _IFF_LOWER_UP),
        kind=info.get_attr("IFLA_INFO_KIND") if info else None,
        altnames=tuple(value for key, value in (properties["attrs"] if properties else ()) if key == "IFLA_ALT_IFNAME"),
        addresses=addresses,
    )

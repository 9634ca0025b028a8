"""What the kernel has in a network namespace: interfaces, addresses and routes, read with pyroute2."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from errno import EINTR, ENODEV
from functools import partial
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute, NetlinkDumpInterrupted, NetlinkError

from cni_ovs.plugin import netns
from cni_ovs.plugin.errors import CniError
from cni_ovs.plugin.netlink import DUMP, Netlink, attributes, which_link
from cni_ovs.plugin.netns import Namespace

OWN = netns.OWN
_EVERYWHERE = {AF_INET: "0.0.0.0/0", AF_INET6: "::/0"}
_MAIN = 254
_RTN_UNICAST, _RTPROT_KERNEL, _RTPROT_RA, _RTNH_F_ONLINK = 1, 2, 9, 4  # linux/rtnetlink.h
_IPV6_PRIORITY = 1024  # the kernel gives it to routes without one
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_RTM_GETLINK, _IFLA_LINK = 18, 5  # linux/rtnetlink.h, linux/if_link.h
_IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change


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
    master: int | None = None  # the index of the bond, bridge or VRF that it belongs to
    peer: int | None = None  # of a veth, the index of its other end, in whatever namespace that is

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and its alternative names."""
        return (self.name, *self.altnames)


@contextlib.contextmanager
def inside(path: str) -> Iterator[None]:
    """Let this thread work in the network namespace of a path, such as /run/netns/NAME.

    Raises:
        OSError: there is none, it is no network namespace, or this process may not enter it.
    """
    with contextlib.ExitStack() as entered:
        try:
            namespace = Namespace(path)
            entered.callback(namespace.close)
            entered.enter_context(namespace)
        except CniError as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else OSError(str(error))
            cause.filename = path
            raise cause from None
        yield


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
        return links_over(kernel)


def links_over(kernel: IPRoute) -> list[Link]:
    """Every interface of the namespace that a socket of `connected` belongs to."""
    messages = _dump(kernel.get_links)
    addresses: dict[int, list[str]] = {}
    for message in _dump(kernel.get_addr):
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        addresses.setdefault(message["index"], []).append(f"{text}/{message['prefixlen']}")
    found = [_link(message, addresses.get(message["index"], [])) for message in messages]
    return sorted(found, key=lambda link: link.index)


def link(name: str, path: str = OWN) -> Link | None:
    """The interface that has this name or alternative name."""
    return next((link for link in links(path) if name in link.names), None)


def other_ends(netlink: Netlink) -> dict[int, int]:
    """Of each device of a namespace that has one, the index of its other end, or of what it is on top of.

    With the plugin's socket, which takes a tenth of the time: the doctor asks in each container.
    """
    found = {}
    for reply in netlink.request(_RTM_GETLINK, DUMP, which_link(0)):
        values = dict(attributes(reply[_IFINFOMSG.size :]))
        if len(values.get(_IFLA_LINK, b"")) == 4:
            found[_IFINFOMSG.unpack_from(reply)[2]] = int.from_bytes(values[_IFLA_LINK], sys.byteorder)
    return found


@dataclass(frozen=True)
class Route:
    """A route through one interface, by itself or by a gateway.

    Attributes:
        comes_by_itself: whether the kernel has made it, of an address or because a router has announced it.
        onlink: whether its gateway is taken to be on the link, though no other route says so.
    """

    destination: str  # as 10.0.0.0/8, also 0.0.0.0/0
    gateway: str | None
    index: int  # of the interface
    table: int
    scope: int
    priority: int | None
    mtu: int | None
    comes_by_itself: bool
    onlink: bool


def routes(path: str = OWN) -> list[Route]:
    """Every unicast route of a namespace, in all tables, but for those with several gateways."""
    with connected(path) as netlink:
        messages = [message for family in _EVERYWHERE for message in _dump(partial(netlink.get_routes, family=family))]
    found = [_route(message) for message in messages if message["type"] == _RTN_UNICAST]
    return [route for route in found if route is not None]


def add_onlink(route: dict[str, Any], ifname: str, path: str) -> None:
    """Add a route whose gateway is taken to be on the link, which no CNI result can say.

    Args:
        route: as in a CNI result, with `gw`.
        ifname: the interface, by its name or alternative name.
        path: of the namespace.

    Raises:
        OSError: the kernel refused, or the interface has gone.
    """
    through = link(ifname, path)
    if through is None:
        raise OSError(ENODEV, os.strerror(ENODEV))
    more = {key: route[key] for key in ("table", "scope", "priority") if key in route}
    metrics = {"metrics": {"mtu": route["mtu"]}} if "mtu" in route else {}
    with connected(path) as netlink:
        try:
            netlink.route(
                "add", dst=route["dst"], gateway=route["gw"], oif=through.index, flags=_RTNH_F_ONLINK, **more, **metrics
            )
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from error


def default_routes(path: str = OWN) -> dict[int, str]:
    """By version of IP, the default route of a namespace that has no priority of its own, as ip-route(8) has it."""
    names = {link.index: link.name for link in links(path)}
    versions = {destination: 4 if family == AF_INET else 6 for family, destination in _EVERYWHERE.items()}
    return {
        versions[route.destination]: f"via {route.gateway or 'nothing'} dev {names.get(route.index, '?')}"
        for route in routes(path)
        if route.destination in versions and route.table == _MAIN and route.priority in (None, _IPV6_PRIORITY)
    }


def identity(path: str) -> tuple[int, int]:
    """What tells one namespace from another, whatever the path; OSError if there is none."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


def is_namespace(path: str) -> bool:
    """Whether there is a namespace at a path, without opening what may be a FIFO. False also if it cannot be seen."""
    try:
        return path.startswith("/") and identity(path)[0] == identity(OWN)[0]
    except (OSError, ValueError):
        return False


def process(path: str) -> str:
    """Which process a path as /proc/PID/ns/net leads to, whoever had the number before; "" if it leads to none.

    That is the machine's boot and when the process began (proc(5), starttime).
    """
    _, proc, number, *_ = [*path.split("/"), "", "", ""]
    if proc != "proc" or not (number.isascii() and number.isdecimal()):
        return ""
    try:
        stat = Path(f"/proc/{number}/stat").read_bytes()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {int(stat.rpartition(b')')[2].split()[19])}"
    except (OSError, ValueError, LookupError):  # it has just ended
        return ""


def _dump(ask: Callable[[], Iterable[Any]]) -> list[Any]:
    """All that the kernel tells of, asked again when something has changed meanwhile."""
    for _ in range(10):
        try:
            return list(ask())
        except NetlinkDumpInterrupted:
            continue
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from error
    raise OSError(EINTR, "interfaces, addresses or routes kept changing while they were read")


def _link(message: Any, addresses: list[str]) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    properties = message.get_attr("IFLA_PROP_LIST")
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mac=message.get_attr("IFLA_ADDRESS"),
        mtu=message.get_attr("IFLA_MTU"),
        up=bool(message["flags"] & _IFF_UP),
        carrier=bool(message["flags"] & _IFF_LOWER_UP),
        kind=kind,
        altnames=tuple(value for key, value in (properties["attrs"] if properties else ()) if key == "IFLA_ALT_IFNAME"),
        addresses=addresses,
        master=message.get_attr("IFLA_MASTER"),
        peer=message.get_attr("IFLA_LINK") if kind == "veth" else None,
    )


def _route(message: Any) -> Route | None:
    index = message.get_attr("RTA_OIF")
    if index is None:
        return None
    destination = message.get_attr("RTA_DST") or _EVERYWHERE[message["family"]].partition("/")[0]
    metrics = message.get_attr("RTA_METRICS")
    return Route(
        destination=f"{destination}/{message['dst_len']}",
        gateway=message.get_attr("RTA_GATEWAY"),
        index=index,
        table=message.get_attr("RTA_TABLE") or message["table"],
        scope=message["scope"],
        priority=message.get_attr("RTA_PRIORITY"),
        mtu=metrics.get_attr("RTAX_MTU") if metrics else None,
        comes_by_itself=message["proto"] in (_RTPROT_KERNEL, _RTPROT_RA),
        onlink=bool(message["flags"] & _RTNH_F_ONLINK),
    )

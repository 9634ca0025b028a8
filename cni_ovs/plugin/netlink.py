"""rtnetlink: links, addresses and routes of one network namespace.

This speaks the kernel's protocol itself because importing pyroute2 costs ten times what an attachment costs
(docs/design.md); the tests read back with pyroute2 what was written here. Formats: rtnetlink(7), netlink(7) and
the kernel's include/uapi/linux/{netlink,rtnetlink,if_link,if_addr,veth}.h.
"""

from __future__ import annotations

import _struct
import posix
from _socket import AF_INET, AF_INET6, AF_NETLINK, AF_UNSPEC, SOCK_CLOEXEC, SOCK_RAW, socket
from errno import EBADMSG, EEXIST, EINTR, ENODEV

_NETLINK_ROUTE = 0
_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 10, 11, 12

# Message types and flags
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_SETLINK = 16, 17, 18, 19
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_RTM_NEWLINKPROP = 108
_REQUEST, _ACK, DUMP, EXCL, CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
_DUMP_INTERRUPTED, _ACK_TLVS = 0x10, 0x200
# Groups of notifications, for Netlink(watch=…)
WATCH_LINKS, WATCH_IPV6_ADDRESSES = 0x1, 0x100

# Attributes
NESTED = 0x8000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 1, 3, 4, 18, 26, 28
_IFLA_MASTER, _IFLA_EXT_MASK, _IFLA_PROP_LIST, _IFLA_ALT_IFNAME, _IFLA_PARENT_DEV_NAME = 10, 29, 52, 53, 56
IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE = 8, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_METRICS, _RTA_MULTIPATH, _RTA_TABLE = 1, 4, 5, 6, 8, 9, 15
_RTAX_MTU, _RTAX_ADVMSS = 2, 8
_NLMSGERR_ATTR_MSG = 1

_IFF_UP, _IFF_RUNNING, _IFF_PROMISC, _IFF_LOWER_UP = 0x1, 0x40, 0x100, 0x10000
_SKIP_STATS = 0x8  # RTEXT_FILTER_SKIP_STATS: the counters are most of a link message
IFA_TENTATIVE, IFA_DADFAILED = 0x40, 0x08
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
RT_TABLE_MAIN = 254
_RT_TABLE_COMPAT = 252  # rtm_table for a table above 255; the real number is in RTA_TABLE
_RTPROT_BOOT, _RTN_UNICAST = 3, 1

IFNAME_BYTES = 15

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    T = TypeVar("T")

_HEADER = _struct.Struct("=IHHII")
_LINK = _struct.Struct("=BxHiII")
_ADDRESS = _struct.Struct("=BBBBI")
_ROUTE = _struct.Struct("=BBBBBBBBI")
_NEXTHOP = _struct.Struct("=HBBi")


class KernelError(OSError):
    """The kernel refused a request: `errno`, and its own explanation in `strerror` where it gives one."""


class Link:
    """A network interface as the kernel describes it."""

    __slots__ = ("carrier", "index", "kind", "mac", "master", "mtu", "name", "parent", "running", "up")

    def __init__(
        self, index: int, name: str, mac: bytes, mtu: int, flags: int, kind: str, parent: str = "", master: int = 0
    ) -> None:
        self.index = index
        self.name = name
        self.mac = mac
        self.mtu = mtu
        self.up = bool(flags & _IFF_UP)  # as configured, whatever the carrier says
        self.carrier = bool(flags & _IFF_LOWER_UP)  # somebody is at the other end
        self.running = bool(flags & _IFF_RUNNING)  # the kernel has acted on the carrier, and passes packets on
        self.kind = kind  # "veth", "tun", "openvswitch", …; "" for hardware
        self.master = master  # index of the bond, bridge or VRF that it belongs to; 0 if to none
        self.parent = parent  # PCI address, for one; "" if there is none, and before Linux 5.14


class Address:
    """An address of an interface, with the IFA_F_ flags that tell how far duplicate address detection is."""

    __slots__ = ("flags", "packed", "prefix")

    def __init__(self, packed: bytes, prefix: int, flags: int) -> None:
        self.packed = packed
        self.prefix = prefix
        self.flags = flags


class Route:
    """A route through one interface, to be added, or as found.

    Attributes:
        dst, prefix: destination; four or sixteen bytes.
        gateways: none for a directly connected network; several make a multipath route.
        mtu, advmss, priority: None leaves it to the kernel.
    """

    __slots__ = ("advmss", "dst", "gateways", "mtu", "prefix", "priority", "scope", "table")

    def __init__(
        self,
        dst: bytes,
        prefix: int,
        gateways: list[bytes],
        *,
        mtu: int | None = None,
        advmss: int | None = None,
        priority: int | None = None,
        table: int = RT_TABLE_MAIN,
        scope: int = RT_SCOPE_UNIVERSE,
    ) -> None:
        self.dst = dst
        self.prefix = prefix
        self.gateways = gateways
        self.mtu = mtu
        self.advmss = advmss
        self.priority = priority
        self.table = table
        self.scope = scope


# What tc.py needs too


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute, padded (netlink(7))."""
    length = 4 + len(value)
    return _struct.pack("=HH", length, kind) + value + b"\0" * (-length % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that is a text."""
    return attribute(kind, value.encode(errors="surrogateescape") + b"\0")


def u32(kind: int, value: int) -> bytes:
    """An attribute that is a number of 32 bits."""
    return attribute(kind, _struct.pack("=I", value))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in a message: what kind, and the value."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = _struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def which_link(interface: str | int, flags: int = 0) -> bytes:
    """What begins a request about an interface of this name, alternative name or index; `flags` are to be set."""
    if isinstance(interface, int):
        return _LINK.pack(AF_UNSPEC, 0, interface, flags, flags)
    # IFLA_IFNAME finds alternative names too, but refuses anything longer than 15 bytes.
    return _LINK.pack(AF_UNSPEC, 0, 0, flags, flags) + text(_IFLA_IFNAME, interface)


class Netlink:
    """A socket to the kernel's network configuration.

    It belongs to the namespace in which it was created. All methods raise KernelError when the kernel refuses.

    Args:
        watch: WATCH_… groups of notifications to deliver as well, to be waited for with `fileno`.

    Attributes:
        observer: of the class; told of every request before it is sent: file descriptor of the socket, kind, flags and
            payload. `cni-ovs explain` sets it.
    """

    observer: Callable[[int, int, int, bytes], None] | None = None

    def __init__(self, watch: int = 0) -> None:
        self._socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._sequence = 0
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:
                pass  # an older kernel: plainer errors, and dumps that are filtered here instead of there
        self._socket.bind((0, watch))

    def fileno(self) -> int:
        """The file descriptor, for Deadline.wait."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Read one batch of notifications and forget it: that there was one is all that counts."""
        try:
            self._socket.recv(65536)
        except OSError:
            pass  # ENOBUFS: there were more than fit, which says the same

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    # Links

    def link(self, which: str | int) -> Link | None:
        """The interface of this name, alternative name or index; None if there is none."""
        try:
            replies = self.request(_RTM_GETLINK, 0, which_link(which) + u32(_IFLA_EXT_MASK, _SKIP_STATS))
        except KernelError as error:
            if error.errno == ENODEV:
                return None
            raise
        return understood(_parse_link, replies[0] if replies else b"")

    def links(self) -> list[Link]:
        """Every interface of the namespace."""
        replies = self.request(_RTM_GETLINK, DUMP, which_link(0) + u32(_IFLA_EXT_MASK, _SKIP_STATS))
        return [understood(_parse_link, reply) for reply in replies]

    def create_veth(
        self, name: str, peer: str, peer_netns: int, mtu: int | None, peer_mac: bytes | None, *, up: bool = True
    ) -> None:
        """Create a veth pair, this end promiscuous and perhaps up, the peer directly in another namespace.

        Moving it there afterwards would wait for an RCU grace period, which takes seconds on a busy node. (The peer
        cannot be created up: the kernel says ENOTCONN.)

        Args:
            name: of the end in this namespace.
            peer: name of the end in the namespace `peer_netns` (a file descriptor).
            mtu: of both ends; None: the kernel's default.
            peer_mac: Ethernet address of the peer; None: a random one.

        Raises:
            KernelError: EEXIST when either name is taken.
        """
        common = b"" if mtu is None else u32(_IFLA_MTU, mtu)
        other = which_link(peer) + u32(_IFLA_NET_NS_FD, peer_netns) + common
        if peer_mac is not None:
            other += attribute(_IFLA_ADDRESS, peer_mac)
        info = attribute(IFLA_INFO_KIND, b"veth") + attribute(
            _IFLA_INFO_DATA | NESTED, attribute(_VETH_INFO_PEER | NESTED, other)
        )
        payload = which_link(name, _IFF_PROMISC | (_IFF_UP if up else 0)) + common
        self.request(RTM_NEWLINK, CREATE | EXCL, payload + attribute(IFLA_LINKINFO | NESTED, info))

    def delete_link(self, name: str) -> bool:
        """Delete an interface. False if there is none of that name."""
        try:
            self.request(_RTM_DELLINK, 0, which_link(name))
        except KernelError as error:
            if error.errno == ENODEV:
                return False
            raise
        return True

    def no_ipv6_address(self, name: str) -> None:
        """Let the kernel give this interface no IPv6 address of its own (`ip link set … addrgenmode none`)."""
        mode = attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes((_ADDR_GEN_MODE_NONE,)))
        spec = attribute(_IFLA_AF_SPEC | NESTED, attribute(AF_INET6 | NESTED, mode))
        self.request(_RTM_SETLINK, 0, which_link(name) + spec)

    def set_up(self, which: str | int, *, promiscuous: bool = False) -> None:
        """`ip link set … up`, by name or index; with `promisc on`, if so."""
        self.request(_RTM_SETLINK, 0, which_link(which, _IFF_UP | _IFF_PROMISC if promiscuous else _IFF_UP))

    def set_down(self, index: int) -> None:
        """`ip link set … down`."""
        self.request(_RTM_SETLINK, 0, _LINK.pack(AF_UNSPEC, 0, index, 0, _IFF_UP))

    def set_mtu(self, index: int, mtu: int) -> None:
        """`ip link set … mtu …`."""
        self.request(_RTM_SETLINK, 0, which_link(index) + u32(_IFLA_MTU, mtu))

    def set_mac(self, index: int, mac: bytes) -> None:
        """`ip link set … address …`. Even an unchanged address makes the kernel announce the interface (arp_notify)."""
        self.request(_RTM_SETLINK, 0, which_link(index) + attribute(_IFLA_ADDRESS, mac))

    def move(self, index: int, netns: int, name: str | None = None) -> None:
        """Move an interface to the namespace of a file descriptor, with its name or another one.

        With another one it is there under that from the beginning, as far as others can see, and down. It may have been
        moved although the kernel refuses (EEXIST): a name that is taken there is found out last.
        """
        renamed = b"" if name is None else text(_IFLA_IFNAME, name)
        self.request(_RTM_SETLINK, 0, which_link(index) + u32(_IFLA_NET_NS_FD, netns) + renamed)

    def rename(self, index: int, name: str) -> None:
        """`ip link set … name …`; the interface must be down (before Linux 6.2)."""
        self.request(_RTM_SETLINK, 0, which_link(index) + text(_IFLA_IFNAME, name))

    def add_altname(self, index: int, name: str) -> None:
        """`ip link property add … altname …` (Linux 5.5 and newer)."""
        names = attribute(_IFLA_PROP_LIST | NESTED, text(_IFLA_ALT_IFNAME, name))
        self.request(_RTM_NEWLINKPROP, CREATE | EXCL, which_link(index) + names)

    # Addresses

    def add_address(self, index: int, family: int, packed: bytes, prefix: int) -> None:
        """`ip address add …`."""
        payload = _ADDRESS.pack(family, prefix, 0, RT_SCOPE_UNIVERSE, index)
        payload += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
        if family == AF_INET and prefix < 31:
            hosts = (1 << 32 - prefix) - 1
            payload += attribute(_IFA_BROADCAST, (int.from_bytes(packed, "big") | hosts).to_bytes(4, "big"))
        self.request(_RTM_NEWADDR, CREATE | EXCL, payload)

    def addresses(self, index: int, family: int = AF_UNSPEC) -> list[Address]:
        """The addresses of an interface."""
        found = []
        for reply in self.request(_RTM_GETADDR, DUMP, _ADDRESS.pack(family, 0, 0, 0, index)):
            owner, address = understood(_parse_address, reply)
            if owner == index and len(address.packed) in (4, 16):  # there are other families
                found.append(address)
        return found

    # Routes

    def add_route(self, index: int, family: int, route: Route) -> None:
        """`ip route add … dev …`; a route that is there already stays as it is."""
        table = route.table if route.table < 256 else _RT_TABLE_COMPAT
        payload = _ROUTE.pack(family, route.prefix, 0, 0, table, _RTPROT_BOOT, route.scope, _RTN_UNICAST, 0)
        if route.prefix:
            payload += attribute(_RTA_DST, route.dst)
        payload += u32(_RTA_TABLE, route.table)
        if len(route.gateways) > 1:
            hops = b""
            for gateway in route.gateways:
                via = attribute(_RTA_GATEWAY, gateway)
                hops += _NEXTHOP.pack(_NEXTHOP.size + len(via), 0, 0, index) + via
            payload += attribute(_RTA_MULTIPATH, hops)
        else:
            payload += u32(_RTA_OIF, index)
            if route.gateways:
                payload += attribute(_RTA_GATEWAY, route.gateways[0])
        if route.priority is not None:
            payload += u32(_RTA_PRIORITY, route.priority)
        metrics = b"" if route.mtu is None else u32(_RTAX_MTU, route.mtu)
        if route.advmss is not None:
            metrics += u32(_RTAX_ADVMSS, route.advmss)
        if metrics:
            payload += attribute(_RTA_METRICS | NESTED, metrics)
        try:
            self.request(_RTM_NEWROUTE, CREATE | EXCL, payload)
        except KernelError as error:
            # IPAM configurations name the connected network as a route too; the reference plugins let that pass.
            if error.errno != EEXIST:
                raise

    def routes(self, family: int) -> list[Route]:
        """Every unicast route of the namespace, in all tables."""
        found = []
        for reply in self.request(_RTM_GETROUTE, DUMP, _ROUTE.pack(family, *[0] * 8)):
            route = understood(_parse_route, reply)
            if route is not None:
                found.append(route)
        return found

    def request(self, kind: int, flags: int, payload: bytes) -> list[bytes]:
        """Send one request; the payloads of the replies, without their headers.

        Args:
            kind: RTM_….
            flags: NLM_F_…, besides those that every request has.
            payload: the family's header, and attributes.

        Raises:
            KernelError: the kernel refuses, or sent what cannot be understood.
        """
        dump = flags & DUMP == DUMP
        flags |= _REQUEST if dump or kind == _RTM_GETLINK else _REQUEST | _ACK
        if Netlink.observer is not None:
            Netlink.observer(self._socket.fileno(), kind, flags, payload)
        for _ in range(10):
            self._sequence += 1
            self._socket.send(_HEADER.pack(_HEADER.size + len(payload), kind, flags, self._sequence, 0) + payload)
            replies, interrupted = self._replies(dump)
            if not interrupted:
                return replies
        raise KernelError(EINTR, "the interfaces kept changing while they were read")

    def _replies(self, dump: bool) -> tuple[list[bytes], bool]:
        """The answer to the last request, and whether it was a dump during which something changed."""
        found: list[bytes] = []
        interrupted = False
        while True:
            # No wait without a bound: the kernel has queued its answer before `send` returned.
            data = self._socket.recv(65536)
            if len(data) < _HEADER.size:
                raise KernelError(EBADMSG, "the kernel sent less than a message")
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
                if length < _HEADER.size:
                    raise KernelError(EBADMSG, "the kernel sent a message without a length")
                body = data[offset + _HEADER.size : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    continue  # a notification, or the rest of an abandoned dump
                interrupted |= bool(flags & _DUMP_INTERRUPTED)
                if kind == _NLMSG_ERROR:
                    refusal = understood(_parse_extended_error if flags & _ACK_TLVS else _parse_error, body)
                    if refusal is not None:
                        raise refusal
                    return found, False
                if kind == _NLMSG_DONE:
                    return found, interrupted
                found.append(body)
                if not dump:
                    return found, False


def understood(parse: Callable[[bytes], T], body: bytes) -> T:
    """What a message says. One that is damaged is the kernel's error, not ours."""
    try:
        return parse(body)
    except (LookupError, ValueError, OverflowError, _struct.error) as error:  # type: ignore[attr-defined] # typeshed
        raise KernelError(EBADMSG, "the kernel sent a message that cannot be understood") from error


def _parse_error(body: bytes, explanation: str = "") -> KernelError | None:
    (code,) = _struct.unpack_from("=i", body)
    if code == 0:
        return None
    reason = posix.strerror(-code)
    return KernelError(-code, f"{reason} ({explanation})" if explanation else reason)


def _parse_extended_error(body: bytes) -> KernelError | None:
    said = dict(attributes(body[20:])).get(_NLMSGERR_ATTR_MSG, b"")
    return _parse_error(body, said.rstrip(b"\0").decode(errors="replace"))


def _parse_address(body: bytes) -> tuple[int, Address]:
    """The index of an interface, and an address that it has."""
    _, prefix, flags, _, owner = _ADDRESS.unpack_from(body)
    values = dict(attributes(body[_ADDRESS.size :]))
    if _IFA_FLAGS in values:
        (flags,) = _struct.unpack("=I", values[_IFA_FLAGS])
    return owner, Address(values.get(_IFA_LOCAL) or values[_IFA_ADDRESS], prefix, flags)


def _parse_route(body: bytes) -> Route | None:
    """A route; None if it is no unicast one."""
    family, prefix, _, _, table, _, scope, kind, _ = _ROUTE.unpack_from(body)
    if kind != _RTN_UNICAST:
        return None
    values = dict(attributes(body[_ROUTE.size :]))
    if _RTA_TABLE in values:
        (table,) = _struct.unpack("=I", values[_RTA_TABLE])
    gateways = [values[_RTA_GATEWAY]] if _RTA_GATEWAY in values else _nexthops(values.get(_RTA_MULTIPATH, b""))
    dst = values.get(_RTA_DST, bytes(16 if family == AF_INET6 else 4))
    return Route(dst, prefix, gateways, table=table, scope=scope)


def _parse_link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    if index < 1:
        raise ValueError(index)
    values = dict(attributes(body[_LINK.size :]))
    kind = dict(attributes(values.get(IFLA_LINKINFO, b""))).get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode()
    name = values[_IFLA_IFNAME].rstrip(b"\0").decode(errors="surrogateescape")
    (mtu,) = _struct.unpack("=I", values[_IFLA_MTU])
    parent = values.get(_IFLA_PARENT_DEV_NAME, b"").rstrip(b"\0").decode(errors="replace")
    (master,) = _struct.unpack("=I", values.get(_IFLA_MASTER, bytes(4)))
    return Link(index, name, values.get(_IFLA_ADDRESS, b""), mtu, flags, kind, parent, master)


def _nexthops(data: bytes) -> list[bytes]:
    gateways = []
    offset = 0
    while offset + _NEXTHOP.size <= len(data):
        length = _NEXTHOP.unpack_from(data, offset)[0]
        if length < _NEXTHOP.size:
            break
        via = dict(attributes(data[offset + _NEXTHOP.size : offset + length])).get(_RTA_GATEWAY)
        if via is not None:
            gateways.append(via)
        offset += (length + 3) & ~3
    return gateways

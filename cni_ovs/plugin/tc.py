"""Traffic control of network devices: queueing disciplines and filters, over rtnetlink.

Formats: tc(8), tc-tbf(8), tc-u32(8), tc-mirred(8), and the kernel's include/uapi/linux/{rtnetlink,pkt_sched,pkt_cls}.h
and tc_act/tc_mirred.h.
"""

from __future__ import annotations

import _struct
from _socket import AF_UNSPEC

from .netlink import (
    CREATE,
    DUMP,
    EXCL,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    NESTED,
    RTM_NEWLINK,
    attribute,
    attributes,
    text,
    u32,
    understood,
    which_link,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .netlink import Netlink

_RTM_NEWQDISC, _RTM_GETQDISC, _RTM_NEWTFILTER = 36, 38, 44
_TCA_KIND, _TCA_OPTIONS = 1, 2
_ROOT, _INGRESS, _INGRESS_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
_TCA_TBF_PARMS, _TCA_TBF_RATE64, _TCA_TBF_BURST = 1, 4, 6
_TCA_U32_SEL, _TCA_U32_ACT, _TC_U32_TERMINAL = 5, 7, 1
_TCA_ACT_KIND, _TCA_ACT_OPTIONS, _TC_ACT_STOLEN = 1, 2, 4
_TCA_MIRRED_PARMS, _TCA_EGRESS_REDIR = 2, 1
_FIRST_PRIORITY = 1 << 16
_ALL_PROTOCOLS = 0x0300  # ETH_P_ALL in network byte order
_LINKLAYER_ETHERNET = 1
_MOST_U32 = (1 << 32) - 1

_MESSAGE = _struct.Struct("=BxxxiIII")  # struct tcmsg
_RATE = _struct.Struct("=BBHhHI")  # struct tc_ratespec
_KEY = _struct.Struct("=IIii")  # struct tc_u32_key


def create_ifb(netlink: Netlink, name: str) -> None:
    """`ip link add … type ifb`, up: a device that passes on what is redirected to it, through its own queue.

    Raises:
        KernelError: EEXIST when there is one of that name.
    """
    info = attribute(IFLA_LINKINFO | NESTED, attribute(IFLA_INFO_KIND, b"ifb"))
    netlink.request(RTM_NEWLINK, CREATE | EXCL, which_link(name) + info)
    netlink.set_up(name)


def shape(netlink: Netlink, index: int, rate: int, burst: int, queue: int) -> None:
    """Let a device send no faster: `tc qdisc add dev … root tbf rate … burst … limit …`.

    Args:
        netlink, index: the device.
        rate: bytes per second.
        burst: bytes that may be sent at once after a pause.
        queue: bytes that may wait; what is beyond is dropped.
    """
    burst, queue = min(burst, _MOST_U32), min(queue, _MOST_U32)
    parameters = _rate(rate) + _rate(0) + _struct.pack("=III", queue, 0, 0)
    options = attribute(_TCA_TBF_PARMS, parameters)
    options += attribute(_TCA_TBF_RATE64, _struct.pack("=Q", rate)) + u32(_TCA_TBF_BURST, burst)
    _add_qdisc(netlink, index, "tbf", _ROOT, 0, attribute(_TCA_OPTIONS | NESTED, options))


def redirect_received(netlink: Netlink, index: int, to: int) -> None:
    """Let everything that a device receives pass through another one's queue first.

    As `tc qdisc add dev … ingress` and `tc filter add … u32 match u32 0 0 action mirred egress redirect dev …`.
    """
    _add_qdisc(netlink, index, "ingress", _INGRESS, _INGRESS_HANDLE)
    redirect = _struct.pack("=IIiiiiI", 0, 0, _TC_ACT_STOLEN, 0, 0, _TCA_EGRESS_REDIR, to)
    action = text(_TCA_ACT_KIND, "mirred")
    action += attribute(_TCA_ACT_OPTIONS | NESTED, attribute(_TCA_MIRRED_PARMS, redirect))
    everything = _struct.pack("=BBBxHHhhI", _TC_U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + _KEY.pack(0, 0, 0, 0)
    options = attribute(_TCA_U32_SEL, everything) + attribute(_TCA_U32_ACT | NESTED, attribute(1 | NESTED, action))
    payload = _MESSAGE.pack(AF_UNSPEC, index, 0, _INGRESS_HANDLE, _FIRST_PRIORITY | _ALL_PROTOCOLS)
    payload += text(_TCA_KIND, "u32") + attribute(_TCA_OPTIONS | NESTED, options)
    netlink.request(_RTM_NEWTFILTER, CREATE | EXCL, payload)


def shaped_rate(netlink: Netlink, index: int) -> int | None:
    """The rate of `shape` that a device has, in bytes per second; None if it has none."""
    return _root(netlink, index)[1]


def root_kind(netlink: Netlink, index: int) -> str | None:
    """The kind of queueing discipline through which a device sends ("htb"); None if there is no such device."""
    return _root(netlink, index)[0]


def _root(netlink: Netlink, index: int) -> tuple[str | None, int | None]:
    for reply in netlink.request(_RTM_GETQDISC, DUMP, _MESSAGE.pack(AF_UNSPEC, index, 0, 0, 0)):
        owner, parent, kind, rate = understood(_parse_qdisc, reply)
        if owner == index and parent == _ROOT:
            return kind, rate
    return None, None


def _add_qdisc(netlink: Netlink, index: int, kind: str, parent: int, handle: int, options: bytes = b"") -> None:
    payload = _MESSAGE.pack(AF_UNSPEC, index, handle, parent, 0) + text(_TCA_KIND, kind) + options
    netlink.request(_RTM_NEWQDISC, CREATE | EXCL, payload)


def _rate(rate: int) -> bytes:
    # What does not fit is in the attribute of 64 bits.
    return _RATE.pack(0, _LINKLAYER_ETHERNET, 0, 0, 0, min(rate, _MOST_U32))


def _parse_qdisc(body: bytes) -> tuple[int, int, str, int | None]:
    """The index of the device, the parent, the kind, and the rate if it is a token bucket filter."""
    _, owner, _, parent, _ = _MESSAGE.unpack_from(body)
    values = dict(attributes(body[_MESSAGE.size :]))
    kind = values[_TCA_KIND].rstrip(b"\0").decode()
    if kind != "tbf":
        return owner, parent, kind, None
    options = dict(attributes(values[_TCA_OPTIONS]))
    if _TCA_TBF_RATE64 in options:
        return owner, parent, kind, int(_struct.unpack("=Q", options[_TCA_TBF_RATE64])[0])
    return owner, parent, kind, int(_RATE.unpack_from(options[_TCA_TBF_PARMS])[-1])

"""Taking back what many pings leave in the kernel: one neighbour more for each pair of containers, at both ends.

All namespaces of a machine share one table of neighbours, of 1024 by default (gc_thresh3 in arp(7)). With thirty-three
containers each of which has pinged all others it is full, and for some seconds nobody on the machine finds a new
neighbour.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable

from cni_ovs.plugin.inet import parse_ip
from cni_ovs.plugin.netlink import DUMP, Netlink, attribute, attributes

from .. import kernel
from .ends import End

_RTM_DELNEIGH, _RTM_GETNEIGH = 29, 30  # linux/rtnetlink.h
_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg of linux/neighbour.h: family, interface, state, flags, type
_NDA_DST = 1


class Neighbours:
    """The tables of the namespaces of some ends, as they are now.

    Args:
        ends: which.
    """

    def __init__(self, ends: Iterable[End]) -> None:
        self._sockets: dict[str, Netlink] = {}
        self._known: set[tuple[str, int, bytes]] = set()  # path of the namespace, interface, address
        for netns in dict.fromkeys(end.netns for end in ends):
            with contextlib.suppress(OSError):  # it has just gone
                with kernel.inside(netns):
                    socket = Netlink()
                self._sockets[netns] = socket
                for message in socket.request(_RTM_GETNEIGH, DUMP, _NEIGHBOUR.pack(0, 0, 0, 0, 0)):
                    address = dict(attributes(message[_NEIGHBOUR.size :])).get(_NDA_DST, b"")
                    self._known.add((netns, _NEIGHBOUR.unpack_from(message)[1], address))

    def forget(self, end: End, address: str) -> None:
        """Remove a neighbour of an end, unless it was there before."""
        family, packed = parse_ip(address)
        if end.netns not in self._sockets or (end.netns, end.link.index, packed) in self._known:
            return
        message = _NEIGHBOUR.pack(family, end.link.index, 0, 0, 0) + attribute(_NDA_DST, packed)
        with contextlib.suppress(OSError):  # it is behind a router, or has gone
            self._sockets[end.netns].request(_RTM_DELNEIGH, 0, message)

    def close(self) -> None:
        """Close the sockets."""
        for socket in self._sockets.values():
            socket.close()

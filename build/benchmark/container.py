"""Containers as the benchmark needs them: one that gets an address within no time and pings, one that answers."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import select
import socket
import struct
import time
from dataclasses import dataclass

from pyroute2 import netns

from tests.support.namespace import Namespace

IFNAME = "eth0"
EVERY = 0.01  # seconds between two echo requests
PATIENCE = 5.0  # seconds after the first echo request
GRACE = 0.5  # seconds after the first answer, for that to the first request

_SIOCGIFINDEX = 0x8933  # linux/sockios.h
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_RTM_NEWADDR = 20  # linux/rtnetlink.h
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_CREATE = 1, 4, 0x400
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_ETH_P_ALL, _ETH_P_ARP = 3, 0x0806  # linux/if_ether.h
_ARP_REQUEST = b"\0\1"


@dataclass(frozen=True)
class Answer:
    """The first answer to a ping: when it came (time.perf_counter), and how long after the first request.

    And whether the first request was answered too, if only a little later: while the kernel knows no MAC address it
    keeps the requests, and then a new one may go before those.
    """

    at: float
    waited: float
    to_first: bool


class Container:
    """A container's namespace with sockets inside it that are opened beforehand, so that nothing has to be started."""

    def __init__(self) -> None:
        """Makes the namespace and the sockets."""
        self.namespace = Namespace()
        netns.pushns(self.namespace.name)
        try:
            self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            self._icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        finally:
            netns.popns()
        self._icmp.setblocking(False)
        self._netlink.settimeout(5)
        self._ident = 0
        self._watch: socket.socket | None = None

    def delete(self) -> None:
        """Takes everything away."""
        if self._watch:
            self._watch.close()
        self._netlink.close()
        self._icmp.close()
        self.namespace.delete()

    @property
    def has_interface(self) -> bool:
        """Whether the interface that a plugin should make is there."""
        try:
            self._index()
        except OSError:
            return False
        return True

    def give_address(self, address: str) -> None:
        """Gives the interface an address (10.1.0.2/24) and sets it up, in a fraction of a millisecond."""
        name = IFNAME.encode()
        flags = struct.unpack("16xh", fcntl.ioctl(self._icmp, _SIOCGIFFLAGS, struct.pack("16sh14x", name, 0))[:18])[0]
        if not flags & _IFF_UP:
            fcntl.ioctl(self._icmp, _SIOCSIFFLAGS, struct.pack("16sh14x", name, flags | _IFF_UP))
        wanted = ipaddress.ip_interface(address)
        body = struct.pack("BBBBi", socket.AF_INET, wanted.network.prefixlen, 0, 0, self._index())
        for kind in (_IFA_LOCAL, _IFA_ADDRESS):
            body += struct.pack("HH", 8, kind) + wanted.ip.packed
        flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE
        self._netlink.send(struct.pack("IHHII", 16 + len(body), _RTM_NEWADDR, flags, 1, 0) + body)
        error = struct.unpack("16xi", self._netlink.recv(4096)[:20])[0]
        if error:
            raise OSError(-error, f"no address {address}: {os.strerror(-error)}")

    def questions(self, address: str) -> int:
        """How often the kernel here has asked for this address since the last call; the first call says 0."""
        if self._watch:
            return _questions(self._watch, address)
        self._watch = _packets(self.namespace, _ETH_P_ALL)  # only this one sees what goes out
        return 0

    def first_answer(self, address: str) -> Answer | None:
        """Sends echo requests until one is answered; None when none is.

        They go through an ordinary socket, as those of `ping` do: it is the kernel that asks for the MAC address.
        """
        self._ident = self._ident % 0xFFFF + 1  # answers to an earlier call do not count
        poll = select.poll()
        poll.register(self._icmp, select.POLLIN)
        first = time.perf_counter()
        sent = 0
        while (now := time.perf_counter()) < first + PATIENCE:
            if now >= first + sent * EVERY:
                self._send(address, sent)
                sent += 1
            poll.poll(max(0.0, first + sent * EVERY - time.perf_counter()) * 1000)
            sequence = self._answered()
            if sequence is not None:
                at = time.perf_counter()
                return Answer(at, at - first, sequence == 0 or self._answers_first(poll))
        return None

    def _answers_first(self, poll: select.poll) -> bool:
        """Whether the first request is answered within a grace period; nothing more is sent in it."""
        end = time.perf_counter() + GRACE
        while (left := end - time.perf_counter()) > 0:
            poll.poll(left * 1000)
            while (sequence := self._answered()) is not None:
                if sequence == 0:
                    return True
        return False

    def _index(self) -> int:
        answer = fcntl.ioctl(self._icmp, _SIOCGIFINDEX, struct.pack("16si20x", IFNAME.encode(), 0))
        index: int = struct.unpack("16xi", answer[:20])[0]
        return index

    def _send(self, address: str, sequence: int) -> None:
        packet = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, self._ident, sequence) + bytes(48)
        total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
        total = (total >> 16) + (total & 0xFFFF)
        checksum = ~(total + (total >> 16)) & 0xFFFF
        try:
            self._icmp.sendto(packet[:2] + struct.pack("!H", checksum) + packet[4:], (address, 0))
        except OSError:  # the kernel has given up to ask for the MAC address; it will ask anew
            return

    def _answered(self) -> int | None:
        """The sequence number of an answer that has come, or None."""
        while True:
            try:
                packet = self._icmp.recv(2048)
            except BlockingIOError:
                return None
            except OSError:  # as in _send
                continue
            kind, _, _, ident, sequence = struct.unpack_from("!BBHHH", packet, (packet[0] & 15) * 4)
            if kind == _ECHO_REPLY and ident == self._ident:
                number: int = sequence
                return number


class Responder:
    """A container that is there already, and answers pings."""

    def __init__(self) -> None:
        """Makes the namespace, and the socket that sees who asks for its MAC address."""
        self.namespace = Namespace("responder")
        self._watch = _packets(self.namespace, _ETH_P_ARP)

    def delete(self) -> None:
        """Takes everything away."""
        self._watch.close()
        self.namespace.delete()

    def questions(self, address: str) -> int:
        """How many ARP requests for this address have come in since the last call."""
        return _questions(self._watch, address)


def _packets(namespace: Namespace, protocol: int) -> socket.socket:
    """A socket that gets a copy of every packet of this protocol in the namespace."""
    netns.pushns(namespace.name)
    try:
        packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(protocol))
    finally:
        netns.popns()
    packets.setblocking(False)
    return packets


def _questions(packets: socket.socket, address: str) -> int:
    """Counts the ARP requests for this address among what a socket has got."""
    wanted, count = socket.inet_aton(address), 0
    while True:
        try:
            packet, (_, protocol, *_) = packets.recvfrom(2048)
        except BlockingIOError:
            return count
        operation, target = packet[6:8], packet[24:28]
        count += protocol == _ETH_P_ARP and operation == _ARP_REQUEST and target == wanted

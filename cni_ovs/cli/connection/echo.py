"""ICMP echo by sockets of our own, many at once: for round trips, and for packets of any size that may not be split.

Forms: RFC 792 and RFC 4443; socket options of ip(7), ipv6(7), raw(7).
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .. import kernel
from .programs import Tick

_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_TOKEN_BYTES = 8
_ICMP6_FILTER = 1  # linux/icmpv6.h
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _IPV6_DONTFRAG = 10, 23, 62  # linux/in.h, in6.h
_PMTUDISC_PROBE = 3  # may not be split, and what the kernel believes of the path does not matter
_SMALLEST = {4: 28 + _TOKEN_BYTES, 6: 48 + _TOKEN_BYTES}  # whole packets
USUAL = {4: 84, 6: 104}  # what ping(8) sends
_WAIT_MS = 5  # at most, to see what is due
_READS = 256  # at once; a busy container must not keep us
_SOON = 0.1  # seconds: when an answer is late
_MOST = 128  # probes that are waited for at once; each is a neighbour in a table of the machine's, see neighbours.py


class Echo:
    """A raw socket at one address of one interface.

    Args:
        netns: path of the namespace.
        address: of the interface.
        device: the interface's name.
        hops: over how many routers and to the destination requests may go; 0 for the usual.

    Raises:
        OSError: the address or the interface is not there (any more), or may not be used yet.
    """

    def __init__(self, netns: str, address: str, device: str, *, hops: int = 0) -> None:
        self.version = 6 if ":" in address else 4
        self.waiting: dict[int, tuple[Probe, float]] = {}  # by sequence: whose it is, and when it was sent
        self.told_too_big = False  # somebody on the way has said so
        self._request, self._answer, self._too_big = (8, 0, (3, 4)) if self.version == 4 else (128, 129, (2, 0))
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._token = os.urandom(_TOKEN_BYTES)  # others may have the same identifier
        self._sequence = 0
        family, protocol = (
            (socket.AF_INET, socket.IPPROTO_ICMP) if self.version == 4 else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
        )
        with kernel.inside(netns):
            self._socket = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
            self._socket.bind((address, 0))
            self._forbid_fragments()
            if hops:
                option = (socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
                self._socket.setsockopt(*option[self.version == 6], hops)
        except OSError:
            self._socket.close()
            raise

    def _forbid_fragments(self) -> None:
        if self.version == 4:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
            return
        self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
        self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
        blocked = [0xFFFFFFFF] * 8
        for kind in (self._answer, self._too_big[0]):
            blocked[kind // 32] &= ~(1 << kind % 32)
        self._socket.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("8I", *blocked))

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def send(self, probe: Probe) -> None:
        """Send one request of a probe.

        Raises:
            OSError: EMSGSIZE, if the interface takes no such packet; and what else a packet can meet in this namespace.
        """
        self._sequence = (self._sequence + 1) & 0xFFFF
        size = max(probe.size or USUAL[self.version], _SMALLEST[self.version])
        padding = bytes(size - _SMALLEST[self.version])
        head = _HEADER.pack(self._request, 0, 0, self._identifier, self._sequence)
        if self.version == 4:  # in IPv6 it is the kernel's business
            checksum = _checksum(head + self._token)
            head = _HEADER.pack(self._request, 0, checksum, self._identifier, self._sequence)
        self.waiting[self._sequence] = probe, time.monotonic()
        try:
            self._socket.sendto(head + self._token + padding, (probe.destination, 0))
        except OSError:
            del self.waiting[self._sequence]
            raise

    def receive(self) -> None:
        """Take in what is there: answers become times of their probes."""
        for _ in range(_READS):
            try:
                data, source = self._socket.recvfrom(1 << 16)
            except OSError:  # nothing more; or what an earlier packet has met, which its silence tells too
                return
            if self.version == 4:
                data = data[(data[0] & 0xF) * 4 :]
            if len(data) < _HEADER.size:
                continue
            kind, code, _, identifier, sequence = _HEADER.unpack_from(data)
            if (kind, code) == self._too_big and self._token in data[:128]:
                self.told_too_big = True
            elif kind == self._answer and identifier == self._identifier and data[8:16] == self._token:
                probe, sent = self.waiting.pop(sequence, (None, 0.0))
                if probe is not None and source[0] == probe.destination:
                    probe.times.append(time.monotonic() - sent)


@dataclass
class Probe:
    """Requests to one destination, and what came of them.

    Attributes:
        echo: where from.
        destination: an address of the same family.
        count: how many requests.
        size: of each whole packet in bytes; 0 for the usual.
        patience: seconds to wait for the last answer.
        interval: seconds between two requests.
        sent: how many were sent, those that could not be included.
        times: seconds of each round trip.
        error: what the last request has met that could not be sent.
        unsent: how many could not be sent.
    """

    echo: Echo
    destination: str
    count: int = 1
    size: int = 0
    patience: float = 1.0
    interval: float = 0.2
    sent: int = 0
    times: list[float] = field(default_factory=list)
    error: OSError | None = None
    unsent: int = 0
    _due: float = 0.0

    def is_over(self, now: float) -> bool:
        """Whether nothing more is to be done or to be expected."""
        if self.sent < self.count:
            return False
        return len(self.times) + self.unsent >= self.count or now >= self._due - self.interval + self.patience

    def is_busy(self, now: float) -> bool:
        """Whether it still makes work: later it only waits for what is likely lost."""
        return self.sent < self.count or now < self._due - self.interval + _SOON

    def go_on(self, now: float) -> None:
        """Send a request if it is time for one."""
        if self.sent >= self.count or now < self._due:
            return
        self.sent += 1
        self._due = now + self.interval
        try:
            self.echo.send(self)
        except OSError as error:
            self.error = error
            self.unsent += 1


def run(probes: Sequence[Probe], tick: Tick, *, at_once: int = 64, done: Callable[[Probe], None] | None = None) -> None:
    """Carry out probes, some of them at once. It ends in a time that follows from their number and patience.

    Args:
        probes: which.
        tick: see Tick.
        at_once: how many are busy; those that only wait for an answer that is late do not count.
        done: is told of each when it is over.
    """
    queue = list(reversed(probes))
    active: list[Probe] = []
    while queue or active:
        now = time.monotonic()
        for probe in [probe for probe in active if probe.is_over(now)]:
            active.remove(probe)
            if done is not None:
                done(probe)
        busy = sum(probe.is_busy(now) for probe in active)
        while queue and busy < at_once and len(active) < _MOST:
            active.append(queue.pop())
            busy += 1
        for probe in active:
            probe.go_on(now)
        echoes = {probe.echo for probe in active}
        if echoes:
            _wait(echoes)
        for echo in echoes:
            echo.receive()
        tick()
    for echo in {probe.echo for probe in probes}:
        echo.waiting.clear()  # whoever answers now is too late


def _wait(echoes: set[Echo]) -> None:
    poll = select.poll()
    for echo in echoes:
        poll.register(echo, select.POLLIN)
    poll.poll(_WAIT_MS)


def _checksum(data: bytes) -> int:
    """RFC 1071. Padding of zeros does not change it."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF

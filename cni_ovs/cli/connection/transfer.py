"""Data from one container to another by sockets of our own, which belong to their namespaces: no program is needed.

One thread serves both ends, so it says less about a fast machine than iperf3 does.
"""

from __future__ import annotations

import contextlib
import errno
import math
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from .. import kernel
from .ends import End
from .programs import Tick

_CONNECT_SECONDS = 2.0
_CHECKED_BYTES = 64 << 10  # much more than is sent before the first acknowledgement
_CHECK_SECONDS = 5.0  # in a direction; less may pass in this time where rates are limited, and that is well
_BLOCK = bytes(128 << 10)
_BURST = 64  # datagrams between two looks at the clock
_TAIL_SECONDS = 0.2  # for the last datagrams
_TOTAL_RETRANSMITS = 100  # offset of tcpi_total_retrans in struct tcp_info, linux/tcp.h
_DATAGRAM = struct.Struct("!Qd")  # number, and when it was sent
_UDP_HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}


@dataclass(frozen=True)
class Moved:
    """What has arrived.

    Attributes:
        seconds: how long it took.
        received: bytes.
        retransmits: TCP segments that were sent once more.
        sent_packets, received_packets: UDP datagrams.
        jitter: of UDP, in milliseconds (RFC 3550 section 6.4.1).
    """

    seconds: float
    received: int
    retransmits: int | None = None
    sent_packets: int = 0
    received_packets: int = 0
    jitter: float | None = None


class StalledError(Exception):
    """Nothing arrives any more; `connected` says whether TCP came that far."""

    def __init__(self, *, connected: bool) -> None:
        super().__init__("nothing arrives")
        self.connected = connected


def check(first: End, second: End, family: str, tick: Tick) -> float:
    """Connect by TCP, and send a little in both directions.

    Returns:
        Milliseconds until the connection was there.

    Raises:
        StalledError: it cannot be connected, or nothing arrives.
        OSError: it was refused in some other way.
    """
    begun = time.monotonic()
    with _connection(first, second, family, 0, tick) as (client, server):
        took = 1000 * (time.monotonic() - begun)
        for sender, receiver in ((client, server), (server, client)):
            end = time.monotonic() + _CHECK_SECONDS
            if not _pump([(sender, receiver)], end, _CHECKED_BYTES, tick, patience=_CONNECT_SECONDS):
                raise StalledError(connected=True)
    return took


def tcp(sender: End, receiver: End, family: str, port: int, streams: int, seconds: float, tick: Tick) -> Moved:
    """Send as fast as it goes; errors as of `check`. The receiver listens at `port`, or at any if it is 0."""
    with contextlib.ExitStack() as stack:
        pairs = []
        for number in range(streams):
            one = port if number == 0 else 0
            pairs.append(stack.enter_context(_connection(sender, receiver, family, one, tick)))
        begun = time.monotonic()
        received = _pump(pairs, begun + seconds, None, tick)
        took = time.monotonic() - begun
        if not received:
            raise StalledError(connected=True)
        return Moved(took, received, retransmits=sum(_retransmits(pair[0]) for pair in pairs))


def udp(
    sender: End, receiver: End, family: str, port: int, streams: int, seconds: float, bandwidth: int, tick: Tick
) -> Moved:
    """Send datagrams that fill a packet, with `bandwidth` bit/s for each stream; errors as of `check`."""
    kind = socket.AF_INET6 if family == "ipv6" else socket.AF_INET
    size = max(_DATAGRAM.size, min(sender.link.mtu, receiver.link.mtu, 9000) - _UDP_HEADERS[kind])
    inbound = _socket(receiver, family, socket.SOCK_DGRAM, port)
    outbound = _socket(sender, family, socket.SOCK_DGRAM, 0)
    with inbound, outbound:
        inbound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        outbound.connect(inbound.getsockname())
        return _stream(outbound, inbound, size, bandwidth * streams, seconds, tick)


def free_port(end: End, family: str) -> int:
    """A port number that nobody listens at, of an end's address.

    Raises:
        OSError: the address is not there any more.
    """
    with _socket(end, family, socket.SOCK_STREAM, 0) as found:
        number = found.getsockname()[1]
        assert isinstance(number, int)
        return number


def _socket(end: End, family: str, kind: socket.SocketKind, port: int) -> socket.socket:
    with kernel.inside(end.netns):
        made = socket.socket(socket.AF_INET6 if family == "ipv6" else socket.AF_INET, kind | socket.SOCK_NONBLOCK)
    try:
        if port:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((end.address(family), port))
    except OSError:
        made.close()
        raise
    return made


@contextlib.contextmanager
def _connection(
    first: End, second: End, family: str, port: int, tick: Tick
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection: the socket of the first end, which connects, and that of the second."""
    listener = _socket(second, family, socket.SOCK_STREAM, port)
    with listener, _socket(first, family, socket.SOCK_STREAM, 0) as client:
        listener.listen(1)
        refused = client.connect_ex(listener.getsockname())
        if refused not in (0, errno.EINPROGRESS):
            raise OSError(refused, errno.errorcode.get(refused, str(refused)))
        if not _ready(client, select.POLLOUT, tick):
            raise StalledError(connected=False)
        refused = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if refused:
            raise StalledError(connected=False)
        if not _ready(listener, select.POLLIN, tick):
            raise StalledError(connected=False)
        server, _ = listener.accept()
        with server:
            server.setblocking(False)
            yield client, server


def _ready(waited: socket.socket, event: int, tick: Tick) -> bool:
    poll = select.poll()
    poll.register(waited, event)
    end = time.monotonic() + _CONNECT_SECONDS
    while time.monotonic() < end:
        if poll.poll(50):
            return True
        tick()
    return False


def _pump(
    pairs: list[tuple[socket.socket, socket.socket]],
    end: float,
    limit: int | None,
    tick: Tick,
    patience: float = math.inf,
) -> int:
    """Send from the first of each pair to the second.

    Args:
        pairs: which.
        end: when to stop.
        limit: how many bytes to send at most.
        tick: see Tick.
        patience: seconds; when nothing arrives for so long, it is over.

    Returns:
        The bytes that have arrived; 0 if patience is over.
    """
    buffer = bytearray(len(_BLOCK))
    sent = received = 0
    heard = time.monotonic()
    poll = select.poll()
    for sender, receiver in pairs:
        poll.register(sender, select.POLLOUT)
        poll.register(receiver, select.POLLIN)
    senders = {sender.fileno(): sender for sender, _ in pairs}
    receivers = {receiver.fileno(): receiver for _, receiver in pairs}
    while time.monotonic() < end:
        for fd, _ in poll.poll(50):
            with contextlib.suppress(BlockingIOError):
                if fd in senders and (limit is None or sent < limit):
                    sent += senders[fd].send(_BLOCK if limit is None else _BLOCK[: limit - sent])
                    if limit is not None and sent >= limit:
                        poll.unregister(fd)
                elif fd in receivers:
                    received += receivers[fd].recv_into(buffer)
                    heard = time.monotonic()
        if limit is not None and received >= limit:
            return received
        if time.monotonic() - heard > patience:
            return 0
        tick()
    return received


def _stream(
    outbound: socket.socket, inbound: socket.socket, size: int, bandwidth: int, seconds: float, tick: Tick
) -> Moved:
    begun = time.monotonic()
    padding = bytes(size - _DATAGRAM.size)
    sent = arrived = 0
    jitter, transit = 0.0, None

    def take() -> None:
        nonlocal arrived, jitter, transit
        while True:
            try:
                data = inbound.recv(size)
            except OSError:
                return
            if len(data) < _DATAGRAM.size:
                continue
            arrived += 1
            now = time.monotonic() - _DATAGRAM.unpack_from(data)[1]
            jitter += (abs(now - transit) - jitter) / 16 if transit is not None else 0.0
            transit = now

    while (passed := time.monotonic() - begun) < seconds:
        due = int(passed * bandwidth / 8 / size) + 1
        for _ in range(min(_BURST, due - sent)):
            with contextlib.suppress(OSError):  # the queue is full, or a message of the other end: both is loss
                outbound.send(_DATAGRAM.pack(sent, time.monotonic()) + padding)
            sent += 1
        take()
        tick()
        if sent >= due:
            _sleep_until_readable(inbound, 1)
    tail = time.monotonic() + _TAIL_SECONDS
    while arrived < sent and time.monotonic() < tail:
        _sleep_until_readable(inbound, 20)
        take()
    if not arrived:
        raise StalledError(connected=False)
    return Moved(seconds, arrived * size, sent_packets=sent, received_packets=arrived, jitter=1000 * jitter)


def _sleep_until_readable(waited: socket.socket, milliseconds: int) -> None:
    poll = select.poll()
    poll.register(waited, select.POLLIN)
    poll.poll(milliseconds)


def _retransmits(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOTAL_RETRANSMITS + 4)
    return int(struct.unpack_from("=I", info, _TOTAL_RETRANSMITS)[0])

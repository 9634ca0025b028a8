"""Whether two ends reach each other, how long a packet takes, and how large it may be."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass

from cni_ovs.plugin.netlink import Netlink

from .. import kernel
from . import causes, echo, programs
from .causes import Cause
from .ends import FAMILIES, End
from .programs import Tick

_COUNT = 5
_INTERVAL = 0.1
_PATIENCE = 1.0
SECONDS = (_COUNT - 1) * _INTERVAL + 0.1  # of a ping that is answered
# A packet of this size passes everywhere (RFC 8200 section 5; RFC 791 asks for less).
_CERTAIN = {4: 576, 6: 1280}
_SHORTEST_PATIENCE, _LONG_PATIENCE = 0.15, 0.6
_LINK_WATCH_SECONDS, _LINK_WATCH_INTERVAL = 3.0, 0.05  # kernels before 6.8 act on about a hundred links a second
_TRIES = 2  # a busy ovs-vswitchd forwards nothing for a tenth of a second on the userspace datapath

_COUNTS = re.compile(r"^(\d+) packets transmitted, (\d+) received,", re.MULTILINE)
_TIMES = re.compile(r"^rtt min/avg/max/mdev = ([\d.]+)/([\d.]+)/([\d.]+)/", re.MULTILINE)


@dataclass(frozen=True)
class Ping:
    """Echo requests in one direction.

    Attributes:
        family: "ipv4" or "ipv6".
        sender, receiver: the ends.
        method: "ping", the program of iputils, or "echo", sockets of our own.
        sent, received: how many packets.
        minimum, average, maximum: milliseconds of the round trips; None without an answer.
        cause: why there was no answer, or not to all; None if all is well.
    """

    family: str
    sender: End
    receiver: End
    method: str
    sent: int
    received: int
    minimum: float | None
    average: float | None
    maximum: float | None
    cause: Cause | None = None

    @property
    def loss(self) -> float:
        """Percent."""
        return 100 * (1 - self.received / self.sent) if self.sent else 100.0


@dataclass(frozen=True)
class PathMtu:
    """The largest packet that passes in both directions.

    Attributes:
        family: "ipv4" or "ipv6".
        largest: its bytes; None if even a small one does not pass.
        expected: the smaller MTU of both interfaces.
        told: whether somebody on the way says what is too large, so that senders can do with less.
        cause: why it is smaller; None if it is not.
    """

    family: str
    largest: int | None
    expected: int
    told: bool
    cause: Cause | None = None


def families(first: End, second: End) -> list[str]:
    """Those of which both ends have an address."""
    return [family for family in FAMILIES if first.address(family) and second.address(family)]


def ping(first: End, second: End, tick: Tick) -> list[Ping]:
    """Ping in both directions, in every family that both ends have, all at once."""
    wait_for_link_watch((first, second), tick)
    ways = [(family, *way) for family in families(first, second) for way in ((first, second), (second, first))]
    found = _by_program(ways, tick) if _is_iputils() else [None] * len(ways)
    # Once there was an answer, ping waits for those that are missing only twice as long as that has taken. A machine
    # that stands still for a moment loses nothing, so it is asked again with more patience.
    found = [None if result and 0 < result.received < result.sent else result for result in found]
    others = [way for way, result in zip(ways, found, strict=True) if result is None]
    by_socket = iter(_by_socket(others, tick) if others else [])
    return [_with_cause(result or next(by_socket)) for result in found]


def wait_for_link_watch(ends: Iterable[End], tick: Tick) -> None:
    """Wait until interfaces that have a carrier are running, those of the containers and those of their ports.

    They drop everything until the kernel's link watch has run, which many changes of other links on the machine delay
    by seconds. A kernel of 6.8 or newer runs that for an interface that it is asked for. (A dormant one, of 802.1X say,
    is not running either, and is waited for in vain.)
    """
    limit = time.monotonic() + _LINK_WATCH_SECONDS
    for end in ends:
        _wait_until_running(end.netns, end.link.index, limit, tick)
        if end.port is not None:
            _wait_until_running(kernel.OWN, end.port.name, limit, tick)  # not there if it is in the container itself


def _wait_until_running(netns: str, which: str | int, limit: float, tick: Tick) -> None:
    with suppress(OSError):  # it has just gone, and pings will tell
        with kernel.inside(netns):
            netlink = Netlink()
        with closing(netlink):
            while (link := netlink.link(which)) and link.carrier and not link.running:
                if time.monotonic() >= limit:
                    return
                time.sleep(_LINK_WATCH_INTERVAL)
                tick()


Way = tuple[str, End, End]


def _with_cause(result: Ping) -> Ping:
    if result.received == result.sent:
        return result
    if result.received:
        cause = Cause(
            "packets are lost", "is a machine or a link overloaded? Try again: the first one may wait for ARP"
        )
    else:
        cause = causes.of_silence(result.sender, result.receiver, result.family)
    return Ping(**{**result.__dict__, "cause": cause})


def _is_iputils() -> bool:
    program = shutil.which("ping")
    if program is None:
        return False
    with programs.running("/proc/self/ns/net", program, "-V") as version:
        return version.wait(2, lambda: None) and "iputils" in version.output


def _by_program(ways: Sequence[Way], tick: Tick) -> list[Ping | None]:
    """What ping(8) says; None where it says nothing that is understood."""
    with ExitStack() as stack:
        started = []
        for family, sender, receiver in ways:
            words = [f"-{FAMILIES[family]}", "-n", "-q", "-c", str(_COUNT), "-i", str(_INTERVAL), "-W", str(_PATIENCE)]
            source, destination = sender.address(family) or "", receiver.address(family) or ""
            words += ["-I", source, "-I", sender.link.name, "--", destination]
            started.append(stack.enter_context(programs.running(sender.netns, "ping", *words)))
        ended = [program.wait(_COUNT * _INTERVAL + _PATIENCE + 2, tick) for program in started]
        return [
            _parse(way, program.output) if in_time else None
            for way, program, in_time in zip(ways, started, ended, strict=True)
        ]


def _parse(way: Way, text: str) -> Ping | None:
    counts, times = _COUNTS.search(text), _TIMES.search(text)
    if counts is None or int(counts[1]) == 0:
        return None
    values = [float(value) for value in times.groups()] if times else [None, None, None]
    return Ping(*way, "ping", int(counts[1]), int(counts[2]), *values)


def _by_socket(ways: Sequence[Way], tick: Tick) -> list[Ping]:
    with ExitStack() as stack:
        probes: list[echo.Probe | None] = []
        for family, sender, receiver in ways:
            try:
                socket = echo.Echo(sender.netns, sender.address(family) or "", sender.link.name)
            except OSError:  # the cause is looked for as for any silence
                probes.append(None)
                continue
            stack.callback(socket.close)
            probe = echo.Probe(socket, receiver.address(family) or "", _COUNT, interval=_INTERVAL, patience=_PATIENCE)
            probes.append(probe)
        echo.run([probe for probe in probes if probe], tick)
    return [_summary(way, probe) for way, probe in zip(ways, probes, strict=True)]


def _summary(way: Way, probe: echo.Probe | None) -> Ping:
    times = [1000 * seconds for seconds in probe.times] if probe else []
    if not times:
        return Ping(*way, "echo", _COUNT, 0, None, None, None)
    return Ping(*way, "echo", _COUNT, len(times), min(times), sum(times) / len(times), max(times))


def path_mtu(first: End, second: End, family: str, slowest: float, likely: int | None, tick: Tick) -> PathMtu:
    """Search for the largest packet that may not be split and passes; the answer to it has the same size.

    Args:
        first, second: the ends.
        family: "ipv4" or "ipv6".
        slowest: milliseconds of the longest round trip that is known.
        likely: what another family has; None if that is not known.
        tick: see Tick.

    Raises:
        OSError: the interface has just gone.
    """
    expected = min(first.link.mtu, second.link.mtu)
    patience = min(1.0, max(_SHORTEST_PATIENCE, slowest / 1000 * 5))
    socket = echo.Echo(first.netns, first.address(family) or "", first.link.name)
    try:

        def passes(size: int, seconds: float = patience) -> bool:
            for _ in range(_TRIES):
                probe = echo.Probe(socket, second.address(family) or "", size=size, patience=seconds)
                echo.run([probe], tick)
                if probe.times:
                    return True
            return False

        largest = _largest(passes, min(_CERTAIN[FAMILIES[family]], expected), expected, likely)
        told = socket.told_too_big
        if largest not in (expected, likely) and not told and passes(expected, _LONG_PATIENCE):
            largest = expected  # somebody was busy
    finally:
        socket.close()
    cause = None if largest == expected else causes.of_small_packets(first, second, largest, expected, told=told)
    return PathMtu(family, largest, expected, told, cause)


def _largest(passes: Callable[[int], bool], low: int, high: int, likely: int | None) -> int | None:
    """The largest number for which it is so, by halving; None if it is not so for the smallest."""
    if passes(high):
        return high
    if likely is not None and low < likely < high and passes(likely):
        if not passes(likely + 1):
            return likely
        low = likely + 1
    elif not passes(low):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if passes(middle):
            low = middle
        else:
            high = middle
    return low

"""Pairs of containers that are pinged, many at once, and what has become of them."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from . import causes, echo
from .causes import Cause
from .ends import End
from .neighbours import Neighbours
from .progress import Bar

# What became of a pair.
GOOD, LOSS, SILENT, ISOLATED, LEAK, SAME = "good", "loss", "silent", "isolated", "leak", "same"
COUNT = 3
INTERVAL = 0.02
_PATIENCE = 1.2  # seconds: if it is lost, ARP asks again after one
AT_ONCE, AT_ONCE_AGAIN = 16, 8
# Of pairs that should not reach each other nothing is expected, so all can be waited for at once.
ISOLATED_AT_ONCE = 128
_ISOLATED_PATIENCE = 0.5


@dataclass(frozen=True)
class Pair:
    """Two ends.

    Attributes:
        first, second: the ends.
        family: in which they were tried; None if they have no address of the same one.
        state: GOOD; LOSS of some packets; SILENT, none was answered; ISOLATED by VLAN or bridge, as was to be expected;
            LEAK, answered although they are apart; SAME, interfaces of one container, between which nothing is sent.
        sent, received: packets.
        average: milliseconds of a round trip; None without one.
        cause: of LOSS, SILENT and LEAK, for the first few.
        bits_per_second: of TCP; None if it was not measured, or nothing arrived.
    """

    first: End
    second: End
    family: str | None
    state: str
    sent: int = 0
    received: int = 0
    average: float | None = None
    cause: Cause | None = None
    bits_per_second: float | None = None

    @property
    def is_good(self) -> bool:
        """Whether it is as it should be."""
        return self.state in (GOOD, ISOLATED, SAME)


@dataclass
class Attempt:
    """What has become of a pair so far.

    Attributes:
        apart: whether they are attached so that nothing should pass.
        clash: why a ping would say nothing: who sends it has the other's address.
        probe: the last one.
        cause: of silence.
    """

    pair: Pair
    apart: bool
    probe: echo.Probe | None = None
    cause: Cause | None = None

    def __post_init__(self) -> None:
        self.clash = causes.of_one_address(self.pair.first, self.pair.second, self.pair.family)
        self._is_same = self.pair.first.netns == self.pair.second.netns

    @property
    def is_possible(self) -> bool:
        """Whether a ping would say something."""
        return self.pair.family is not None and self.clash is None and not self._is_same

    @property
    def is_answered(self) -> bool:
        """Whether each ping was answered."""
        return self.probe is not None and len(self.probe.times) == self.probe.count

    def judged(self) -> Pair:
        """The pair with its state."""
        received = len(self.probe.times) if self.probe else 0
        if self._is_same:
            state = SAME
        elif self.apart:
            state = LEAK if received else ISOLATED
        else:
            state = GOOD if self.is_answered else LOSS if received else SILENT
        average = 1000 * sum(self.probe.times) / received if self.probe and received else None
        return replace(
            self.pair, state=state, sent=self.probe.sent if self.probe else 0, received=received, average=average
        )


class Pinging:
    """Sockets at the ends, one for all pairs of an end that are alike; afterwards the kernel knows nothing more."""

    def __init__(self, ends: Sequence[End], bar: Bar) -> None:
        _allow_many_files()
        self._bar = bar
        self._stack = ExitStack()
        self._sockets: dict[tuple[int, str, bool], echo.Echo | None] = {}
        self._neighbours = Neighbours(ends)

    def __enter__(self) -> Pinging:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._neighbours.close()

    def run(self, attempts: Sequence[Attempt], at_once: int, *, explain: int = 0) -> None:
        """Ping some pairs; say of the first so many that do not answer why not, while the kernel still knows it."""
        by_probe = {}
        for one in attempts:
            socket = self._socket(one)
            if socket is not None:
                destination = one.pair.second.address(one.pair.family or "") or ""
                count, patience = (1, _ISOLATED_PATIENCE) if one.apart else (COUNT, _PATIENCE)
                one.probe = echo.Probe(socket, destination, count, interval=INTERVAL, patience=patience)
                by_probe[id(one.probe)] = one
        explained = 0

        def done(probe: echo.Probe) -> None:
            nonlocal explained
            one = by_probe[id(probe)]
            pair = one.pair
            family = pair.family or ""
            if not probe.times and explained < explain:
                explained += 1
                one.cause = causes.of_silence(pair.first, pair.second, family)
            self._neighbours.forget(pair.first, probe.destination)
            self._neighbours.forget(pair.second, pair.first.address(family) or "")

        probes = [one.probe for one in attempts if one.probe is not None and id(one.probe) in by_probe]
        echo.run(probes, self._bar.tick, at_once=at_once, done=done)

    def _socket(self, one: Attempt) -> echo.Echo | None:
        first, family = one.pair.first, one.pair.family or ""
        key = id(first), family, one.apart
        if key not in self._sockets:
            self._sockets[key] = None
            try:
                # A router may well connect what is apart; it does not pass on what may go no further.
                hops = 1 if one.apart else 0
                opened = echo.Echo(first.netns, first.address(family) or "", first.link.name, hops=hops)
                self._stack.callback(opened.close)
                self._sockets[key] = opened
            except OSError:
                pass  # it has just gone; its pairs are silent
        return self._sockets[key]


def _allow_many_files() -> None:
    """As many as this process may have: each end needs some."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

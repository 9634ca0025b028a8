"""How much passes each port per second, from counters that are read again and again."""

from __future__ import annotations

from dataclasses import dataclass

from .. import database
from . import counters
from .counters import OPEN_VSWITCH, Counters
from .model import Port

_INTERVAL = 5.0  # of Open vSwitch's statistics, and the shortest that it takes (ovs-vswitchd.conf.db(5))


@dataclass(frozen=True)
class Rates:
    """What passes per second, in the directions of counters.py, and how many seconds ago it was counted."""

    in_bits: float
    in_packets: float
    in_drops: float
    out_bits: float
    out_packets: float
    out_drops: float
    source: str
    age: float


class Meter:
    """Remembers what has been counted for each port.

    The kernel counts all the time: its rates are those since the reading before. Open vSwitch writes what it has
    counted every few seconds, for all ports together, and of a port without traffic nothing is seen then. So its rates
    are those between two times of writing, and `note` has to be called whenever the database has changed.
    """

    def __init__(self) -> None:
        self._read: dict[str, tuple[float, Counters]] = {}  # by the port's uuid: a name may be given again
        self._before: dict[str, Counters] = {}
        self._written: dict[str, Counters] | None = None
        self._writing: float | None = None  # when Open vSwitch has written
        self._elapsed = _INTERVAL  # between the last two times of writing
        self._interval = _INTERVAL
        self._begin = 0.0

    def note(self, openvswitch: database.OpenVSwitch, now: float) -> None:
        """See whether Open vSwitch has written its statistics.

        Args:
            openvswitch: as it has just been read.
            now: seconds of a monotonic clock.
        """
        self._interval = _interval(openvswitch.other_config)
        counted = {
            port.uuid: counters.of_statistics(interface.statistics for interface in port.interfaces)
            for _, port in openvswitch.ports()
        }
        present = {uuid: found for uuid, found in counted.items() if found is not None}
        earlier, self._written = self._written, present
        if earlier is None:
            self._begin = now
        elif any(found != earlier[uuid] for uuid, found in present.items() if uuid in earlier):
            gap = self._interval if self._writing is None else now - self._writing
            # A longer time means that it has written in between that nothing had changed, which nobody sees.
            self._elapsed = gap if gap < 1.5 * self._interval else self._interval
            self._writing, self._before = now, earlier

    def rates(self, ports: list[Port], now: float) -> dict[str, Rates]:
        """The rates of ports by their uuid, without those of which not enough is known yet.

        Args:
            ports: as they have just been read.
            now: when that was.
        """
        read = {port.row.uuid: (now, port.counters) for port in ports if port.counters is not None}
        earlier, self._read = self._read, read
        found = {}
        for uuid, (_, counted) in read.items():
            if counted.source == OPEN_VSWITCH:
                rates = self._open_vswitchs(uuid, now)
            else:
                rates = _between(earlier[uuid], (now, counted), 0.0) if uuid in earlier else None
            if rates is not None:
                found[uuid] = rates
        return found

    def _open_vswitchs(self, uuid: str, now: float) -> Rates | None:
        """The rates of a port for which only Open vSwitch counts."""
        written = (self._written or {}).get(uuid)
        if written is None:
            return None
        age = now - (self._begin if self._writing is None else self._writing)
        if age > 1.5 * self._interval:  # it has written that nothing had changed
            return _between((0.0, written), (1.0, written), age)
        if self._writing is None or uuid not in self._before:
            return None
        return _between((0.0, self._before[uuid]), (self._elapsed, written), age)


def _between(earlier: tuple[float, Counters], later: tuple[float, Counters], age: float) -> Rates | None:
    """None if these are not the same counters: the device is another one, or was set up again."""
    (begin, before), (end, after) = earlier, later
    seconds = end - begin
    names = ("in_bytes", "in_packets", "in_drops", "out_bytes", "out_packets", "out_drops")
    passed = [getattr(after, name) - getattr(before, name) for name in names]
    if before.source != after.source or seconds <= 0 or min(passed) < 0:
        return None
    per_second = [number / seconds for number in passed]
    in_bytes, in_packets, in_drops, out_bytes, out_packets, out_drops = per_second
    return Rates(8 * in_bytes, in_packets, in_drops, 8 * out_bytes, out_packets, out_drops, after.source, age)


def _interval(other_config: dict[str, str]) -> float:
    """How often Open vSwitch writes its statistics, in seconds."""
    text = other_config.get("stats-update-interval", "")
    given = int(text) / 1000 if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
    return max(given, _INTERVAL)

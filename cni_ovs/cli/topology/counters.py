"""How many packets passed a port, from where that is counted truly.

Directions are those of what is behind the port, so of the container: `in` is what it receives from the switch, `out`
what it sends. For an uplink `in` is what leaves the host.

The kernel counts at every moment, for each of its devices. Open vSwitch writes what it has counted into its database
every five seconds (other_config:stats-update-interval), and of a device that it cannot see, because it is in a
container, it says nothing true. So the kernel is asked wherever there is a device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

# Who has counted.
HOST, CONTAINER, OPEN_VSWITCH = "host", "container", "open_vswitch"
_DEVICES = "/proc/thread-self/net/dev"  # of the namespace that the thread is in
_RX, _TX = 0, 8  # where the columns of a direction begin


@dataclass(frozen=True)
class Counters:
    """What passed since there is the device."""

    in_bytes: int
    in_packets: int
    in_drops: int
    in_errors: int
    out_bytes: int
    out_packets: int
    out_drops: int
    out_errors: int
    source: str  # HOST, CONTAINER or OPEN_VSWITCH

    @property
    def is_zero(self) -> bool:
        """Whether nothing has passed."""
        return not any((self.in_packets, self.in_drops, self.in_errors, self.out_packets, self.out_drops))


def devices() -> dict[str, tuple[int, ...]]:
    """What the kernel has counted for each device of the namespace that this thread is in; see proc_net_dev(5)."""
    with open(_DEVICES, errors="surrogateescape") as file:
        lines = file.read().splitlines()[2:]
    named = (line.rpartition(":") for line in lines)
    return {name.strip(): tuple(map(int, numbers.split())) for name, _, numbers in named}


def of_far_end(numbers: tuple[int, ...], source: str) -> Counters:
    """The counters of a device that is itself behind the switch: an internal port, here or in a container."""
    return Counters(*_direction(numbers, _RX), *_direction(numbers, _TX), source)


def of_near_end(numbers: tuple[int, ...], source: str) -> Counters:
    """The counters of a device that the switch sends through: what it receives comes from the container."""
    return Counters(*_direction(numbers, _TX), *_direction(numbers, _RX), source)


def of_statistics(interfaces: Iterable[dict[str, int]]) -> Counters | None:
    """What Open vSwitch has counted, in the column `statistics` of a port's interfaces; None if it has not counted."""
    total: dict[str, int] = {}
    for statistics in interfaces:
        for key, number in statistics.items():
            total[key] = total.get(key, 0) + number
    if "rx_packets" not in total and "tx_packets" not in total:
        return None
    keys = ("bytes", "packets", "dropped", "errors")
    received, sent = ([total.get(f"{way}_{key}", 0) for key in keys] for way in ("tx", "rx"))
    return Counters(
        *(received[0], received[1], received[2], received[3]), *(sent[0], sent[1], sent[2], sent[3]), OPEN_VSWITCH
    )


def _direction(numbers: tuple[int, ...], start: int) -> tuple[int, int, int, int]:
    return numbers[start], numbers[start + 1], numbers[start + 3], numbers[start + 2]

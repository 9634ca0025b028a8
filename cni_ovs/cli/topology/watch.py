"""Following what passes the ports: a table that is renewed, or one JSON object a line."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..database import Database
from ..failure import Failure
from ..wording import number, short
from . import record, tree
from .counters import OPEN_VSWITCH
from .model import Bridge, Host, Port, Topology
from .rates import Meter, Rates
from .sandboxes import Sandboxes
from .selection import Selection

_LULL = 0.2  # what changes within these seconds is read together
_TITLES = {"in\nbit/s": 6, "in\npkt/s": 6, "out\nbit/s": 6, "out\npkt/s": 6, "drops\n/s": 5, "\nage": 5}  # and widths
_AROUND = 7  # lines of the terminal that are not the table's rows


@dataclass(frozen=True)
class Moment:
    """What hangs where at one moment, and what passes per second."""

    time: datetime
    connected: bool  # to ovsdb-server; if not, ports are those that it told of last
    topology: Topology
    rates: dict[str, Rates]  # by the uuid of a port


def follow(database: Database, selection: Selection, seconds: float, *, look_inside: bool = True) -> Iterator[Moment]:
    """A moment every so many seconds, without end; the first one after that time, because rates need two readings.

    Without `look_inside` there are no rates of devices that are in containers.
    """
    meter = Meter()
    version, openvswitch = database.version, database.read()
    meter.note(openvswitch, time.monotonic())
    host = Host(Sandboxes(only_count=True) if look_inside else None)
    meter.rates(selection.of(openvswitch, host).ports(), time.monotonic())
    due = time.monotonic() + seconds
    while True:
        while (left := due - time.monotonic()) > 0:
            if not _changes(database, version, left):
                continue
            database.wait(min(_LULL, max(0.0, due - time.monotonic())))
            version = database.version
            with contextlib.suppress(Failure):  # ovsdb-server has just come back, and has not told everything yet
                openvswitch = database.read()
                meter.note(openvswitch, time.monotonic())
        now = time.monotonic()
        host = Host(Sandboxes(only_count=True) if look_inside else None, host)
        found = selection.of(openvswitch, host)
        yield Moment(datetime.now(UTC), database.is_connected, found, meter.rates(found.ports(), now))
        # With so many ports that it takes longer, the database has its turn nevertheless.
        due = max(due + seconds, time.monotonic() + _LULL)


def _changes(database: Database, version: int, seconds: float) -> bool:
    """Whether the database changes, or has changed already, within some seconds."""
    database.wait(seconds, until=lambda: database.version != version)
    return database.version != version


def as_record(moment: Moment) -> dict[str, Any]:
    """One line of JSON; the keys are described in docs/command.md."""
    return {
        "time": moment.time.isoformat(timespec="milliseconds"),
        "connected": moment.connected,
        "ports": [_port(port, moment.rates.get(port.row.uuid)) for port in moment.topology.ports()],
    }


def show(moments: Iterator[Moment], console: Console, seconds: float) -> None:
    """Show each moment where the one before was, or below it where there is no terminal."""
    if not console.is_terminal:
        for moment in moments:
            console.print(table(moment, seconds))
        return
    with Live(console=console, auto_refresh=False) as live:
        for moment in moments:
            live.update(table(moment, seconds, max(1, console.height - _AROUND)), refresh=True)


def table(moment: Moment, seconds: float, rows: int | None = None) -> RenderableType:
    """What passes each port per second, busiest first where there are more ports than rows.

    Args:
        moment: what is to be shown.
        seconds: between two moments.
        rows: how many there may be, those of bridges included; None for any number.
    """
    ports, hidden = _fitting(moment, rows)
    fits = rows is not None  # else every column is as wide as it needs to be
    shown = Table(box=None, padding=(0, 1, 0, 0), expand=fits, header_style="bold")
    shown.title = Text(f"{moment.time.astimezone():%H:%M:%S}, every {seconds:g} s", "dim")
    shown.title_justify = "left"
    shown.add_column("\npod, container or port", no_wrap=True, overflow="ellipsis", ratio=1)
    shown.add_column("\ninterface", no_wrap=True, overflow="ellipsis", width=9 if fits else None)
    for title, width in _TITLES.items():
        shown.add_column(title, justify="right", no_wrap=True, width=width if fits else None)
    for bridge, of_bridge in ports:
        shown.add_row(Text(short(bridge.name), "bold blue"))
        for port in of_bridge:
            shown.add_row(*_row(port, moment.rates.get(port.row.uuid)))
    return Group(shown, Text("\n".join(_notes(moment, hidden)), "dim"))


def _notes(moment: Moment, hidden: int) -> list[str]:
    notes = ["in: what the container (for an uplink: the network) receives; out: what it sends"]
    if any(rates.source == OPEN_VSWITCH for rates in moment.rates.values()):
        notes.append("age: of what only Open vSwitch counts, which it writes every 5 s or less often")
    if hidden:
        notes.append(f"{hidden} ports with less traffic are not shown")
    if not moment.topology.ports():
        notes.append("no port is like that")
    if not moment.connected:
        notes.append("ovsdb-server does not answer: ports are those that it told of last")
    return notes


def _fitting(moment: Moment, rows: int | None) -> tuple[list[tuple[Bridge, list[Port]]], int]:
    """The bridges with the ports that fit, and how many do not."""
    bridges = [(bridge, sorted(bridge.ports, key=tree.order)) for bridge in moment.topology.bridges]
    count = len(moment.topology.ports())
    if rows is None or count + len(bridges) <= rows:
        return bridges, 0

    def traffic(port: Port) -> float:
        rates = moment.rates.get(port.row.uuid)
        return rates.in_bits + rates.out_bits if rates else 0.0

    room = max(1, rows - len(bridges))
    busiest = {port.row.uuid for port in sorted(moment.topology.ports(), key=traffic, reverse=True)[:room]}
    kept = [(bridge, [port for port in ports if port.row.uuid in busiest]) for bridge, ports in bridges]
    return [(bridge, ports) for bridge, ports in kept if ports], count - len(busiest)


def _row(port: Port, rates: Rates | None) -> list[Text]:
    attachment = port.attachment
    name, interface = (attachment.name, attachment.interface) if attachment else (port.name, port.kind)
    cells = [Text(f"  {short(name or port.name)}", "green" if attachment else ""), Text(short(interface))]
    if rates is None:
        return [*cells, *(Text("-", "dim") for _ in range(5)), Text("")]
    drops = rates.in_drops + rates.out_drops
    passed = [rates.in_bits, rates.in_packets, rates.out_bits, rates.out_packets]
    return [
        *cells,
        *(Text(number(value), "" if value else "dim") for value in passed),
        Text(number(drops), "bold red" if drops else "dim"),
        Text(f"{rates.age:.0f} s" if rates.source == OPEN_VSWITCH else "", "dim"),
    ]


def _port(port: Port, rates: Rates | None) -> dict[str, Any]:
    attachment = record.attachment(port.attachment) or {}
    names = ("network", "container_id", "interface", "netns", "pod_namespace", "pod_name")
    return {
        "bridge": port.bridge,
        "name": port.name,
        "uuid": port.row.uuid,
        "kind": port.kind,
        "error": port.error,
        "attachment": {name: attachment[name] for name in names} if attachment else None,
        "rates": _rounded(rates) if rates else None,
        "counters": asdict(port.counters) if port.counters else None,
    }


def _rounded(rates: Rates) -> dict[str, Any]:
    return {
        "in_bits_per_second": round(rates.in_bits),
        "in_packets_per_second": round(rates.in_packets, 3),
        "in_drops_per_second": round(rates.in_drops, 3),
        "out_bits_per_second": round(rates.out_bits),
        "out_packets_per_second": round(rates.out_packets, 3),
        "out_drops_per_second": round(rates.out_drops, 3),
        "source": rates.source,
        "age_seconds": round(rates.age, 3),
    }

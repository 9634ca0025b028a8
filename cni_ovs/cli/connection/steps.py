"""The test of one connection: its steps, one after the other, and the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..output import plain
from . import causes, reachability, throughput, transfer
from .causes import Cause
from .ends import End
from .progress import Bar
from .reachability import PathMtu, Ping
from .throughput import Rate

OK, WARNING, BAD = "ok", "warning", "bad"
_TOLERATED_LOSS = 20.0  # percent of pings
_MEASURED_SECONDS = 1.0  # that iperf3 takes besides


@dataclass(frozen=True)
class Step:
    """A result in a line.

    Attributes:
        status: OK, WARNING or BAD.
        name: what was tried.
        text: what came of it.
        cause: why it is not OK.
    """

    status: str
    name: str
    text: str
    cause: Cause | None = None


@dataclass
class Report:
    """Everything that was found out."""

    first: End
    second: End
    steps: list[Step] = field(default_factory=list)
    pings: list[Ping] = field(default_factory=list)
    path_mtus: list[PathMtu] = field(default_factory=list)
    tcp_connect: float | None = None  # milliseconds
    rates: list[Rate] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing is bad; there may be warnings."""
        return all(step.status != BAD for step in self.steps)

    @property
    def cause(self) -> Cause | None:
        """Of the first thing that is bad, or else of the first that is worth a warning."""
        for status in (BAD, WARNING):
            for step in self.steps:
                if step.status == status:
                    return step.cause
        return None

    def way(self, sender: End) -> str:
        """The direction in which an end sends; the ends are called A and B, whose names may be long."""
        return "A to B" if sender is self.first else "B to A"

    @property
    def verdict(self) -> str:
        """In a line."""
        if not self.is_good:
            return self.cause.text if self.cause else "it does not work"
        parts = []
        if self.pings:
            lost = max(result.loss for result in self.pings)
            parts += [f"{lost:.0f} % loss", f"{self.pings[0].average or 0.0:.2f} ms"]
        parts += [f"MTU {found.largest}" for found in self.path_mtus[:1]]
        for protocol in ("tcp", "udp"):
            values = [rate.bits_per_second or 0.0 for rate in self.rates if rate.protocol == protocol]
            parts += [f"{protocol.upper()} {bits(min(values))}"] if values else []
        return ", ".join(parts)


def bits(value: float) -> str:
    """A rate for people, as 1.1 Gbit/s."""
    for limit, unit in ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.0f} bit/s"


@dataclass(frozen=True)
class Plan:
    """What to try.

    Attributes:
        protocols: of which the throughput is measured; empty for none.
        directions: "forward", "reverse", or both.
        options: of the measurements.
    """

    protocols: tuple[str, ...]
    directions: tuple[str, ...]
    options: throughput.Options


def test(first: End, second: End, plan: Plan, bar: Bar, say: Callable[[Step], None]) -> Report:
    """Carry out the steps, and tell of each as soon as it is done.

    Raises:
        OSError: an interface or a namespace has gone meanwhile.
    """
    report = Report(first, second)
    for step in _steps(report, plan, bar):
        report.steps.append(step)
        say(step)
    return report


def _steps(report: Report, plan: Plan, bar: Bar) -> Iterator[Step]:
    first, second = report.first, report.second
    if not reachability.families(first, second):
        cause = causes.no_address(first, second)
        yield Step(BAD, "addresses", cause.text, cause)
        return
    for family in reachability.families(first, second):
        clash = causes.of_one_address(first, second, family) or causes.of_one_address(second, first, family)
        if clash is not None:
            yield Step(BAD, "addresses", clash.text, clash)
            return
    bar.begin("ping", reachability.SECONDS)
    report.pings = reachability.ping(first, second, bar.tick)
    yield from (_ping_step(report, result) for result in report.pings)
    families = [
        family
        for family in reachability.families(first, second)
        if all(result.received for result in report.pings if result.family == family)
    ]
    yield from _mtu_steps(report, families, bar)
    if families:
        yield from _rate_steps(report, plan, families[0], bar)


def _ping_step(report: Report, result: Ping) -> Step:
    text = f"{result.received} of {result.sent} answered"
    if result.average is not None:
        text += f", {result.minimum:.2f}/{result.average:.2f}/{result.maximum:.2f} ms"
    status = OK if not result.loss else WARNING if result.loss <= _TOLERATED_LOSS else BAD
    return Step(status, f"ping {_family(result.family)} {report.way(result.sender)}", text, result.cause)


def _mtu_steps(report: Report, families: list[str], bar: Bar) -> Iterator[Step]:
    first, second = report.first, report.second
    for family in families:
        bar.begin(f"path MTU {_family(family)}", 2)
        slowest = max(result.maximum or 0.0 for result in report.pings if result.family == family)
        likely = report.path_mtus[0].largest if report.path_mtus else None
        found = reachability.path_mtu(first, second, family, slowest, likely, bar.tick)
        report.path_mtus.append(found)
        status = OK if found.cause is None else WARNING if found.told else BAD
        text = "no packet passes whole" if found.largest is None else f"{found.largest} bytes"
        yield Step(status, f"path MTU {_family(family)}", text, found.cause)
    if first.link.mtu != second.link.mtu and families:
        text = f"{plain(first.name)} has {first.link.mtu}, {plain(second.name)} has {second.link.mtu}"
        smaller = min(first.link.mtu, second.link.mtu)
        yield Step(WARNING, "MTU", text, Cause(f"the MTUs differ: {text}", f"give both MTU {smaller}"))


def _rate_steps(report: Report, plan: Plan, family: str, bar: Bar) -> Iterator[Step]:
    first, second = report.first, report.second
    bar.begin("TCP", 0.1)
    name = "TCP connection"
    try:
        report.tcp_connect = transfer.check(first, second, family, bar.tick)
    except transfer.StalledError as stalled:
        small = next((found.largest for found in report.path_mtus if found.cause and found.family == family), None)
        cause = causes.of_no_tcp(first, second, small if stalled.connected else None)
        yield Step(BAD, name, "it connects, and no data passes" if stalled.connected else "it does not connect", cause)
        return
    yield Step(OK, name, f"connected in {report.tcp_connect:.2f} ms, data passes both ways")
    for protocol in plan.protocols:
        for direction in plan.directions:
            sender, receiver = (first, second) if direction == "forward" else (second, first)
            bar.begin(f"{protocol.upper()} {report.way(sender)}", plan.options.seconds + _MEASURED_SECONDS)
            rate = throughput.measure(sender, receiver, protocol, family, plan.options, bar.tick)
            report.rates.append(rate)
            yield _rate_step(report, rate)


def _rate_step(report: Report, rate: Rate) -> Step:
    name = f"{rate.protocol.upper()} {report.way(rate.sender)}"
    if rate.bits_per_second is None:
        return Step(BAD, name, "nothing arrives", rate.cause)
    parts = [bits(rate.bits_per_second)]
    if rate.retransmits is not None:
        parts.append(f"{rate.retransmits} retransmits")
    if rate.lost is not None and rate.jitter is not None:
        parts.append(f"{rate.lost:.1f} % lost, jitter {rate.jitter:.3f} ms")
    parts.append(f"CPU {rate.cpu:.0f} %" if rate.cpu is not None else "")
    text = ", ".join(part for part in parts if part)
    return Step(WARNING if rate.cause else OK, name, text, rate.cause)


def _family(family: str) -> str:
    return {"ipv4": "IPv4", "ipv6": "IPv6"}[family]


def as_json(report: Report) -> dict[str, Any]:
    """The form that docs/command.md describes."""
    names = {id(report.first): "a", id(report.second): "b"}
    cause = report.cause
    return {
        "good": report.is_good,
        "verdict": report.verdict,
        "remedy": cause.remedy if cause else None,
        "a": end_as_json(report.first),
        "b": end_as_json(report.second),
        "reachability": [
            {
                "family": result.family,
                "from": names[id(result.sender)],
                "to": names[id(result.receiver)],
                "method": result.method,
                "sent": result.sent,
                "received": result.received,
                "loss_percent": result.loss,
                "rtt_ms": {"min": result.minimum, "avg": result.average, "max": result.maximum},
            }
            for result in report.pings
        ],
        "path_mtu": [
            {"family": found.family, "largest": found.largest, "expected": found.expected} for found in report.path_mtus
        ],
        "tcp_connect_ms": report.tcp_connect,
        "throughput": [
            {
                "protocol": rate.protocol,
                "family": rate.family,
                "from": names[id(rate.sender)],
                "to": names[id(rate.receiver)],
                "method": rate.method,
                "bits_per_second": rate.bits_per_second,
                "retransmits": rate.retransmits,
                "lost_percent": rate.lost,
                "jitter_ms": rate.jitter,
                "machine_busy_percent": rate.cpu,
            }
            for rate in report.rates
        ],
        "problems": [
            {"status": step.status, "step": step.name, "cause": step.cause.text, "remedy": step.cause.remedy}
            for step in report.steps
            if step.cause is not None
        ],
    }


def end_as_json(end: End) -> dict[str, Any]:
    """One end, as it is in all JSON of this command."""
    return {
        "name": end.name,
        "netns": end.netns,
        "interface": end.ifname,
        "addresses": end.link.addresses,
        "mtu": end.link.mtu,
        "mac": end.link.mac,
        "bridge": end.bridge.name if end.bridge else None,
        "port": end.port.name if end.port else None,
        "network": end.port.external_ids.get("contNetwork") if end.port else None,
        "vlan": end.vlan,
    }

"""Every pair of containers of a network: which reach each other, by a few pings each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from .. import database, recorded
from ..failure import Failure
from . import causes, echo, reachability, throughput
from .causes import Cause
from .ends import End, Hanging, hanging, is_namespace, of_port
from .progress import Bar
from .steps import end_as_json

# What became of a pair.
GOOD, LOSS, SILENT, ISOLATED, LEAK = "good", "loss", "silent", "isolated", "leak"
_COUNT = 3
_INTERVAL = 0.02
_AT_ONCE = 16
# Of pairs that should not reach each other nothing is expected, so all can be waited for at once.
_ISOLATED_AT_ONCE = 256
_ISOLATED_PATIENCE = 0.5
_EXPLAINED = 5  # pairs; a cause costs some questions, and the same one is likely behind many


@dataclass(frozen=True)
class Pair:
    """Two ends.

    Attributes:
        first, second: the ends.
        family: in which they were tried; None if they have no address of the same one.
        state: GOOD; LOSS of some packets; SILENT, none was answered; ISOLATED by VLAN or bridge, as was to be expected;
            LEAK, answered although they are apart.
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
        return self.state in (GOOD, ISOLATED)


@dataclass(frozen=True)
class Selection:
    """Which containers.

    Attributes:
        ends: their interfaces, each with a name of its own.
        left_out: those that cannot be tested, with the reason.
        more: how many there are beyond the limit.
    """

    ends: list[End]
    left_out: list[tuple[str, str]]
    more: int


def select(state: database.OpenVSwitch, network: str, bridge: str, vlan: int | None, limit: int) -> Selection:
    """The attached containers that are meant; "" and None mean any."""
    ends: list[End] = []
    left_out: list[tuple[str, str]] = []
    more = 0
    chosen = [hangs for hangs in hanging(state) if _is_meant(hangs, network, bridge)]
    several = Counter(_name(port) for _, port in chosen)
    for hangs in chosen:
        port = hangs[1]
        name = _name(port) if several[_name(port)] == 1 else f"{_name(port)}:{port.external_ids['contIface']}"
        path = port.external_ids.get("contNetns", "")
        if len(ends) >= limit:
            more += 1
            continue
        try:
            if not is_namespace(path):
                raise Failure(f"there is no network namespace at {path}")
            end = of_port(path, name, hangs)
        except Failure as failure:
            left_out.append((name, failure.message))
            continue
        if vlan is None or end.vlan == vlan:
            ends.append(end)
    return Selection(ends, left_out, more)


def _is_meant(hangs: Hanging, network: str, bridge: str) -> bool:
    of_bridge, port = hangs
    return network in ("", port.external_ids.get("contNetwork")) and bridge in ("", of_bridge.name)


def _name(port: database.Port) -> str:
    return recorded.known_as(port.external_ids) or port.external_ids.get("contID", "")[:12] or port.name


def test(ends: Sequence[End], bar: Bar) -> list[Pair]:
    """Ping every pair, in one direction: the answer comes by the other."""
    pairs = [Pair(first, second, _family(first, second), SILENT) for first, second in combinations(ends, 2)]
    apart = [causes.separated(pair.first, pair.second) is not None for pair in pairs]
    bar.begin(f"{len(pairs)} pairs", len(pairs) * (_COUNT * _INTERVAL) / _AT_ONCE + 1)
    with ExitStack() as stack:
        sockets: dict[tuple[int, str], echo.Echo | None] = {}
        probes = [_probe(pair, separate, sockets, stack) for pair, separate in zip(pairs, apart, strict=True)]
        for separate, at_once in ((False, _AT_ONCE), (True, _ISOLATED_AT_ONCE)):
            wanted = [probe for probe, one in zip(probes, apart, strict=True) if probe and one is separate]
            echo.run(wanted, bar.tick, at_once=at_once)
    judged = [_judge(*one) for one in zip(pairs, probes, apart, strict=True)]
    return _explain(judged)


def _family(first: End, second: End) -> str | None:
    return next(iter(reachability.families(first, second)), None)


def _probe(
    pair: Pair, separate: bool, sockets: dict[tuple[int, str], echo.Echo | None], stack: ExitStack
) -> echo.Probe | None:
    if pair.family is None:
        return None
    key = id(pair.first), pair.family
    if key not in sockets:
        sockets[key] = None
        try:
            sockets[key] = opened = echo.Echo(
                pair.first.netns, pair.first.address(pair.family) or "", pair.first.link.name
            )
            stack.callback(opened.close)
        except OSError:
            pass  # it has just gone; its pairs are silent
    socket = sockets[key]
    if socket is None:
        return None
    destination = pair.second.address(pair.family) or ""
    if separate:
        return echo.Probe(socket, destination, patience=_ISOLATED_PATIENCE)
    return echo.Probe(socket, destination, _COUNT, interval=_INTERVAL)


def _judge(pair: Pair, probe: echo.Probe | None, separate: bool) -> Pair:
    received = len(probe.times) if probe else 0
    if separate:
        state = LEAK if received else ISOLATED
    elif not received or probe is None:
        state = SILENT
    else:
        state = GOOD if received == probe.count else LOSS
    average = 1000 * sum(probe.times) / received if probe and received else None
    return replace(pair, state=state, sent=probe.sent if probe else 0, received=received, average=average)


def _explain(pairs: list[Pair]) -> list[Pair]:
    explained = []
    left = _EXPLAINED
    for pair in pairs:
        if pair.is_good or not left:
            explained.append(pair)
            continue
        left -= 1
        explained.append(replace(pair, cause=_cause(pair)))
    return explained


def _cause(pair: Pair) -> Cause:
    if pair.state == LOSS:
        return Cause("packets are lost", "try again: many pings at once may be more than this machine forwards")
    if pair.state == LEAK:
        return Cause(
            "they reach each other although they are apart",
            "is there a router between them, or another way, such as another interface of both?",
        )
    if pair.family is None:
        return causes.no_address(pair.first, pair.second)
    return causes.of_silence(pair.first, pair.second, pair.family)


def measure(pairs: list[Pair], options: throughput.Options, bar: Bar) -> list[Pair]:
    """Measure TCP between the pairs that reach each other, one after the other."""
    measured = []
    for number, pair in enumerate(pairs, 1):
        if pair.state != GOOD or pair.family is None:
            measured.append(pair)
            continue
        bar.begin(f"TCP of pair {number} of {len(pairs)}", options.seconds + 0.5)
        rate = throughput.measure(pair.first, pair.second, "tcp", pair.family, options, bar.tick)
        if rate.bits_per_second is None:
            measured.append(replace(pair, state=SILENT, cause=rate.cause))
        else:
            measured.append(replace(pair, bits_per_second=rate.bits_per_second))
    return measured


def as_json(selection: Selection, pairs: Sequence[Pair]) -> dict[str, Any]:
    """The form that docs/command.md describes."""
    numbers = {id(end): number for number, end in enumerate(selection.ends)}
    return {
        "good": all(pair.is_good for pair in pairs) and not selection.left_out,
        "containers": [end_as_json(end) for end in selection.ends],
        "left_out": [{"name": name, "reason": reason} for name, reason in selection.left_out],
        "beyond_limit": selection.more,
        "pairs": [
            {
                "a": numbers[id(pair.first)],
                "b": numbers[id(pair.second)],
                "family": pair.family,
                "state": pair.state,
                "sent": pair.sent,
                "received": pair.received,
                "rtt_ms": pair.average,
                "bits_per_second": pair.bits_per_second,
                "cause": pair.cause.text if pair.cause else None,
                "remedy": pair.cause.remedy if pair.cause else None,
            }
            for pair in pairs
        ],
    }

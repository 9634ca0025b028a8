"""Every pair of containers of a network: which reach each other, by a few pings each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from .. import database, kernel, recorded
from ..failure import Failure
from . import causes, reachability, throughput
from .causes import Cause
from .ends import End, Hanging, Untestable, hanging, of_port, untagged_vlan
from .pairs import (
    AT_ONCE,
    AT_ONCE_AGAIN,
    COUNT,
    GOOD,
    INTERVAL,
    ISOLATED_AT_ONCE,
    LEAK,
    LOSS,
    SILENT,
    Attempt,
    Pair,
    Pinging,
)
from .progress import Bar
from .steps import end_as_json

_EXPLAINED = 5  # pairs; a cause costs some questions, and the same one is likely behind many


@dataclass(frozen=True)
class Selection:
    """Which containers.

    Attributes:
        ends: their interfaces, each with a name of its own.
        left_out: those that cannot be tested, with the reason.
        more: how many there are beyond the limit.
        is_good: whether nothing is wrong with those that are left out.
    """

    ends: list[End]
    left_out: list[tuple[str, str]]
    more: int
    is_good: bool


def select(state: database.OpenVSwitch, network: str, bridge: str, vlan: int | None, limit: int) -> Selection:
    """The attached containers that are meant; "" and None mean any."""
    ends: list[End] = []
    left_out: list[tuple[str, str]] = []
    more = 0
    is_good = True
    chosen = [hangs for hangs in hanging(state) if _is_meant(hangs, network, bridge, vlan)]
    several = Counter(_name(port) for _, port in chosen)
    for hangs in chosen:
        port = hangs[1]
        name = _name(port) if several[_name(port)] == 1 else f"{_name(port)}:{port.external_ids['contIface']}"
        path = port.external_ids.get("contNetns", "")
        if len(ends) >= limit:
            more += 1
            continue
        try:
            if not kernel.is_namespace(path):
                raise Failure(f"there is no network namespace at {path}")
            ends.append(of_port(path, name, hangs))
        except Failure as failure:
            left_out.append((name, failure.message))
            is_good = is_good and isinstance(failure, Untestable)
    return Selection(ends, left_out, more, is_good)


def _is_meant(hangs: Hanging, network: str, bridge: str, vlan: int | None) -> bool:
    of_bridge, port = hangs
    if network not in ("", port.external_ids.get("contNetwork")) or bridge not in ("", of_bridge.name):
        return False
    return vlan in (None, untagged_vlan(port))


def _name(port: database.Port) -> str:
    return recorded.known_as(port.external_ids) or port.external_ids.get("contID", "")[:12] or port.name


def test(ends: Sequence[End], bar: Bar) -> list[Pair]:
    """Ping every pair, in one direction: the answer comes by the other."""
    pairs = [Pair(first, second, _family(first, second), SILENT) for first, second in combinations(ends, 2)]
    attempts = [Attempt(pair, causes.separated(pair.first, pair.second) is not None) for pair in pairs]
    bar.begin(f"{len(pairs)} pairs", len(pairs) * (COUNT * INTERVAL) / AT_ONCE + 1)
    reachability.wait_for_link_watch(ends, bar.tick)
    with Pinging(ends, bar) as pinging:
        together = [one for one in attempts if one.is_possible and not one.apart]
        pinging.run(together, AT_ONCE)
        # Many pings at once may be more than a busy machine forwards.
        pinging.run([one for one in together if not one.is_answered], AT_ONCE_AGAIN, explain=_EXPLAINED)
        pinging.run(_strangers(attempts), ISOLATED_AT_ONCE)
    return _explain(attempts)


def _strangers(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The pairs that are apart, but for those whose containers have another way: Linux answers for all its addresses.

    (As a router does in each VLAN for its address in another.)
    """
    near = {
        side
        for one in attempts
        if not one.apart
        for side in ((id(one.pair.first), one.pair.second.netns), (id(one.pair.second), one.pair.first.netns))
    }
    return [
        one
        for one in attempts
        if one.apart
        and one.is_possible
        and (id(one.pair.first), one.pair.second.netns) not in near
        and (id(one.pair.second), one.pair.first.netns) not in near
    ]


def _family(first: End, second: End) -> str | None:
    return next(iter(reachability.families(first, second)), None)


def _explain(attempts: Sequence[Attempt]) -> list[Pair]:
    explained = []
    left = _EXPLAINED
    for one in attempts:
        pair = one.judged()
        cause = (one.cause or one.clash or _cause(pair)) if left and not pair.is_good else None
        left -= cause is not None
        explained.append(replace(pair, cause=cause))
    return explained


def _cause(pair: Pair) -> Cause | None:
    if pair.state == LOSS:
        return Cause("packets are lost", "try again: many pings at once may be more than this machine forwards")
    if pair.state == LEAK:
        return Cause(
            "they reach each other although they are apart, and not by a router",
            "is there another way between them, such as another interface of both?",
        )
    if pair.family is None:
        return causes.no_address(pair.first, pair.second)
    # Who does not answer a second time was asked why at once; the kernel has forgotten what it knew of others.
    return causes.of_silence(pair.first, pair.second, pair.family) if pair.sent == 0 else None


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
        "good": all(pair.is_good for pair in pairs) and selection.is_good,
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

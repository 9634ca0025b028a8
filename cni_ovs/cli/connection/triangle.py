"""The table of all pairs: half a square, with one row and one column for each container."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from ..output import plain
from . import pairs as states
from . import steps as connection
from .matrix import Selection
from .pairs import Pair

_SIGNS = {
    states.GOOD: ("o", "green"),
    states.LOSS: ("%", "yellow"),
    states.SILENT: ("x", "bold red"),
    states.ISOLATED: (".", "dim"),
    states.LEAK: ("!", "bold red"),
    states.SAME: ("=", "dim"),
}
_WORDS = {
    states.GOOD: "reach each other",
    states.LOSS: "lose packets",
    states.SILENT: "do not reach each other",
    states.ISOLATED: "are apart by VLAN or bridge, as they should be",
    states.LEAK: "reach each other although they are apart",
    states.SAME: "are of one container, and were not tried",
}
_LONGEST_NAME = 28


def show(console: Console, selection: Selection, pairs: Sequence[Pair]) -> None:
    """Print the table, what is wrong, and how many there are of each kind."""
    names = [plain(end.name)[:_LONGEST_NAME] for end in selection.ends]
    _table(console, names, pairs, _round_trip, 6)
    if any(pair.bits_per_second is not None for pair in pairs):
        console.print("\nTCP, Mbit/s:\n")
        _table(console, names, pairs, _rate, 7)
    console.print()
    for pair in pairs:
        if pair.cause is not None:
            console.print(
                Text.assemble(("bad", "red"), f" {_both(pair)}: {pair.cause.text}\n  to do: {pair.cause.remedy}")
            )
    for name, reason in selection.left_out:
        console.print(Text.assemble(("left out", "yellow"), f" {plain(name)}: {plain(reason)}"))
    if selection.more:
        console.print(f"{selection.more} more containers are beyond the limit: see --limit")
    counts = Counter(pair.state for pair in pairs)
    for state, (sign, style) in _SIGNS.items():
        if counts[state]:
            console.print(Text.assemble((sign, style), f" pairs that {_WORDS[state]}: {counts[state]}"))


def _table(console: Console, names: list[str], pairs: Sequence[Pair], value: Callable[[Pair], str], width: int) -> None:
    """Rows with numbers if these fit into the terminal, else with signs."""
    label = max(map(len, names)) + 4
    if label + width * (len(names) - 1) > console.width:
        value, width = _sign, 2 if len(names) < 10 else 3
    if label + width * (len(names) - 1) > console.width:
        console.print("(the table is wider than this terminal: see --json, or choose fewer by --limit or --vlan)")
        return
    by_place = {(id(pair.first), id(pair.second)): pair for pair in pairs}
    ends = list(dict.fromkeys(id(end) for pair in pairs for end in (pair.first, pair.second)))
    console.print(" " * label + "".join(f"{number:>{width}}" for number in range(1, len(ends))))
    for row, end in enumerate(ends):
        line = Text(f"{row + 1:>2}  {names[row]}".ljust(label))
        for other in ends[:row]:
            pair = by_place[(other, end)]
            line.append(f"{value(pair):>{width}}", _SIGNS[pair.state][1])
        console.print(line)


def _sign(pair: Pair) -> str:
    return _SIGNS[pair.state][0]


def _round_trip(pair: Pair) -> str:
    if pair.state == states.LOSS:
        return f"{100 * (1 - pair.received / pair.sent):.0f}%"
    return _sign(pair) if pair.average is None or pair.state == states.LEAK else f"{pair.average:.2f}"


def _rate(pair: Pair) -> str:
    return _sign(pair) if pair.bits_per_second is None else f"{pair.bits_per_second / 1e6:.0f}"


def _both(pair: Pair) -> str:
    return f"{plain(pair.first.name)} and {plain(pair.second.name)}"


def verdict(selection: Selection, pairs: Sequence[Pair]) -> str:
    """In a line."""
    times = [pair.average for pair in pairs if pair.average is not None and pair.state == states.GOOD]
    rates = [pair.bits_per_second for pair in pairs if pair.bits_per_second is not None]
    bad = sum(1 for pair in pairs if not pair.is_good)
    parts = [f"{len(selection.ends)} containers, {len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'}"]
    parts += [f"{bad} of them bad"] if bad else []
    parts += [f"{len(selection.left_out)} containers left out"] if selection.left_out else []
    parts += [f"{min(times):.2f} to {max(times):.2f} ms"] if times else []
    parts += [f"TCP at least {connection.bits(min(rates))}"] if rates else []
    return ", ".join(parts)

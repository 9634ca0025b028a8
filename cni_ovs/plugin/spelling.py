"""Which known word somebody may have meant. `difflib` knows too, but importing it takes as long as half an ADD."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` most likely stands for, whatever the case.

    That is the one which the fewest typing mistakes turn into it, of those that begin with it or that it begins with
    (`vlan_tag`), or that take no more mistakes than two fifths of its characters. Of two that are as near it is the one
    with the same first letter, which is seldom mistaken. None if there is no such word.
    """
    allowed = max(1, len(word) * 2 // 5)
    found: list[tuple[int, bool, str]] = []
    for other in known:
        one, two = word.lower(), other.lower()
        mistakes = abs(len(one) - len(two))
        if min(len(one), len(two)) < 3 or not (one.startswith(two) or two.startswith(one)):
            if mistakes > allowed:
                continue  # at least so many; and this keeps long words, which nobody means, from taking our time
            mistakes = _mistakes(one, two)
            if mistakes > allowed:
                continue
        found.append((mistakes, one[:1] != two[:1], other))
    return min(found)[2] if found else None


def _mistakes(one: str, other: str) -> int:
    """How many characters to insert, delete, replace, or exchange with their neighbour (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, above, row = row, before, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
    return row[-1]

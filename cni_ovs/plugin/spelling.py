"""Which known word somebody may have meant. `difflib` knows too, but importing it takes as long as half an ADD."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that the fewest typing mistakes turn into `word`, whatever the case.

    None when two fifths of its characters would be mistakes.
    """
    allowed = max(1, len(word) * 2 // 5)
    if len(word) > 64:
        return None  # nobody means a key by that, and it comes from outside: comparing takes time
    counted = [(_mistakes(word.lower(), other.lower()), other) for other in known]
    fewest, other = min(counted, default=(allowed + 1, ""))
    return other if fewest <= allowed else None


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

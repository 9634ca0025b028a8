"""How things are called in texts for people: VLANs, rates, amounts; and texts from outside, made harmless."""

from __future__ import annotations

from collections.abc import Iterable

from cni_ovs.plugin.vlans import TUNNEL, effective_mode

from .output import plain

ALL_VLANS = "all VLANs"
_LONGEST = 64


def short(text: str, longest: int = _LONGEST) -> str:
    """A text from outside, made harmless, and so short that it does not push others aside."""
    return plain(text, longest)


def ranges(numbers: Iterable[int]) -> str:
    """Sorted numbers as people write them: 7,20-29. Of more than eight pieces the rest is counted."""
    pieces: list[tuple[int, int]] = []
    for number in numbers:
        if pieces and number == pieces[-1][1] + 1:
            pieces[-1] = (pieces[-1][0], number)
        else:
            pieces.append((number, number))
    texts = [str(low) if low == high else f"{low}-{high}" for low, high in pieces]
    if len(texts) <= 8:
        return ",".join(texts)
    rest = sum(high - low + 1 for low, high in pieces[7:])
    return f"{','.join(texts[:7])} and {rest} more"


def vlan(mode: str | None, tag: int | None, trunks: list[int], cvlans: list[int]) -> str:
    """What a port carries, from the columns of its row: "VLAN 5", "trunk 7,20-29, native VLAN 5", "all VLANs"."""
    effective = effective_mode(mode, tag)
    if effective == "access":
        return f"VLAN {tag or 0}"
    if effective == TUNNEL:
        inner = f"customer VLANs {ranges(cvlans)}" if cvlans else "all customer VLANs"
        return f"QinQ, {inner} in VLAN {tag or 0}"
    carried = f"trunk {ranges(trunks)}" if trunks else ALL_VLANS
    if effective == "trunk":
        return carried
    return f"{carried}, native VLAN {tag or 0}{' (tagged)' if effective == 'native-tagged' else ''}"


def carries(number: int, mode: str | None, tag: int | None, trunks: list[int]) -> bool:
    """Whether frames of a VLAN pass through a port, whose columns these are."""
    effective = effective_mode(mode, tag)
    if effective in ("access", TUNNEL):
        return number == (tag or 0)
    native = effective != "trunk" and number == (tag or 0)
    return native or not trunks or number in trunks


def bits(rate: float) -> str:
    """A rate of bits per second: "9.6 Mbit/s"."""
    return f"{_short(rate)}bit/s"


def amount(size: float) -> str:
    """An amount of bytes: "1.2 MB", of thousands of bytes as rates are."""
    return f"{_short(size)}B"


def number(value: float) -> str:
    """A number without a unit, in at most six characters: "12", "3.4 k"."""
    return _short(value).strip()


def _short(value: float) -> str:
    """Three digits at most, and the prefix of the unit."""
    prefixes = iter(("", "k", "M", "G", "T", "P"))
    prefix = next(prefixes)
    while value >= 999.5 and prefix != "P":
        value, prefix = value / 1000, next(prefixes)
    digits = 1 if value < 99.95 else 0
    return f"{value:.{digits}f}".removesuffix(".0") + f" {prefix}"

"""Keys of a configuration that nobody knows: which they are, and what may have been meant."""

from __future__ import annotations

from . import log
from .config import KEYS, MIRROR_TYPES, lookup
from .errors import INVALID_CONFIG, CniError
from .spelling import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What others call ours, or where it is with us.
_CALLED_ELSEWHERE = {"tag": "vlan", "trunks": "trunk", "mac": "runtimeConfig.mac", "ovnport": "args.cni.ovnPort"}
# How many are worth a line and a guess each.
_REPORTED = 20


def find(values: dict[str, Any]) -> list[str]:
    """The keys of a configuration that nobody knows."""
    known = {key.lower() for key in KEYS}
    if lookup(values, "type") in MIRROR_TYPES:
        known.add("mirrors")
    return [key for key in values if key.lower() not in known and not key.startswith("cni.dev/")]


def refuse(key: str) -> None:
    """Refuse one that is like those of anti-spoofing.

    Ignored, it would leave a container unchecked that somebody wants checked.

    Raises:
        CniError: INVALID_CONFIG.
    """
    if "spoof" in key.lower():
        raise CniError(INVALID_CONFIG, f"unknown key {key!r}: there are 'macspoofchk' and 'ipspoofchk'", key=key)


def told(key: str) -> str:
    """What there is to say of one."""
    meant = _CALLED_ELSEWHERE.get(key.lower()) or nearest(key, KEYS)
    text = f"unknown key {key!r} in the network configuration is ignored"
    return f"{text}; did you mean {meant!r}?" if meant else text


def report(values: dict[str, Any]) -> list[str]:
    """Log them; returns what was logged.

    Raises:
        CniError: as `refuse`.
    """
    unknown = find(values)
    for key in unknown:
        refuse(key)
    found = [told(key) for key in unknown[:_REPORTED]]
    if len(unknown) > _REPORTED:
        found.append(f"and {len(unknown) - _REPORTED} more unknown keys")
    for text in found:
        log.warning(text)
    return found

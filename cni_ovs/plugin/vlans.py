"""The VLANs of a port: which keys of the configuration go together, and what Open vSwitch is told.

The columns, and what a port does in each mode, are described in ovs-vswitchd.conf.db(5), "VLAN Configuration".
"""

from __future__ import annotations

from .errors import INVALID_CONFIG, CniError
from .forms import is_integer
from .jsontext import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .config import Reader

HIGHEST = 4094
TUNNEL = "dot1q-tunnel"
# The modes of Open vSwitch, and the keys that go with each.
KEYS = {
    "access": ("vlan",),
    "trunk": ("trunk",),
    "native-tagged": ("vlan", "trunk"),
    "native-untagged": ("vlan", "trunk"),
    TUNNEL: ("vlan", "cvlans"),
}


class Vlans:
    """The VLANs of a port; the attributes are columns of its row.

    Attributes:
        vlan_mode: one of KEYS, or None, with which a port is a trunk of all VLANs.
        tag: the VLAN of an access port, a trunk's native VLAN, or a tunnel's service VLAN; None if none is given.
        trunks: the VLANs that a trunk carries, sorted; empty for all.
        cvlans: the customer's VLANs that a tunnel carries, sorted; empty for all.
    """

    __slots__ = ("cvlans", "tag", "trunks", "vlan_mode")

    def __init__(self, mode: str | None, vlan: int | None, trunk: list[int], cvlans: list[int]) -> None:
        """Takes the keys of the configuration, converted.

        Raises:
            CniError: INVALID_CONFIG, when one does not go with another.
        """
        if mode is None:
            _refuse("cvlans", cvlans, f"needs 'vlan_mode' {TUNNEL!r}, which is missing")
            mode = ("native-untagged" if trunk else "access") if vlan is not None else ("trunk" if trunk else None)
        else:
            fitting = KEYS[mode]
            only = f"does not go with 'vlan_mode' {mode!r}, which takes {' and '.join(map(repr, fitting))}"
            for key, value in (("vlan", vlan), ("trunk", trunk), ("cvlans", cvlans)):
                if key not in fitting:
                    _refuse(key, value, only)
            if mode == TUNNEL and vlan is None:
                what = f"'vlan_mode' {mode!r} needs 'vlan', which is missing"
                raise CniError(INVALID_CONFIG, what, key="vlan_mode")
        self.vlan_mode = mode
        self.tag = vlan
        self.trunks = trunk
        self.cvlans = cvlans

    def columns(self) -> dict[str, Any]:
        """What a Port row says of them, in the notation of OVSDB; empty for a trunk of all VLANs."""
        columns: dict[str, Any] = {}
        if self.vlan_mode is not None:
            columns["vlan_mode"] = self.vlan_mode
        if self.tag is not None:
            columns["tag"] = self.tag
        if self.trunks:
            columns["trunks"] = ["set", self.trunks]
        if self.cvlans:
            columns["cvlans"] = ["set", self.cvlans]
        return columns


def read(reader: Reader) -> Vlans:
    """What the configuration says.

    Raises:
        CniError: INVALID_CONFIG.
    """
    vlan = reader.read("vlan", None)
    trunk = reader.read("trunk", [])
    mode = reader.read("vlan_mode", None)
    return Vlans(mode, vlan, trunk, reader.read("cvlans", []))


def effective_mode(mode: str | None, tag: int | None) -> str:
    """The mode of a port for which Open vSwitch is, perhaps, told none."""
    return mode or ("trunk" if tag is None else "access")


def refuse_unseen_customer_vlans(other_config: dict[str, str]) -> None:
    """Refuse customers' VLANs where Open vSwitch does not see them: the port would receive nothing.

    Args:
        other_config: of the Open_vSwitch row.

    Raises:
        CniError: INVALID_CONFIG, with what to do.
    """
    limit = other_config.get("vlan-limit", "1")
    if limit.isascii() and limit.isdigit() and int(limit) != 1:  # 0 is the largest that is possible
        return
    raise CniError(
        INVALID_CONFIG,
        f"'cvlans' needs an Open vSwitch that looks at two VLAN tags, and its 'vlan-limit' is {limit!r}",
        "ovs-vsctl set Open_vSwitch . other_config:vlan-limit=2",
    )


def _refuse(key: str, value: int | list[int] | None, why: str) -> None:
    if value is not None and value != []:
        raise CniError(INVALID_CONFIG, f"{key!r}: {shown(value)} {why}", key=key)


def parse_mode(value: Any) -> str | None:
    """One of the modes that Open vSwitch has; None for an empty string."""
    if value == "":
        return None
    if not isinstance(value, str) or value not in KEYS:
        raise ValueError("must be one of " + ", ".join(KEYS))
    return value


def parse_ids(value: Any) -> list[int]:
    """The VLANs, sorted, of a list of `{"id": N}` and `{"minID": A, "maxID": B}`; one object may have all three."""
    form = f'must be a list of {{"id": N}} and {{"minID": A, "maxID": B}}, numbers from 0 to {HIGHEST}'
    if not isinstance(value, list):
        raise ValueError(form)
    found: set[int] = set()
    for item in value:
        keys = {key.lower(): number for key, number in item.items()} if isinstance(item, dict) else {}
        one, lowest, highest = (keys.get(key) for key in ("id", "minid", "maxid"))
        given = [number for number in (one, lowest, highest) if number is not None]
        if not given or (lowest is None) != (highest is None) or not all(map(_is_vlan, given)):
            raise ValueError(f"{shown(item)}: it {form}")
        if one is not None:
            found.add(one)
        if lowest is not None and highest is not None:
            if lowest > highest:
                raise ValueError(f"{shown(item)}: minID must not be above maxID")
            found.update(range(lowest, highest + 1))
    return sorted(found)


def _is_vlan(value: Any) -> bool:
    return is_integer(value) and 0 <= value <= HIGHEST


# The VLANs of a port of which the configuration says nothing.
ALL = Vlans(None, None, [], [])

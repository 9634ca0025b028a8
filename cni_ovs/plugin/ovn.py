"""OVN: its ovn-controller binds the logical port that `external_ids:iface-id` of an interface names.

What it reads and writes is described in ovn-controller(8).
"""

from __future__ import annotations

from .config import OVN_BRIDGE

PORT_ID = "iface-id"
INSTALLED = {"ovn-installed": "true"}
HINT = "see ovn-sbctl show: is there a logical switch port of this name, and is ovn-controller running on this node?"


def has_bridge(external_ids: dict[str, str], bridge: str) -> bool:
    """Whether a bridge is the one that an ovn-controller looks after.

    Args:
        external_ids: of the Open_vSwitch row.
        bridge: its name.
    """
    # Each setting can also be one for a chassis only: several ovn-controllers can share an Open vSwitch.
    of_chassis = f"-{external_ids.get('system-id', '')}"
    remote, name = (external_ids.get(key + of_chassis, external_ids.get(key)) for key in ("ovn-remote", "ovn-bridge"))
    return bool(remote) and bridge == (name or OVN_BRIDGE)

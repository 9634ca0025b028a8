"""An Open vSwitch port of type tap, moved into the container as an internal port is.

It belongs to ovs-vswitchd, which makes it with the row, and is for the userspace datapath only: the kernel's takes a
tap for any other device, and throws it out when it leaves the namespace (NETDEV_UNREGISTER in
net/openvswitch/dp_notify.c).
"""

from __future__ import annotations

from . import refuse_kernel_datapath
from .internal import COLUMNS, IS_GIVEN_BACK, MADE_BY_OPEN_VSWITCH, bring_up, columns, connect, create, destroy, mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..attachment import Attachment
    from ..config import NetworkConfig

__all__ = [
    "COLUMNS",
    "IS_GIVEN_BACK",
    "MADE_BY_OPEN_VSWITCH",
    "bring_up",
    "columns",
    "connect",
    "create",
    "destroy",
    "mac",
    "prepare",
]


def prepare(datapath_type: str, open_vswitch: dict[str, Any], attachment: Attachment, config: NetworkConfig) -> None:
    """Refuse the kernel's datapath."""
    refuse_kernel_datapath(datapath_type, config, "the kernel's datapath loses a tap that moves into a container")

"""The one ethtool(8) setting that the plugin needs: transmit checksum offload."""

from __future__ import annotations

import _struct
from fcntl import ioctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Told of socket and interface before that is changed; `cni-ovs explain` sets it.
observer: Callable[[int, str], None] | None = None

_SIOCETHTOOL = 0x8946  # linux/sockios.h
_ETHTOOL_STXCSUM = 0x17  # linux/ethtool.h


def switch_off_transmit_checksum(socket: int, interface: str) -> None:
    """`ethtool -K INTERFACE tx off`, in the namespace of a socket of whatever kind.

    Raises:
        OSError: the kernel refused.
    """
    if observer is not None:
        observer(socket, interface)
    value = _struct.pack("=II", _ETHTOOL_STXCSUM, 0)  # struct ethtool_value: cmd, data
    # The request holds a pointer to it, which the kernel only reads. CPython keeps the content of `bytes` at the end of
    # the object, before a final NUL. `array` would tell its address openly, but importing it imports collections.abc.
    address = id(value) + bytes.__basicsize__ - 1
    request = _struct.pack("16sP", interface.encode(), address)  # struct ifreq: ifr_name, ifr_data
    ioctl(socket, _SIOCETHTOOL, request.ljust(40, b"\0"))

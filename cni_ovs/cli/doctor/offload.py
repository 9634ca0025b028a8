"""Whether an interface has transmit checksum offload: the setting that ADD switches off on the userspace datapath."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

from cni_ovs.plugin.netns import Namespace

_SIOCETHTOOL = 0x8946  # linux/sockios.h
_ETHTOOL_GTXCSUM = 0x16  # linux/ethtool.h


def has_transmit_checksum_offload(netns: str, interface: str) -> bool:
    """`ethtool -k`: tx-checksumming, of an interface in the namespace of a path.

    Raises:
        OSError, CniError: it cannot be asked.
    """
    namespace = Namespace(netns)
    try:
        with namespace:
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    finally:
        namespace.close()
    with asking:
        value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_GTXCSUM, 0), 8)  # struct ethtool_value
        request = struct.pack("16sP", interface.encode(errors="surrogateescape"), ctypes.addressof(value))
        fcntl.ioctl(asking, _SIOCETHTOOL, request.ljust(40, b"\0"))  # struct ifreq: ifr_name, ifr_data
        return bool(struct.unpack("=II", value.raw)[1])

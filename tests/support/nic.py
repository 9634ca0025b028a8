"""A stand-in for an SR-IOV NIC in switchdev mode: veth pairs of the kernel, and a tree that tells of them like /sys.

One end plays a VF, the other its representor: what comes into one comes out of the other, as in hardware. What differs:
the kernel removes a veth with its namespace, where it would give a VF back; it tells no parent of it; and it takes any
MAC and many MTUs.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.support.namespace import Link
from tests.support.node import Node
from tests.support.openvswitch import PrivateOpenVSwitch
from tests.support.plugin import Target
from tests.support.sysfs import PF, Sysfs

SWITCH = "e8ebd3030035f8f2"


class Vf:
    """One VF: its address and number, and the names of its interface and of its representor."""

    def __init__(self, index: int, mark: str) -> None:
        """Makes nothing."""
        self.index = index
        self.address = f"0000:03:00.{index + 2}"
        self.name = f"vf{index}{mark}"
        self.representor = f"rep{index}{mark}"
        self.mac = f"02:00:00:00:05:{index:02x}"


class Nic:
    """A PF with two VFs on a node, in switchdev mode; all that a test needs to use them."""

    def __init__(self, openvswitch: PrivateOpenVSwitch, target: Target, folder: Path) -> None:
        """The plugin on `node` sees the tree as /sys."""
        self.sysfs = Sysfs(folder / "sys")
        self.node = Node(openvswitch, self.sysfs.target(target), folder)
        self.host = self.node.host
        mark = secrets.token_hex(3)
        self.uplink = f"up{mark}"
        self.host.ip("link", "add", self.uplink, "type", "veth", "peer", "name", f"net{mark}")
        self.sysfs.physical()
        self.sysfs.interface(self.uplink, PF, port="p0", switch=SWITCH)
        self.vfs = [Vf(index, mark) for index in range(2)]
        for vf in self.vfs:
            self.sysfs.virtual(vf.address, vf.index, name=vf.name)
            self.sysfs.interface(vf.representor, PF, port=f"pf0vf{vf.index}", switch=SWITCH)
            self.make(vf)
        for name in (self.uplink, f"net{mark}", *(name for vf in self.vfs for name in (vf.name, vf.representor))):
            self.node.device(name)
        self.vf = self.vfs[0]
        self._before = self.state()

    def make(self, vf: Vf) -> None:
        """Makes the interfaces of a VF, which are gone: they went with a namespace, say."""
        peer = ("peer", "name", vf.representor)
        self.host.ip("link", "add", vf.name, "address", vf.mac, "mtu", "1500", "type", "veth", *peer)
        self.host.ip("link", "set", vf.representor, "address", f"02:00:00:00:06:{vf.index:02x}", "mtu", "1500")

    def state(self) -> dict[str, tuple[str, int, bool]]:
        """MAC, MTU and whether it is up, of each interface of the NIC that is on the host, by name."""
        names = {name for vf in self.vfs for name in (vf.name, vf.representor)}

        def tell(link: Link) -> tuple[str, int, bool]:
            return link.mac, link.mtu, link.up

        return {name: tell(link) for name, link in self.host.links().items() if name in names}

    def assert_as_before(self) -> None:
        """Everything is on the host, and as it was, and nothing is left of any attachment."""
        self.node.assert_nothing_left()
        now = self.state()
        assert now == self._before, f"{now}, and before {self._before}"

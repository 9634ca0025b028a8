"""SR-IOV in switchdev mode, as sysfs shows it: a virtual function (VF), its physical function (PF), its representor.

Linux describes these files in Documentation/ABI/testing/sysfs-bus-pci and sysfs-class-net, and representors in
Documentation/networking/{switchdev,representors}.rst.
"""

from __future__ import annotations

import posix
from errno import ENODEV, ENOENT, ENOTDIR

from .errors import INVALID_CONFIG, TRY_AGAIN_LATER, CniError

SYSFS = "/sys"
# Drivers that hand a device to a program, which drives it itself.
_USERSPACE_DRIVERS = ("vfio-pci", "uio_pci_generic", "igb_uio")
_LONGEST = 4096  # of what is read of a file


def is_function(address: str, root: str = SYSFS) -> bool:
    """Whether a PCI device is a VF."""
    return bool(_target(f"{root}/bus/pci/devices/{address}/physfn"))


class Function:
    """A VF, and what belongs to it. Looking it up changes nothing.

    Attributes:
        address: its PCI address.
        physical: the PCI address of its PF.
        index: its number among the PF's VFs.
        uplink: name of the PF's interface.
        representor: name of the interface that is the other end of the VF, within the NIC's switch.
    """

    __slots__ = ("_root", "address", "index", "physical", "representor", "uplink")

    def __init__(self, address: str, root: str = SYSFS) -> None:
        """Looks it up.

        Args:
            address: of the VF, in the form of forms.pci_address.
            root: where sysfs is.

        Raises:
            CniError: INVALID_CONFIG, when there is no such device, it is no VF, or its PF is not in switchdev mode.
        """
        self._root = root
        self.address = address
        folder = self._device(address)
        if not posix.access(folder, posix.F_OK):
            raise _invalid(address, "there is no such PCI device", "a device plugin fills it in; see lspci -D")
        self.physical = _target(f"{folder}/physfn")
        if not self.physical:
            kind = "a physical function" if posix.access(f"{folder}/sriov_totalvfs", posix.F_OK) else "another device"
            raise _invalid(address, f"it is {kind}, not a virtual function of SR-IOV", "choose one of its virtfn*")
        self.index = self._find_index()
        self.uplink, switch = self._find_uplink()
        self.representor = self._find_representor(switch)

    def interface(self) -> str | None:
        """The name of the VF's own interface in this network namespace; None if a program is to drive the VF itself.

        Raises:
            CniError: TRY_AGAIN_LATER, when it has no interface here; INVALID_CONFIG, when it has several.
        """
        names = interfaces(self.address, self._root)
        if len(names) == 1:
            return names[0]
        if names:
            raise _invalid(self.address, f"it has more than one interface: {', '.join(names)}", "")
        driver = _target(f"{self._device(self.address)}/driver")
        if driver in _USERSPACE_DRIVERS:
            return None
        raise CniError(
            TRY_AGAIN_LATER,
            f"'deviceID' {self.address!r} has no network interface on this node",
            f"its driver is {driver}; a container has its interface, or had it until a moment ago"
            if driver
            else "it has no driver",
        )

    def uplinks(self) -> list[str]:
        """The interfaces that may connect the NIC's switch with a bridge: the PF's; or its bond, and its members."""
        bond = _target(self._interface(self.uplink) + "/master")
        if not bond or not posix.access(f"{self._interface(bond)}/bonding", posix.F_OK):
            return [self.uplink]  # the master may be another thing, such as the kernel's datapath of Open vSwitch
        members = _read(f"{self._interface(bond)}/bonding/slaves").split()
        return [bond, self.uplink, *(name for name in members if name != self.uplink)]

    def _find_index(self) -> int:
        folder = self._device(self.physical)
        for name in _names(folder):
            number = name.removeprefix("virtfn")
            if number != name and _is_number(number) and _target(f"{folder}/{name}") == self.address:
                return int(number)
        raise _invalid(self.address, f"its physical function {self.physical} does not know it", "")

    def _find_uplink(self) -> tuple[str, str]:
        """The PF's interface, and the id of the switch that it belongs to."""
        fallback = None
        for name in interfaces(self.physical, self._root):
            switch = self._switch(name)
            if not switch:
                continue
            port = _read(f"{self._interface(name)}/phys_port_name")
            # `p0`, or `p0s1` of a port that is split. The folder of the PF has the VFs' representors, too.
            if port[:1] == "p" and port[1:2].isdigit():
                return name, switch
            if not port:
                fallback = name, switch  # an old driver
        if fallback is None:
            raise _invalid(
                self.address,
                f"its physical function {self.physical} is not in switchdev mode, so it has no representor",
                f"devlink dev eswitch set pci/{self.physical} mode switchdev",
            )
        return fallback

    def _find_representor(self, switch: str) -> str:
        found: dict[tuple[bool, str], list[str]] = {}  # by whether it is another host's, and the number of its PF
        own = []  # those of which the driver says that they are our PF's
        for name in sorted(_names(f"{self._root}/class/net")):
            if name == self.uplink or self._switch(name) != switch:
                continue
            # With several PFs in one switch, the driver tells by its parent whose it is.
            parent = _target(self._interface(name) + "/device")
            if parent and parent != self.physical and posix.access(self._device(parent), posix.F_OK):
                continue
            port = _parse_port(_read(f"{self._interface(name)}/phys_port_name"))
            if port is None or port[2] != self.index:
                continue
            found.setdefault(port[:2], []).append(name)
            if parent == self.physical and not port[0]:
                own.append(name)
        function = self.physical[-1:]  # drivers count PFs by it, as far as they count them so
        number = _read(f"{self._interface(self.uplink)}/phys_port_name")[1:]
        # What has no number of a PF at all is of a driver with one switch for each PF.
        for key in ((False, function), (False, ""), (True, function), (False, number)):
            names = found.get(key, [])
            if len(names) == 1:
                return names[0]
            if names:
                raise _invalid(self.address, f"it has more than one representor: {', '.join(names)}", "")
        if len(own) == 1:
            return own[0]  # of a driver with another way of counting
        raise _invalid(
            self.address,
            f"VF {self.index} of {self.physical} has no representor in this network namespace",
            f"see devlink port; is {self.uplink!r} in switchdev mode, and the plugin in the host's network namespace?",
        )

    def _switch(self, interface: str) -> str:
        return _read(f"{self._interface(interface)}/phys_switch_id")

    def _interface(self, name: str) -> str:
        return f"{self._root}/class/net/{name}"

    def _device(self, address: str) -> str:
        return f"{self._root}/bus/pci/devices/{address}"


def interfaces(address: str, root: str = SYSFS) -> list[str]:
    """The names of a PCI device's interfaces in the network namespace that sysfs was mounted in; none if it is gone."""
    return sorted(_names(f"{root}/bus/pci/devices/{address}/net"))


def exists(address: str, root: str = SYSFS) -> bool:
    """Whether there is such a PCI device."""
    return posix.access(f"{root}/bus/pci/devices/{address}", posix.F_OK)


def _parse_port(name: str) -> tuple[bool, str, int] | None:
    """What a `phys_port_name` says of a VF: whether it is another host's, the number of its PF, and its own.

    `pf0vf3`; `c1pf0vf3` for a VF of the host that the NIC with a processor of its own is in; `vf3` and `3` of old
    drivers. None for anything else, as a physical port, a PF's representor, or that of a subfunction (`pf0sf3`).
    """
    controller = pf = ""
    if _is_number(name):
        return False, "", int(name)
    rest = name
    if rest[:1] == "c":
        controller, found, rest = rest[1:].partition("pf")
        if not found or not _is_number(controller):
            return None
        rest = "pf" + rest
    before, found, vf = rest.partition("vf")
    if not found or not _is_number(vf):
        return None
    if before:
        pf = before.removeprefix("pf")
        if pf == before or not _is_number(pf):
            return None
    return bool(controller), pf, int(vf)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 6


def _names(folder: str) -> list[str]:
    """What is in a folder; nothing if there is none, or it has just gone."""
    try:
        return posix.listdir(folder)
    except OSError as error:
        if error.errno not in (ENOENT, ENOTDIR, ENODEV):
            raise  # that there was no memory, say, does not mean that a VF has no interface
        return []


def _target(link: str) -> str:
    """The last part of what a symbolic link leads to; "" if there is none."""
    try:
        return posix.readlink(link).rpartition("/")[2]
    except OSError:
        return ""


def _read(path: str) -> str:
    """A file's text. "" if it cannot be read: drivers refuse (EOPNOTSUPP) what they do not know."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return posix.read(fd, _LONGEST).decode(errors="replace").strip()
    except OSError:
        return ""
    finally:
        posix.close(fd)


def _invalid(address: str, what: str, hint: str) -> CniError:
    return CniError(INVALID_CONFIG, f"invalid 'deviceID': {address!r}: {what}", hint)

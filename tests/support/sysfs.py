"""A tree like /sys with SR-IOV NICs, for looking things up in, and for running the plugin on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from tests.support.plugin import Target

PF = "0000:03:00.0"
VF = "0000:03:00.5"


class Sysfs:
    """The parts of sysfs that tell of PCI devices and network interfaces.

    The layout is the one that the kernel documents (Documentation/ABI/testing/sysfs-bus-pci, sysfs-class-net) and that
    drivers make of it: `bus/pci/devices` and `class/net` are folders of links into `devices`.
    """

    def __init__(self, root: Path) -> None:
        """Makes an empty tree in a new folder."""
        self.root = root
        for folder in ("bus/pci/devices", "bus/pci/drivers", "class/net", "devices/pci0000:00", "devices/virtual/net"):
            (root / folder).mkdir(parents=True)

    def pci(self, address: str, *, driver: str | None = None) -> Path:
        """A PCI device."""
        folder = self.root / "devices/pci0000:00" / address
        if not folder.exists():
            folder.mkdir()
            _link(self.root / "bus/pci/devices" / address, folder)
        if driver is not None:
            target = self.root / "bus/pci/drivers" / driver
            target.mkdir(exist_ok=True)
            (folder / "driver").unlink(missing_ok=True)
            _link(folder / "driver", target)
        return folder

    def physical(self, address: str = PF, *, driver: str = "mlx5_core") -> Path:
        """A physical function, without virtual ones yet."""
        folder = self.pci(address, driver=driver)
        (folder / "sriov_totalvfs").write_text("8\n")
        return folder

    def virtual(
        self, address: str = VF, index: int = 3, *, of: str = PF, driver: str | None = "mlx5_core", name: str = ""
    ) -> Path:
        """A virtual function of a physical one, with an interface if it gets a name."""
        folder = self.pci(address, driver=driver)
        parent = self.root / "devices/pci0000:00" / of
        _link(folder / "physfn", parent)
        _link(parent / f"virtfn{index}", folder)
        if name:
            self.interface(name, address)
        return folder

    def interface(
        self, name: str, device: str | None = None, *, port: str | None = None, switch: str | None = None
    ) -> Path:
        """An interface, of a PCI device or of none. What it does not tell (`None`) cannot be read (EOPNOTSUPP)."""
        parent = self.root / ("devices/virtual" if device is None else f"devices/pci0000:00/{device}")
        folder = parent / "net" / name
        folder.mkdir(parents=True)
        if device is not None:
            _link(folder / "device", parent)
        for file, text in (("phys_port_name", port), ("phys_switch_id", switch)):
            if text is None:
                (folder / file).mkdir()  # to read it is an error, and it is there
            else:
                (folder / file).write_text(f"{text}\n")
        _link(self.root / "class/net" / name, folder)
        return folder

    def rename(self, old: str, new: str) -> None:
        """The kernel has given an interface another name."""
        link = self.root / "class/net" / old
        folder = link.resolve()
        link.unlink()
        folder.rename(folder.parent / new)
        _link(self.root / "class/net" / new, folder.parent / new)

    def bond(self, name: str, *members: str) -> None:
        """A bond of the kernel's with these members."""
        folder = self.interface(name)
        (folder / "bonding").mkdir()
        (folder / "bonding/slaves").write_text(" ".join(members) + "\n")
        for member in members:
            _link((self.root / "class/net" / member).resolve() / "master", folder)

    def target(self, target: Target) -> Target:
        """The plugin in this form, in a mount namespace of its own in which this tree is /sys."""
        script = 'mount --bind "$0" /sys && exec "$@"'
        words = ("/usr/bin/unshare", "--mount", "--propagation", "slave", "/bin/sh", "-c", script, str(self.root))
        return replace(target, command=(*words, *target.command))


def _link(path: Path, target: Path) -> None:
    """A link as the kernel makes it: its last part is the name of what it leads to, even of a folder that it is in."""
    path.symlink_to(os.path.join(os.path.relpath(target.parent, path.parent), target.name))

"""The kinds of port: one file each, all with the functions of `Device`.

A new kind is a file here, its name in forms.INTERFACE_TYPES, and a line in `of`. A VF is an object, because it
was there before, and has to be found.
"""

from __future__ import annotations

from ..errors import NAME_TAKEN, CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ..attachment import Attachment
    from ..config import NetworkConfig
    from ..deadline import Deadline
    from ..netlink import Link, Netlink
    from ..netns import Namespace

    class Device(Protocol):
        """What every kind of port can do."""

        MADE_BY_OPEN_VSWITCH: bool
        """Whether the device comes and goes with its Port row."""

        IS_GIVEN_BACK: bool
        """Whether the device was there before, and what it was like is recorded in the row: nothing is done to it
        before that is in the database, and the row goes after everything is as it was."""

        def create(self, host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> None:
            """Make what must be there before Open vSwitch is told; leave nothing behind on failure.

            Raises:
                CniError: NAME_TAKEN, when CNI_IFNAME exists in the sandbox; KERNEL_REFUSED.
            """

        def connect(self, host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> Ends:
            """Bring the container's end to its place, with its name, MAC and MTU.

            Where Open vSwitch makes the device, it must have taken the port.
            """

        def bring_up(self, host: Netlink, sandbox: Namespace, ends: Ends, deadline: Deadline) -> None:
            """Set the container's end up, and return when packets pass in both directions."""

        def destroy(self, host: Netlink, name: str) -> None:
            """Remove what `create` made for the port of this name. It may be gone already."""


class Ends:
    """Both ends of a port: the host's, where there is one, and the container's.

    Attributes:
        host, container: the interfaces.
        pci_address: of the device that the container's end is; "" if it is none.
        is_driven: whether a program in the container drives that device, so that it is no interface; only the name of
            `container` means something then.
    """

    __slots__ = ("container", "host", "is_driven", "pci_address")

    def __init__(self, host: Link | None, container: Link, pci_address: str = "", *, is_driven: bool = False) -> None:
        self.host = host
        self.container = container
        self.pci_address = pci_address
        self.is_driven = is_driven


def of(interface_type: str) -> Device:
    """The kind of port that `interface_type` names, but for a VF (vf.py)."""
    if interface_type == "internal":
        from . import internal  # noqa: PLC0415 - start-up time

        return internal
    from . import veth  # noqa: PLC0415 - start-up time

    return veth


def taken(attachment: Attachment) -> CniError:
    """The error for a CNI_IFNAME that the sandbox has already."""
    return CniError(NAME_TAKEN, f"interface {attachment.ifname!r} exists already in {attachment.netns!r}")

"""The kinds of port: one file each, all with the functions of `Device`.

A new kind is a file here, its name in forms.INTERFACE_TYPES, and a line in `of`. A VF is an object, because it
was there before, and has to be found.
"""

from __future__ import annotations

from ..attachment import SOCKET
from ..errors import INVALID_CONFIG, NAME_TAKEN, CniError
from ..vswitch import USERSPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

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

        COLUMNS: tuple[str, ...]
        """Those of the Open_vSwitch row that `prepare` reads."""

        def prepare(
            self, datapath_type: str, open_vswitch: dict[str, Any], attachment: Attachment, config: NetworkConfig
        ) -> None:
            """See whether there can be such a port, before anything is made; add what is to be recorded with it.

            Raises:
                CniError: INVALID_CONFIG, when Open vSwitch, or the kind of the bridge, has no such ports.
            """

        def columns(self, attachment: Attachment, config: NetworkConfig) -> dict[str, Any]:
            """What its Interface row has besides what every one has; `type` is always there."""

        def create(self, host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> None:
            """Make what must be there before Open vSwitch is told; leave nothing behind on failure.

            Raises:
                CniError: NAME_TAKEN, when CNI_IFNAME exists in the sandbox; KERNEL_REFUSED.
            """

        def mac(self, host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> bytes:
            """The MAC that the container's end will have, when Open vSwitch has taken the port and before `connect`."""

        def connect(
            self, host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig
        ) -> Ends | None:
            """Bring the container's end to its place, with its name, MAC and MTU; None if it is no network device.

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


MOVED = ("internal", "tap")  # the kinds whose device ovs-vswitchd makes on the host
VHOST_USER = ("dpdkvhostuserclient", "dpdkvhostuser")


def of(interface_type: str | None) -> Device:
    """The kind of port that `interface_type` names, but for a VF (vf.py); a veth's interface has no type in OVSDB."""
    if interface_type == "internal":
        from . import internal  # noqa: PLC0415 - start-up time

        return internal
    if interface_type == "tap":
        from . import tap  # noqa: PLC0415 - start-up time

        return tap
    if interface_type in VHOST_USER:
        from . import vhost_user  # noqa: PLC0415 - start-up time

        return vhost_user
    from . import veth  # noqa: PLC0415 - start-up time

    return veth


def taken(attachment: Attachment) -> CniError:
    """The error for a CNI_IFNAME that the sandbox has already."""
    return CniError(NAME_TAKEN, f"interface {attachment.ifname!r} exists already in {attachment.netns!r}")


def is_attached(sandbox: Namespace, attachment: Attachment, recorded: dict[str, str]) -> bool:
    """Whether the container has the interface already.

    Args:
        sandbox: the container's.
        attachment: what for.
        recorded: the external_ids of the port that has the attachment's name.
    """
    if SOCKET in recorded:  # there is no device to be seen
        return recorded.get("contNetns") == attachment.netns
    return sandbox.netlink.link(attachment.ifname) is not None


def remove_files(name: str, recorded: dict[str, str]) -> None:
    """Remove the files of a port, if it is of a kind that has some; they may be gone already.

    Before its row: if we are killed in between, the row still tells of them.

    Args:
        name: of the port.
        recorded: its external_ids.
    """
    if SOCKET in recorded:
        from . import vhost_user  # noqa: PLC0415 - start-up time, for a port without files

        vhost_user.remove_files(name, recorded)


def refuse_kernel_datapath(datapath_type: str, config: NetworkConfig, reason: str) -> None:
    """Raises CniError INVALID_CONFIG unless the bridge has the userspace datapath; `reason` says why it must."""
    if datapath_type != USERSPACE:
        raise CniError(
            INVALID_CONFIG,
            f"'interface_type' {config.interface_type!r} needs a bridge with datapath_type={USERSPACE},"
            f" and {config.bridge!r} has datapath_type={datapath_type or 'system'}",
            f"{reason}; use 'interface_type' veth or internal there",
        )

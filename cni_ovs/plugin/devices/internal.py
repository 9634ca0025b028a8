"""An Open vSwitch internal port, moved into the container.

Open vSwitch makes the device when it sees the row, and removes it with the row, wherever it is then. The device
keeps its name in the container and carries CNI_IFNAME as an alternative name: on the kernel datapath ovs-vswitchd
destroys an internal port that was moved and renamed, the next time any port is added (openvswitch/ovs-issues 68, 158,
284).
"""

from __future__ import annotations

from errno import EEXIST

from ..errors import KERNEL_REFUSED, CniError
from ..netlink import KernelError
from . import Ends, taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..attachment import Attachment
    from ..config import NetworkConfig
    from ..deadline import Deadline
    from ..netlink import Link, Netlink
    from ..netns import Namespace

MADE_BY_OPEN_VSWITCH = True
IS_GIVEN_BACK = False
COLUMNS: tuple[str, ...] = ()


def prepare(datapath_type: str, open_vswitch: dict[str, Any], attachment: Attachment, config: NetworkConfig) -> None:
    """Nothing: every bridge can have it."""


def columns(attachment: Attachment, config: NetworkConfig) -> dict[str, Any]:
    """The type, and the MTU, which belongs to Open vSwitch."""
    row: dict[str, Any] = {"type": config.interface_type}
    if config.mtu is not None:
        row["mtu_request"] = config.mtu
    return row


def create(host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> None:
    """Nothing is made yet; only see that the name is free."""
    if sandbox.netlink.link(attachment.ifname) is not None:
        raise taken(attachment)


def mac(host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> bytes:
    """What is configured, or what Open vSwitch has chosen."""
    return config.mac or _on_host(host, attachment).mac


def connect(host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> Ends:
    """Move the device into the sandbox, and give it its alternative name, MAC and MTU."""
    name = attachment.port_name
    link = _on_host(host, attachment)
    try:
        host.move(link.index, sandbox.fd)
        # Its index may have changed: it was perhaps taken there.
        link = _expect(sandbox.netlink.link(name), name)
        sandbox.netlink.add_altname(link.index, attachment.ifname)
        if config.mac is not None:
            sandbox.netlink.set_mac(link.index, config.mac)
        if config.mtu is not None and link.mtu != config.mtu:
            sandbox.netlink.set_mtu(link.index, config.mtu)
        return Ends(None, _expect(sandbox.netlink.link(name), name))
    except KernelError as error:
        if error.errno == EEXIST:
            raise taken(attachment) from error
        raise CniError(
            KERNEL_REFUSED, f"port {name!r} cannot become {attachment.ifname!r} in the sandbox: {error.strerror}"
        ) from error


def _on_host(host: Netlink, attachment: Attachment) -> Link:
    name = attachment.port_name
    link = host.link(name)
    if link is None:
        raise CniError(
            KERNEL_REFUSED,
            f"Open vSwitch made port {name!r}, but there is no such interface in this network namespace",
            "the plugin must run in the network namespace that ovs-vswitchd runs in",
        )
    return link


def bring_up(host: Netlink, sandbox: Namespace, ends: Ends, deadline: Deadline) -> None:
    """Set it up; Open vSwitch's side of it is up from the beginning."""
    sandbox.netlink.set_up(ends.container.index)


def destroy(host: Netlink, name: str) -> None:
    """Nothing: the device goes with its row."""


def destroy_orphan(inside: Netlink, name: str) -> None:
    """Delete the device that is still in the sandbox although its row and ovs-vswitchd have gone their way.

    On the userspace datapath an internal port is a persistent tap: it outlives the ovs-vswitchd that made it, and the
    next one makes another tap for the port, on the host.
    """
    link = inside.link(name)
    if link is not None and link.name == name and link.kind == "tun":
        inside.delete_link(name)


def _expect(link: Link | None, name: str) -> Link:
    if link is None:
        raise CniError(KERNEL_REFUSED, f"interface {name!r} vanished while it was being attached")
    return link

"""A veth pair: one end is the port, the other is the container's interface (the default)."""

from __future__ import annotations

from errno import EAFNOSUPPORT, EEXIST

from .. import log
from ..deadline import READABLE
from ..errors import KERNEL_REFUSED, CniError
from ..netlink import WATCH_LINKS, KernelError, Netlink
from ..netns import write_sysctl
from . import Ends, taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..attachment import Attachment
    from ..config import NetworkConfig
    from ..deadline import Deadline
    from ..netlink import Link
    from ..netns import Namespace

MADE_BY_OPEN_VSWITCH = False
IS_GIVEN_BACK = False
COLUMNS: tuple[str, ...] = ()


def prepare(datapath_type: str, open_vswitch: dict[str, Any], attachment: Attachment, config: NetworkConfig) -> None:
    """Nothing: every bridge can have it."""


def columns(attachment: Attachment, config: NetworkConfig) -> dict[str, Any]:
    """A type that Open vSwitch takes for a device that is there."""
    return {"type": ""}


def create(host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> None:
    """Create the pair, the container's end within the sandbox, and the host's end up."""
    name = attachment.port_name
    try:
        try:
            # Promiscuous, because Open vSwitch makes every port so, and for each change of a link ovs-vswitchd goes
            # through all its ports once more (if_notifier): a quarter of a second with 4,000 of them, in which it
            # forwards nothing on the userspace datapath.
            _create_pair(host, sandbox, attachment, config)
        except KernelError as error:
            if error.errno != EEXIST:
                raise
            if sandbox.netlink.link(attachment.ifname) is not None:
                raise taken(attachment) from error
            # The host's end is there and the container's is not: an earlier attachment of this very name, whose
            # container got a new namespace, was never detached.
            log.warning(f"replacing interface {name!r}, left behind by an earlier attachment")
            destroy(host, name)
            _create_pair(host, sandbox, attachment, config)
        try:
            _keep_without_address(host, name)
        except BaseException:
            host.delete_link(name)
            raise
    except KernelError as error:
        raise CniError(
            KERNEL_REFUSED, f"veth pair {name!r} / {attachment.ifname!r} cannot be made: {error.strerror}"
        ) from error


def _create_pair(host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> None:
    name = attachment.port_name
    try:
        # Nothing that a container sends passes before `bring_up` if it is to be checked: then this end is down.
        up = not config.checks_spoofing
        host.create_veth(name, attachment.ifname, sandbox.fd, config.mtu, config.mac, up=up)
    except KernelError:
        raise  # the kernel has refused, and nothing is made
    except OSError:
        # Its answer has not come through (no memory for the message, say), so the pair may be there. The name is nobody
        # else's: Open vSwitch would have had a port of it.
        destroy(host, name)
        raise


def _keep_without_address(host: Netlink, name: str) -> None:
    # The host's end belongs to the bridge. It is up, but gets a link-local address only once it has a carrier.
    try:
        host.no_ipv6_address(name)
    except KernelError as error:
        if error.errno != EAFNOSUPPORT:
            raise
        log.debug(f"{name!r} has no IPv6: the kernel has none, or the MTU is below 1280")


def mac(host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> bytes:
    """That which the container's end has."""
    return _inner(sandbox, attachment).mac


def connect(host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> Ends:
    """Nothing is left to bring anywhere; returns both ends."""
    # Nor does the host's end take an address from a container's advertisements. None comes before the other end is up.
    try:
        write_sysctl(f"ipv6/conf/{attachment.port_name}/accept_ra", "0")
    except OSError as error:
        log.debug(f"accept_ra of {attachment.port_name!r} cannot be switched off: {error.strerror}")
    outer = host.link(attachment.port_name)
    if outer is None:
        raise CniError(KERNEL_REFUSED, f"interface {attachment.port_name!r} vanished while it was being attached")
    return Ends(outer, _inner(sandbox, attachment))


def _inner(sandbox: Namespace, attachment: Attachment) -> Link:
    link = sandbox.netlink.link(attachment.ifname)
    if link is None:
        raise CniError(KERNEL_REFUSED, f"interface {attachment.ifname!r} vanished while it was being attached")
    return link


def bring_up(host: Netlink, sandbox: Namespace, ends: Ends, deadline: Deadline) -> None:
    """Set the container's end up, and wait until the host's end has noticed.

    It has a carrier only since then, and drops every packet until the kernel's link watch has run. (A kernel of 6.8 or
    newer runs that when it is asked for the link, so there is nothing to wait for.)
    """
    sandbox.netlink.set_up(ends.container.index)
    index = ends.host.index if ends.host else 0
    watch = None
    try:
        while True:
            link = host.link(index)
            if link is None:
                raise CniError(KERNEL_REFUSED, f"interface {index} vanished while it was being attached")
            if link.running:
                return
            if not link.up:
                host.set_up(index, promiscuous=True)
            if watch is None:
                watch = Netlink(WATCH_LINKS)  # and look once more: it may have happened just before
            else:
                deadline.wait(f"waiting for interface {link.name!r} to pass packets", (watch.fileno(), READABLE))
                watch.drain()
    finally:
        if watch is not None:
            watch.close()


def destroy(host: Netlink, name: str) -> None:
    """Delete the pair."""
    link = host.link(name)
    if link is not None and link.kind == "veth":
        host.delete_link(name)

"""Giving back a VF and its representor: the VF with its name, MAC and MTU, as the port's external_ids record them.

The row of the port is removed after this: whoever is killed in between, the next DEL or GC goes on. A namespace that is
deleted gives a VF back by itself, under a name that it had or one of the kernel's (`dev7`), so a VF is found by its PCI
address.
"""

from __future__ import annotations

import posix
from errno import EEXIST

from .. import attachment as attachments
from .. import log, sriov
from ..deadline import READABLE
from ..errors import CniError
from ..forms import ifname_problem, pci_address
from ..inet import format_mac, parse_mac
from ..netlink import WATCH_LINKS, KernelError, Link, Netlink
from ..netns import OWN, SHORTAGE, open_if_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..deadline import Deadline
    from ..netns import Namespace
    from ..vswitch import Vswitch

# How long the kernel may take to give back the VF of a namespace that has just been deleted.
_RETURN_SECONDS = 3.0
# How long ovs-vswitchd may take to notice that a representor is down; when it is not running, it does not matter.
_NOTICE_SECONDS = 0.3
_TRIES = 3
_LOOPBACK = 1  # the index of `lo` in every namespace
_ANY_NAME = "dev%d"  # the kernel's own pattern for an interface that comes back from a namespace


def give_back(
    vswitch: Vswitch, representor: str, recorded: dict[str, str], deadline: Deadline, sandbox: Namespace | None = None
) -> None:
    """Bring a VF back to the host, and make it and its representor what they were before ADD.

    What is gone already, or as it was, is done. The namespace is not needed, but a VF that comes back from one that has
    just been deleted is waited for.

    Args:
        vswitch: where the port is, still.
        representor: name of the port.
        recorded: its external_ids.
        deadline: for the wait.
        sandbox: the container's namespace, if it is open already.

    Raises:
        KernelError: the VF is in the container, and cannot be moved.
    """
    host = Netlink()
    if _is_known(recorded):
        _restore(host, recorded, sandbox, deadline)
    link = host.link(representor)
    if link is not None:
        _reset(host, link, None, None, recorded.get("contRepresentorMtu"))
        if recorded.get("contRepresentorState") == "down":
            _set_down(vswitch, host, link.index, deadline)


def _restore(host: Netlink, recorded: dict[str, str], sandbox: Namespace | None, deadline: Deadline) -> None:
    link = on_host(host, recorded)
    if link is None:
        opened = None if sandbox else open_if_there(recorded.get("contNetns", ""))
        sandbox = sandbox or opened
        moved = sandbox is not None and _move_back(sandbox, recorded)
        if opened is not None:
            opened.close()
        if not moved:
            # Open vSwitch has half of the time, and needs some of it afterwards.
            patience = deadline.shorter(min(_RETURN_SECONDS, deadline.remaining() / 4))
            _wait_for_return(host, recorded, patience, deadline)
        link = on_host(host, recorded)
    if link is None:
        log.warning(f"VF {recorded[attachments.DEVICE]} is not there any more")
    else:
        _reset(host, link, recorded["contVfName"], recorded.get("contVfMac"), recorded.get("contVfMtu"))


def _set_down(vswitch: Vswitch, host: Netlink, index: int, deadline: Deadline) -> None:
    """Set a representor down, so that it stays so.

    ovs-vswitchd changes the flags of an interface that it opens or closes, and writes with them whether it is up, as
    far as it knows. So the row may go when it knows.
    """
    for _ in range(_TRIES):
        link = host.link(index)
        if link is None or not link.up:
            return
        host.set_down(index)
        try:
            vswitch.wait_until_seen_down(link.name, deadline.shorter(_NOTICE_SECONDS))
        except CniError as error:
            log.debug(f"nobody has said that {link.name!r} is down: {error.msg}")


def _is_known(recorded: dict[str, str]) -> bool:
    """Whether this is the record of a VF that went into a container, in a form that can be acted upon."""
    name = recorded.get("contVfName")
    if not name:
        return False
    try:
        address = pci_address(recorded.get(attachments.DEVICE, ""))
    except ValueError:
        address = None
    if address is None or ifname_problem(name) or not (sriov.is_function(address) or not sriov.exists(address)):
        log.warning("what is recorded of a VF makes no sense; it is left where it is")
        return False
    return True


def is_it(link: Link, address: str, kind: str) -> bool:
    """Whether an interface is that of the VF; a container may have made another one of that name.

    The kernel tells by its parent, since Linux 5.14. Of hardware it tells no kind, and nobody can make such a device;
    but every namespace has `lo`.
    """
    return link.index != _LOOPBACK and link.parent in ("", address) and link.kind == kind


def on_host(host: Netlink, recorded: dict[str, str]) -> Link | None:
    """The interface of a VF, if it is in the host's namespace."""
    address = recorded[attachments.DEVICE]
    for name in sriov.interfaces(address):
        link = host.link(name)
        if link is not None and is_it(link, address, recorded.get("contVfKind", "")):
            return link
    return None


def _move_back(sandbox: Namespace, recorded: dict[str, str]) -> bool:
    """Move the VF out of the container; False if it is not there."""
    address, kind, ifname = recorded[attachments.DEVICE], recorded.get("contVfKind", ""), recorded.get("contIface", "")
    inside = sandbox.netlink
    links = inside.links()
    link = next((found for found in links if found.parent == address), None)  # also if the container has renamed it
    for name in (ifname, recorded["contVfName"]):  # the latter if ADD was stopped by a name that was taken
        link = link or next((found for found in links if found.name == name and is_it(found, address, kind)), None)
    if link is None:
        return False
    fd = posix.open(OWN, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        try:
            inside.move(link.index, fd, recorded["contVfName"])
        except KernelError as error:
            if error.errno != EEXIST:
                raise
            # Somebody has an interface of its name. It may be on the host, then with the name that it had in the
            # container, or still there, because that name is taken as well.
            log.warning(f"the name {recorded['contVfName']!r} of VF {address} is taken; it gets another one")
            if inside.link(link.index) is not None:
                inside.move(link.index, fd, _ANY_NAME)
    finally:
        posix.close(fd)
    return True


def _wait_for_return(host: Netlink, recorded: dict[str, str], patience: Deadline, deadline: Deadline) -> None:
    """The kernel cleans a namespace up when the last process has left it, and it has time for that."""
    address = recorded[attachments.DEVICE]
    watch = Netlink(WATCH_LINKS)
    try:
        while on_host(host, recorded) is None and sriov.exists(address) and patience.remaining():
            wait(watch, patience, deadline)
    finally:
        watch.close()


def wait(watch: Netlink, patience: Deadline, deadline: Deadline) -> None:
    """Wait for a change of a link, or until a patience is over that is shorter than the command's time."""
    try:
        patience.wait("waiting for the interface of a VF", (watch.fileno(), READABLE))
        watch.drain()
    except CniError:
        if patience.remaining() or not deadline.remaining():
            raise  # a signal, or the command's time is over


def _reset(host: Netlink, link: Link, name: str | None, mac: str | None, mtu: str | None) -> None:
    """Give an interface its name, MAC and MTU again. It is where it belongs, so what is refused is only reported.

    Raises:
        KernelError: the kernel was short of something; it may be tried again.
    """
    steps: list[Callable[[], None]] = []
    if name is not None and link.up:
        steps.append(lambda: host.set_down(link.index))
    if name is not None and link.name != name:
        steps.append(lambda: host.rename(link.index, name))
    if mac is not None and format_mac(link.mac) != mac:
        steps.append(lambda: host.set_mac(link.index, parse_mac(mac)))
    if mtu is not None and str(link.mtu) != mtu:
        steps.append(lambda: host.set_mtu(link.index, _number(mtu)))
    for step in steps:
        try:
            step()
        except (KernelError, ValueError) as error:
            if isinstance(error, KernelError) and error.errno in SHORTAGE:
                raise
            log.warning(f"interface {link.name!r} does not become what it was: {error}")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise ValueError(f"{text[:20]!r} is no MTU")
    return int(text)

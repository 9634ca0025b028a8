"""DEL: detach a container. What is gone already is done; the namespace is not needed."""

from __future__ import annotations

from . import at_work, devices, log
from . import attachment as attachments
from .attachment import CLAIM, DEVICE, FLOWS, IFB, RATE_LIMITER
from .errors import IO_FAILURE, KERNEL_REFUSED, CniError
from .netlink import KernelError, Netlink
from .netns import open_if_there
from .vswitch import Vswitch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .attachment import Attachment
    from .config import NetworkConfig
    from .deadline import Deadline
    from .protocol import Invocation
    from .vswitch import Port

# How long to wait until ovs-vswitchd has removed a device of its own. When it is not running, the device goes as soon
# as it is again; that is no reason to keep a container from being removed.
_DEVICE_SECONDS = 3.0


class Errors:
    """Collects errors of steps that do not depend on each other; the first one is reported."""

    def __init__(self) -> None:
        self._found: list[CniError] = []

    def attempt(self, step: Callable[..., object], *arguments: object) -> bool:
        """Carry out a step; False if it failed, or returned False because somebody else is doing it."""
        try:
            return step(*arguments) is not False
        except CniError as error:
            self._add(error)
            return False
        except OSError as error:
            code = KERNEL_REFUSED if isinstance(error, KernelError) else IO_FAILURE
            self._add(CniError(code, f"something cannot be removed: {error}"))
            return False

    def _add(self, error: CniError) -> None:
        if self._found:
            log.warning(error.msg)  # the first one is logged when it is reported
        self._found.append(error)

    def raise_first(self) -> None:
        """Raise the first error, if there was one."""
        if self._found:
            raise self._found[0]


def run(invocation: Invocation, config: NetworkConfig, deadline: Deadline) -> None:
    """Detach the container.

    Raises:
        CniError: TRY_AGAIN_LATER, when Open vSwitch cannot be reached; everything else has been removed then.
    """
    attachment = attachments.of(invocation, config)
    at_work.wait_for_end(attachment.port_name, deadline)
    vswitch = detach(attachment, invocation, config, deadline)
    if vswitch is not None and vswitch.suspects:
        from . import stale  # noqa: PLC0415 - start-up time, for something rare

        stale.sweep(vswitch, vswitch.suspects, invocation, config, deadline)


def detach(
    attachment: Attachment, invocation: Invocation, config: NetworkConfig, deadline: Deadline, *, wait: bool = False
) -> Vswitch | None:
    """Remove everything that belongs to an attachment: port, device and address.

    Args:
        attachment: whose they are.
        invocation, config: for the IPAM plugin.
        deadline: for everything.
        wait: also wait until ovs-vswitchd has noticed, so that the port's name can be used again.

    Returns:
        The connection to Open vSwitch.

    Raises:
        CniError: the first error, after everything that could be done was done.
    """
    errors = Errors()
    removed = foreign = False
    ports: list[Port] = []
    vswitch: Vswitch | None = None

    def remove() -> None:
        nonlocal removed, foreign, ports, vswitch
        vswitch = open_vswitch(config, deadline)
        notes = None
        if config.ipam_type is not None:
            from . import detaching  # noqa: PLC0415 - an attachment without addresses needs none of it

            notes = detaching.note(attachment.port_name, attachment.external_ids)
        done = False
        while not done:
            ports, foreign = vswitch.ports_of(attachment)
            log.debug(f"ports of this attachment: {', '.join(port.name for port in ports) or 'none'}")
            if any(CLAIM in port.external_ids for port in ports):
                from . import stale  # noqa: PLC0415 - start-up time, for something rare

                # Another command is returning the address just now, which an ADD that follows may be given.
                stale.wait_for_end(vswitch, ports, deadline)
            done = remove_ports(vswitch, ports, deadline, wait=wait, notes=notes)
        removed = bool(ports)

    def release() -> None:
        from . import detaching  # noqa: PLC0415 - see remove

        if vswitch is not None:
            vswitch.use(deadline)
        # A database that has not answered would keep us once more. This DEL fails, and the next takes the note away.
        known = vswitch if reached else None
        detaching.return_address(known, attachment.port_name, invocation, config, deadline)

    reached = errors.attempt(remove)
    if reached and vswitch is not None:
        # After the row: as long as there is a port, nothing forged may leave it.
        errors.attempt(remove_rules, vswitch, ports, config, deadline, None if removed else attachment)
    if reached and attachment.netns and config.interface_type in devices.MOVED:
        errors.attempt(lambda: destroy_orphan(attachment))
    if not removed and not foreign:
        # Nothing is recorded, or it cannot be asked for. A veth can be found by its name.
        errors.attempt(lambda: devices.of("veth").destroy(Netlink(), attachment.port_name))
        if config.vhost_user is not None:
            errors.attempt(config.vhost_user.remove_files, attachment)
    # While a port of Open vSwitch's own, or a VF, that could not be removed still uses its address, nobody else may get
    # it.
    if config.ipam_type is not None and (reached or (config.interface_type == "veth" and not config.device_id)):
        errors.attempt(release)
    errors.raise_first()
    return vswitch


def open_vswitch(config: NetworkConfig, deadline: Deadline) -> Vswitch:
    """Open vSwitch, for half of the time that is left: when it does not answer, the rest is for the address."""
    return Vswitch(config.socket_file, vswitch_time(deadline))


def vswitch_time(deadline: Deadline) -> Deadline:
    """What Open vSwitch may take."""
    return deadline.shorter(deadline.remaining() / 2)


def remove_ports(
    vswitch: Vswitch,
    ports: list[Port],
    deadline: Deadline,
    *,
    wait: bool = False,
    notes: dict[str, str] | None = None,
) -> bool:
    """Remove ports and their devices; `wait` as for `detach`, `notes` as for Vswitch.remove.

    Returns:
        False if nothing was done, because one of them is gone or its external_ids have changed since they were read.
    """
    for port in ports:
        devices.remove_files(port.name, port.external_ids)
        if port.external_ids.get(RATE_LIMITER) == IFB:
            from . import bandwidth  # noqa: PLC0415 - start-up time, for a port without limits

            # First, because only the port tells of it.
            bandwidth.remove_ifb(port.external_ids.get("contNetns", ""), port.name)
        if DEVICE in port.external_ids:
            from .devices import vf_release  # noqa: PLC0415 - start-up time, for a port without one

            # First, because the row tells what it was like.
            vf_release.give_back(vswitch, port.name, port.external_ids, deadline)
    done, number = vswitch.remove_unchanged(ports, notes)
    if not done:
        return False
    if wait and number is None:
        number = vswitch.ask_for_notice()  # somebody else has removed it just now
    host = Netlink()
    for port in ports:
        if DEVICE in port.external_ids:
            continue
        kind = devices.of(port.interface_type)
        # After the row: ovs-vswitchd would complain of a device that vanishes under it. Not waiting for it in between
        # lets it work while the kernel does.
        kind.destroy(host, port.name)
        wait |= kind.MADE_BY_OPEN_VSWITCH
    if wait and not vswitch.wait_until_configured(number, deadline.shorter(_DEVICE_SECONDS)):
        log.warning("ovs-vswitchd has not removed the device yet; it will when it runs again")
    return True


def remove_rules(
    vswitch: Vswitch, ports: list[Port], config: NetworkConfig, deadline: Deadline, gone: Attachment | None = None
) -> None:
    """Remove the OpenFlow rules of ports whose rows are gone.

    Args:
        vswitch: where the ports were.
        ports: which.
        config: where Open vSwitch is.
        deadline: the command's.
        gone: an attachment that has no port any more: a DEL that was killed may have removed that alone.

    Raises:
        CniError: the bridge does not answer.
    """
    rules = [(port.external_ids[FLOWS], port.external_ids) for port in ports if FLOWS in port.external_ids]
    if gone is not None and config.checks_spoofing:
        # Without `bridge` it is that of a VF's uplink, which may have another one by now.
        bridges = [config.bridge] if config.bridge else vswitch.bridge_names()
        rules += [(bridge, gone.identity) for bridge in bridges]
    if rules:
        from . import spoofing  # noqa: PLC0415 - start-up time, for a port without rules

        for bridge, identity in rules:
            spoofing.remove(config, bridge, attachments.name_of(identity), vswitch_time(deadline))


def destroy_orphan(attachment: Attachment) -> None:
    """Delete the device that an internal port, or a tap, has left in the container; see devices/internal.py."""
    from .devices import internal  # noqa: PLC0415 - a veth has none

    sandbox = open_if_there(attachment.netns)
    if sandbox is not None:
        internal.destroy_orphan(sandbox.netlink, attachment.port_name)
        sandbox.close()

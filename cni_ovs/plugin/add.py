"""ADD: attach a container to a bridge. Nothing is left behind unless it succeeds."""

from __future__ import annotations

import posix

from . import at_work, devices, log
from . import attachment as attachments
from .errors import INVALID_CONFIG, INVALID_NETNS, KERNEL_REFUSED, NAME_TAKEN, CniError
from .inet import format_mac
from .insertion import Insertion
from .netlink import KernelError, Netlink
from .netns import Namespace, is_own
from .result import Result, needs_address, parse, render
from .vswitch import USERSPACE, Vswitch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable
    from typing import Any

    from .attachment import Attachment
    from .config import NetworkConfig
    from .deadline import Deadline
    from .devices import Device, Ends
    from .ipam import Delegate
    from .protocol import Invocation
    from .spoofing import Guard
    from .vswitch import Port

# What undoing may take beyond the command's timeout: the port, its rules, its address, and the note of that one wait
# for others.
_UNDO_SECONDS = 0.9
_SLOW_STEPS = 4
# How long an IPAM plugin may take to end after something else has failed. A runtime that sent SIGTERM waits for us.
_IPAM_END_SECONDS = 2.0


class _Undo:
    """What has to be undone, and in which order."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._steps: list[tuple[str, Callable[[Deadline], object]]] = []
        self.returns_address = False
        self.gives_back = False  # the device, since something may have been done to it
        self.vswitch: Vswitch | None = None  # the connection over which the port was withdrawn, if one has worked

    def push(self, what: str, step: Callable[[Deadline], object]) -> None:
        """Undo this before everything that was pushed earlier."""
        self._steps.append((what, step))

    def push_last(self, what: str, step: Callable[[Deadline], object]) -> None:
        """Undo this after everything else."""
        self._steps.insert(0, (what, step))

    def run(self) -> None:
        """Undo everything; a step that fails is logged, and the others are still done."""
        for what, step in reversed(self._steps):
            try:
                step(self._deadline.unstoppable(self._deadline.remaining() + _UNDO_SECONDS / _SLOW_STEPS))
            except Exception as error:  # noqa: BLE001 - whatever it is, the first error is the one to report
                log.error(f"undoing {what} failed: {error}")


def run(
    invocation: Invocation, config: NetworkConfig, deadline: Deadline, given: Result | None = None
) -> dict[str, Any]:
    """Attach the container; returns the CNI result.

    Args:
        invocation, config, deadline: the command's.
        given: addresses and routes that the caller has already, for a configuration without IPAM. Stale ports are left
            alone then: nothing says how to return their addresses.

    Raises:
        CniError: what went wrong first; everything done before is undone.
    """
    attachment = attachments.of(invocation, config)
    result = _previous_result(config)
    if needs_address(invocation.version) and config.ipam_type is None and given is None:
        raise CniError(
            INVALID_CONFIG,
            f"cniVersion {invocation.version!r} cannot express a result without an address, and 'ipam' is not set",
            "use cniVersion 0.3.0 or newer",
        )
    if is_own(invocation.netns) and not invocation.override:
        raise CniError(INVALID_NETNS, f"CNI_NETNS {invocation.netns!r} is the network namespace of the plugin itself")
    sandbox = Namespace(invocation.netns)
    if posix.geteuid() != 0:
        sandbox.open_netlink().close()  # says at once that it may not be entered, if so
    sign = at_work.begin(attachment.port_name, deadline)
    try:
        return _attach(invocation, config, attachment, sandbox, result, sign, deadline, given)
    finally:
        if sign is not None:
            at_work.end(sign)


def _attach(
    invocation: Invocation,
    config: NetworkConfig,
    attachment: Attachment,
    sandbox: Namespace,
    result: Result,
    sign: socket | None,
    deadline: Deadline,
    given: Result | None,
) -> dict[str, Any]:
    device, port = devices.of(config.interface_type), attachment
    if config.device_id is not None:
        device, port = _find_function(config.device_id, attachment, config, deadline)
    insertion = Insertion(config, port, device, deadline)
    host = Netlink()
    datapath_type, existing = insertion.prepare()
    device.prepare(datapath_type, insertion.open_vswitch, port, config)
    if existing is not None:
        if devices.is_attached(sandbox, attachment, existing.external_ids):
            raise devices.taken(attachment)
        _replace(existing, attachment, invocation, config, deadline)
    undo = _Undo(deadline)
    guard: Guard | None = None

    def create() -> None:
        device.create(host, sandbox, port, config)
        log.debug(f"made the device of port {port.port_name!r}")
        if not device.IS_GIVEN_BACK:
            # After the port: ovs-vswitchd would complain of a device that vanishes under it.
            undo.push_last("the device", lambda _: device.destroy(host, port.port_name))
        undo.push_last("its files", lambda _: devices.remove_files(port.port_name, port.external_ids))

    def withdraw(time: Deadline) -> None:
        if undo.gives_back:
            from .devices import vf_release  # noqa: PLC0415 - start-up time, for a port without one

            insertion.use(time)
            # If that fails, the row is left to DEL, which needs what is recorded there.
            vf_release.give_back(insertion, port.port_name, port.external_ids, time, sandbox)
        _withdraw(insertion, attachment, config, time, device, undo)

    def set_guard() -> None:
        """Put up the rules, before anything that the container sends can reach the bridge."""
        from . import spoofing  # noqa: PLC0415 - start-up time, for a port without rules

        nonlocal guard
        guard = spoofing.Guard(config, attachment, insertion.number, device.mac(host, sandbox, port, config))
        undo.push_last("the OpenFlow rules", remove_rules)
        guard.begin(deadline)

    def remove_rules(time: Deadline) -> None:
        # As long as there is a port, they stay. What is recorded there tells DEL of them.
        if guard is not None and undo.vswitch is not None:
            guard.remove(time)

    def connect() -> Ends | None:
        undo.gives_back = device.IS_GIVEN_BACK
        if config.checks_spoofing:
            set_guard()
        ends = device.connect(host, sandbox, port, config)
        if ends is None:
            return None
        if datapath_type == USERSPACE and not device.IS_GIVEN_BACK:
            _switch_off_offload(sandbox.netlink, ends.container.name)
        if config.bandwidth is not None:
            from . import bandwidth  # noqa: PLC0415 - start-up time, for a port without limits

            name, open_vswitchs = attachment.port_name, insertion.limits_rates
            undo.push("the limits", lambda _: bandwidth.remove_ifb(attachment.netns, name))
            bandwidth.limit(sandbox, ends.container, name, config.bandwidth, open_vswitchs=open_vswitchs)
        # As early as possible: each change of a link that ovs-vswitchd hears of when it has the port already keeps it
        # from forwarding for a moment. Addresses have to wait, because what they send must be heard.
        device.bring_up(host, sandbox, ends, deadline)
        return ends

    try:
        # As long as it was not sent, undoing it is nothing.
        undo.push("the port", withdraw)
        port_first = insertion.has_many_ports and _may_follow(device, host, sandbox, port)
        if port_first:
            # ovs-vswitchd goes through all its ports for each change of a link and for each change of the database, and
            # opens new devices only after that (bridge_reconfigure). So it finds this one, and has gone through them
            # once, not twice.
            insertion.begin()
            insertion.confirm()
            create()
        else:
            # Through few ports it would have gone before there is a device. It would complain, and take it next time.
            create()
            insertion.begin()
            if device.IS_GIVEN_BACK:
                insertion.confirm()
        insertion.ask()
        delegate = None
        if config.ipam_type not in (None, "dhcp"):
            delegate = _start_ipam(invocation, config, insertion, attachment, undo, sign)
        early = not (device.MADE_BY_OPEN_VSWITCH or device.IS_GIVEN_BACK or config.checks_spoofing)
        if early:
            ends = connect()  # while ovs-vswitchd is at work
        insertion.finish()
        log.debug(f"ovs-vswitchd has taken port {port.port_name!r} on bridge {config.bridge!r}")
        if insertion.limits_rates:
            from . import bandwidth  # noqa: PLC0415 - start-up time, for a port without limits

            bandwidth.check_queue(host, port.port_name, config)
        if not early:
            ends = connect()
        elif port_first and ends is not None:
            # In case ovs-vswitchd opened the device in the very moment in which it was made: it changes flags in two
            # steps (it reads them, and sets all), and may have set it down again.
            device.bring_up(host, sandbox, ends, deadline)
        if config.ipam_type == "dhcp":
            # Its client speaks over the interface.
            delegate = _start_ipam(invocation, config, insertion, attachment, undo, sign)
        _add_interfaces(result, ends, attachment, config)
        answer = given if delegate is None else _addresses(delegate, deadline)
        if answer is not None:
            _add_addresses(result, answer, sandbox, ends, guard, deadline)
        if config.dns:
            result.dns = config.dns
        rendered = render(result, invocation.version)
    except BaseException as error:
        undo.run()
        if isinstance(error, KernelError):
            raise CniError(KERNEL_REFUSED, f"the kernel refused a change: {error.strerror}") from error
        raise
    if insertion.suspects and given is None:
        from . import stale  # noqa: PLC0415 - start-up time, for something rare

        stale.sweep(insertion, insertion.suspects, invocation, config, deadline)
    return rendered


def _find_function(
    device_id: str, attachment: Attachment, config: NetworkConfig, deadline: Deadline
) -> tuple[Device, Attachment]:
    """The VF, and the attachment whose port is its representor; the bridge is that of its uplink, if none is given."""
    from .devices import vf  # noqa: PLC0415 - start-up time, for a port without one

    function = vf.VirtualFunction(device_id)
    config.bridge = config.bridge or function.bridge(config, deadline)
    return function, attachments.with_port(attachment, function.representor)


def _previous_result(config: NetworkConfig) -> Result:
    """The result to go on with: that of the plugin before us in the chain, or an empty one."""
    if config.prev_result is None:
        return Result()
    try:
        return parse(config.prev_result)
    except ValueError as error:
        raise CniError(INVALID_CONFIG, f"invalid 'prevResult': {error}") from error


def _may_follow(device: Device, host: Netlink, sandbox: Namespace, attachment: Attachment) -> bool:
    """Whether the device may be made when ovs-vswitchd knows of the port already.

    Not where one of its name is left over: ovs-vswitchd would take that one, and not notice that it is replaced.

    Raises:
        CniError: NAME_TAKEN, when CNI_IFNAME exists in the sandbox.
    """
    if device.MADE_BY_OPEN_VSWITCH or device.IS_GIVEN_BACK or host.link(attachment.port_name) is not None:
        return False
    if sandbox.netlink.link(attachment.ifname) is not None:
        raise devices.taken(attachment)
    return True


def _replace(
    existing: Port,
    attachment: Attachment,
    invocation: Invocation,
    config: NetworkConfig,
    deadline: Deadline,
) -> None:
    """Make room: the port of our name is that of an earlier ADD of this attachment, whose interface is gone.

    It was killed half way, or the node was restarted, and nobody has called DEL.

    Raises:
        CniError: NAME_TAKEN, when the port is somebody else's.
    """
    recorded = existing.external_ids
    if any(recorded.get(key) != value for key, value in attachment.identity.items()):
        raise CniError(
            NAME_TAKEN, f"port {existing.name!r} belongs to somebody else", f"its external_ids are {recorded}"
        )
    log.warning(f"replacing port {existing.name!r}, left behind by an earlier attachment")
    from . import delete  # noqa: PLC0415 - start-up time, for something rare

    delete.detach(attachment, invocation, config, deadline, wait=True)


def _withdraw(
    insertion: Insertion,
    attachment: Attachment,
    config: NetworkConfig,
    deadline: Deadline,
    device: Device,
    undo: _Undo,
) -> None:
    """Remove the port that may have been inserted, and see that a device that goes with it has gone as well.

    If there may be an address, a note is left, so that GC returns it if we are killed before we have.
    """
    notes = None
    if undo.returns_address:
        from . import detaching  # noqa: PLC0415 - start-up time, for something rare

        notes = detaching.note(attachment.port_name, attachment.external_ids)
    insertion.use(deadline)
    vswitch: Vswitch = insertion
    try:
        number = insertion.withdraw(notes)
    except CniError as error:
        # The connection broke in between; what was sent may have been done.
        log.debug(f"connecting again: {error.msg}")
        vswitch = Vswitch(config.socket_file, deadline)
        _, number = vswitch.remove_unchanged(vswitch.ports_of(attachment)[0], notes)
    undo.vswitch = vswitch
    if device.MADE_BY_OPEN_VSWITCH:
        vswitch.wait_until_configured(number, deadline.shorter(_UNDO_SECONDS))


def _start_ipam(
    invocation: Invocation,
    config: NetworkConfig,
    insertion: Insertion,
    attachment: Attachment,
    undo: _Undo,
    sign: socket | None,
) -> Delegate:
    from . import ipam  # noqa: PLC0415 - an attachment without addresses needs none of it

    ipam.find(config.ipam_type or "", invocation.path)  # if it is not there, there is nothing to undo
    delegate: Delegate | None = None

    def release(deadline: Deadline) -> None:
        if delegate is not None:
            # It may still be at work, and must not give an address after we have returned it. At least half of the time
            # is for returning it.
            delegate.end(deadline.shorter(min(_IPAM_END_SECONDS, deadline.remaining() / 2)))
        ipam.run("DEL", invocation, config, deadline)

    def forget(deadline: Deadline) -> None:
        # Also if the address could not be returned: the runtime calls DEL after an ADD that has failed, and a network
        # whose IPAM refuses everything would leave a note for each try.
        from . import detaching  # noqa: PLC0415 - start-up time, for something rare

        vswitch = undo.vswitch or insertion
        vswitch.use(deadline)
        detaching.forget(vswitch, attachment.port_name, wait=undo.vswitch is not None)

    # Before it starts, because it may have given an address whatever goes wrong here. Undone last, so that nobody gets
    # the address while the port that has it is still there.
    undo.push_last("the address", release)
    undo.push_last("the note of it", forget)
    undo.returns_address = True
    delegate = ipam.Delegate("ADD", invocation, config, inherited=None if sign is None else sign.fileno())
    return delegate


def _switch_off_offload(inside: Netlink, name: str) -> None:
    """The userspace datapath passes packets on as they are, and the kernel leaves TCP checksums to the device."""
    from .ethtool import switch_off_transmit_checksum  # noqa: PLC0415 - the kernel datapath needs none of it

    try:
        switch_off_transmit_checksum(inside.fileno(), name)
    except OSError as error:
        raise CniError(
            KERNEL_REFUSED,
            f"transmit checksum offload of {name!r} cannot be switched off: {error.strerror}",
            "without that TCP does not work on a bridge with datapath_type=netdev",
        ) from error


def _add_interfaces(result: Result, ends: Ends | None, attachment: Attachment, config: NetworkConfig) -> None:
    """Our interfaces, behind those that are there already: the host's end first."""
    if ends is None:
        from .devices import vhost_user  # noqa: PLC0415 - start-up time, for a port with a device

        result.interfaces.append(vhost_user.interface(attachment, config))
        return
    if ends.host is not None:
        result.interfaces.append({"name": ends.host.name, "mac": format_mac(ends.host.mac), "mtu": ends.host.mtu})
    inner = ends.container
    # The name that the runtime asked for; an internal port has it as its alternative name.
    interface: dict[str, Any] = {"name": attachment.ifname}
    if not ends.is_driven:
        interface |= {"mac": format_mac(inner.mac), "mtu": inner.mtu}
    interface["sandbox"] = attachment.netns
    if ends.pci_address:
        interface["pciID"] = ends.pci_address
    result.interfaces.append(interface)


def _addresses(delegate: Delegate, deadline: Deadline) -> Result:
    """Wait for the IPAM plugin's answer."""
    from . import ipam  # noqa: PLC0415 - see _start_ipam

    answer = ipam.finish_add(delegate, deadline)
    log.debug(f"IPAM plugin {delegate.type!r} gave {', '.join(ip['address'] for ip in answer.ips)}")
    return answer


def _add_addresses(
    result: Result, answer: Result, sandbox: Namespace, ends: Ends | None, guard: Guard | None, deadline: Deadline
) -> None:
    """Put addresses and routes on the container's end, if that is a device, and into the result."""
    from . import addresses  # noqa: PLC0415 - see _start_ipam

    if guard is not None:
        guard.admit(answer.ips, deadline)
    if ends is not None and not ends.is_driven:
        addresses.configure(sandbox, ends.container, answer, deadline)
    index = len(result.interfaces) - 1
    result.ips += [{**ip, "interface": index} for ip in answer.ips]
    result.routes += answer.routes
    result.dns = answer.dns or result.dns

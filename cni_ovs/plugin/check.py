"""CHECK: whether an attachment is still as ADD left it.

What plugins behind us in the chain, and Multus, may do is allowed: more routes, another default route, another MAC
if it is in prevResult.
"""

from __future__ import annotations

from . import attachment as attachments
from . import devices
from .errors import CHECK_FAILED, INVALID_CONFIG, INVALID_NETNS, CniError
from .inet import format_ip, format_mac, network_of, parse_cidr
from .inspection import Inspection
from .netlink import RT_TABLE_MAIN, Netlink
from .netns import Namespace, is_own
from .ovsdb import map_of
from .result import Result, parse
from .vlans import ALL, effective_mode
from .vswitch import OVS_CNI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .attachment import Attachment
    from .config import NetworkConfig
    from .deadline import Deadline
    from .inspection import PortState
    from .netlink import Link
    from .protocol import Invocation
    from .vswitch import Port


def run(invocation: Invocation, config: NetworkConfig, deadline: Deadline) -> None:
    """Verify the attachment, and ask the IPAM plugin.

    Raises:
        CniError: CHECK_FAILED, saying what differs, what was expected and what was found.
    """
    verify(invocation, config, deadline)
    if config.ipam_type is not None:
        from . import ipam  # noqa: PLC0415 - an attachment without addresses needs none of it

        ipam.run("CHECK", invocation, config, deadline)


def verify(invocation: Invocation, config: NetworkConfig, deadline: Deadline) -> None:
    """Verify the port, both ends, our addresses and routes.

    Raises:
        CniError: as `run`.
    """
    if config.prev_result is None:
        raise CniError(INVALID_CONFIG, "required prevResult missing: CHECK needs the result of ADD")
    try:
        previous = parse(config.prev_result)
    except ValueError as error:
        raise CniError(INVALID_CONFIG, f"invalid 'prevResult': {error}") from error
    attachment = attachments.of(invocation, config)
    if is_own(invocation.netns) and not invocation.override:
        raise CniError(INVALID_NETNS, f"CNI_NETNS {invocation.netns!r} is the network namespace of the plugin itself")
    sandbox = Namespace(invocation.netns)
    try:
        _verify(sandbox.netlink, attachment, config, previous, deadline)
    finally:
        sandbox.close()  # the doctor verifies hundreds


def _verify(
    inside: Netlink, attachment: Attachment, config: NetworkConfig, previous: Result, deadline: Deadline
) -> None:
    if config.device_id is not None and not config.bridge:
        from .devices import vf  # noqa: PLC0415 - start-up time, for a port without one

        config.bridge = vf.VirtualFunction(config.device_id).bridge(config, deadline)
    vswitch = Inspection(config.socket_file, deadline)
    state = _check_port(vswitch, attachment, config)
    index, expected = _find_interface(previous, attachment)
    container = None
    if config.vhost_user is not None:
        config.vhost_user.check(attachment, expected, _same)
    else:
        container = _check_device(inside, state.port, attachment, config, previous, index)
    if container is not None and config.checks_spoofing:
        from . import spoofing  # noqa: PLC0415 - start-up time, for a port without rules

        has_controller, fail_mode = vswitch.control_of(config.bridge)
        spoofing.refuse(config, has_controller=has_controller, fail_mode=fail_mode, code=CHECK_FAILED)
        ours = [ip for ip in previous.ips if ip.get("interface") == index]
        spoofing.Guard(config, attachment, state.ofport or 0, container.mac).check(ours, deadline)
    if config.bandwidth is not None:
        _check_bandwidth(vswitch, inside, container, attachment.port_name, config)


def _check_device(
    inside: Netlink, port: Port, attachment: Attachment, config: NetworkConfig, previous: Result, index: int
) -> Link | None:
    """Verify both ends, addresses and routes.

    Args:
        inside: the sandbox.
        port, attachment, config: what it should be.
        previous: the result of ADD.
        index: of the container's end in that.

    Returns:
        The container's end; None if a program drives it, so that it is no interface.
    """
    expected = previous.interfaces[index]
    is_vf = attachments.DEVICE in port.external_ids
    is_driven = is_vf and "contVfName" not in port.external_ids
    # Not the MTU of the configuration: before version 1.1.0 a later plugin can change it and has no way to say so.
    name = attachment.ifname
    container = None
    if not is_driven:
        what = f"interface {name!r}"
        container = _check_link(inside, name, expected, expected.get("mtu"), what, carrier=not is_vf)
        if is_vf and container.parent not in ("", config.device_id):
            raise _differs(f"device of {what}", config.device_id, container.parent)
    if config.interface_type in devices.MOVED:
        if port.name == attachment.port_name:  # ovs-cni renames it
            _same(f"device of {attachment.ifname!r}", port.name, container.name if container else None)
    else:
        hosts = [i for i in previous.interfaces if i["name"] == port.name and not i.get("sandbox")]
        expected, what = hosts[0] if hosts else {}, f"host interface {port.name!r}"
        _check_link(Netlink(), port.name, expected, config.mtu, what, carrier=not is_vf)
    if config.ipam_type is not None and container is not None:
        _check_addresses(inside, container, previous, index)
        _check_routes(inside, previous)
    return container


def _differs(what: str, expected: object, found: object) -> CniError:
    return CniError(CHECK_FAILED, f"{what} differs: expected {expected}, found {found}")


def _same(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise _differs(what, expected, found)


def _check_port(vswitch: Inspection, attachment: Attachment, config: NetworkConfig) -> PortState:
    """Verify the port's rows; returns them. The name is another one if ovs-cni has made it, or if it is of a VF."""
    name = attachment.port_name
    state = vswitch.state_of(name)
    if state is None:
        found = vswitch.ports_of(attachment)[0]
        ids = [(port.name, port.external_ids) for port in found]
        others = [name for name, its in ids if its.get("owner") == OVS_CNI or attachments.DEVICE in its]
        if others:
            name = others[0]
            state = vswitch.state_of(name)
    if state is None:
        raise CniError(CHECK_FAILED, f"port {name!r} is missing in Open vSwitch")
    if name == attachment.port_name:
        for key, value in attachment.identity.items():
            _same(f"external_ids:{key} of port {name!r}", value, state.port.external_ids.get(key))
    if state.port.external_ids.get("owner") != OVS_CNI:
        device_id = state.port.external_ids.get(attachments.DEVICE)
        _same(f"external_ids:{attachments.DEVICE} of port {name!r}", config.device_id, device_id)
    _same(f"bridge of port {name!r}", config.bridge, state.bridge)
    vlans = config.vlans or ALL
    _same(f"VLAN of port {name!r}", vlans.tag, state.port.tag)
    mode = effective_mode(state.port.vlan_mode, state.port.tag)
    _same(f"VLAN mode of port {name!r}", effective_mode(vlans.vlan_mode, vlans.tag), mode)
    _same(f"trunks of port {name!r}", vlans.trunks, sorted(state.port.trunks))
    _same(f"cvlans of port {name!r}", vlans.cvlans, sorted(state.port.cvlans))
    wanted = devices.of(config.interface_type).columns(attachment, config)
    _same(f"type of interface {name!r}", wanted["type"], state.port.interface_type)
    for key, value in dict(wanted.get("options", map_of({}))[1]).items():
        _same(f"options:{key} of interface {name!r}", value, state.options.get(key))
    if state.error:
        raise CniError(CHECK_FAILED, f"ovs-vswitchd reports an error for port {name!r}: {state.error}")
    if config.ovn_port is not None:
        _check_ovn(vswitch, state.interface_ids, config, name)
    # Not compared with `ofport_request`: Open vSwitch gives another number when the requested one is taken.
    if state.ofport is None or state.ofport < 1:
        raise _differs(f"OpenFlow number of port {name!r}", "a positive number", state.ofport)
    return state


def _check_ovn(vswitch: Inspection, interface_ids: dict[str, str], config: NetworkConfig, name: str) -> None:
    from . import ovn  # noqa: PLC0415 - start-up time, for a port without OVN

    _same(f"external_ids:{ovn.PORT_ID} of interface {name!r}", config.ovn_port, interface_ids.get(ovn.PORT_ID))
    if ovn.has_bridge(vswitch.external_ids(), config.bridge):
        for key, value in ovn.INSTALLED.items():
            _same(f"external_ids:{key} of interface {name!r}", value, interface_ids.get(key))


def _check_bandwidth(
    vswitch: Inspection, inside: Netlink, container: Link | None, port: str, config: NetworkConfig
) -> None:
    from . import bandwidth  # noqa: PLC0415 - start-up time, for a port without limits

    wanted = config.bandwidth
    if wanted is None:
        return
    open_vswitchs = bandwidth.is_open_vswitchs(config.interface_type, vswitch.datapath_type(config.bridge))
    if container is not None:
        bandwidth.check(inside, container, port, wanted, open_vswitchs=open_vswitchs)
    if open_vswitchs:
        qos, policing = vswitch.limits_of(port)
        bandwidth.check_columns(port, wanted, qos, policing)


def _find_interface(previous: Result, attachment: Attachment) -> tuple[int, dict[str, Any]]:
    """The container's end in prevResult, and its index there."""
    for index, interface in enumerate(previous.interfaces):
        if interface["name"] == attachment.ifname and interface.get("sandbox"):
            return index, interface
    raise CniError(
        INVALID_CONFIG, f"invalid 'prevResult': it has no interface {attachment.ifname!r} that is in a sandbox"
    )


def _check_link(
    netlink: Netlink, name: str, expected: dict[str, Any], mtu: int | None, what: str, *, carrier: bool = True
) -> Link:
    link = netlink.link(name)
    if link is None:
        raise CniError(CHECK_FAILED, f"{what} is missing")
    if not link.up:
        raise _differs(f"state of {what}", "up", "down")
    if carrier and not link.carrier:
        # On the userspace datapath an internal port belongs to the ovs-vswitchd that made it, and dies with it.
        raise _differs(f"state of {what}", "a carrier", "none: nobody is at its other end")
    if mtu is not None:
        _same(f"MTU of {what}", mtu, link.mtu)
    mac = expected.get("mac")
    if isinstance(mac, str) and mac:
        _same(f"MAC of {what}", mac.lower(), format_mac(link.mac))
    return link


def _check_addresses(inside: Netlink, link: Link, previous: Result, index: int) -> None:
    present = {(address.packed, address.prefix) for address in inside.addresses(link.index)}
    for ip in previous.ips:
        # Without an index (allowed before 1.0.0) an address may be that of another plugin's interface.
        if ip.get("interface") != index:
            continue
        _, packed, prefix = parse_cidr(ip["address"])
        if (packed, prefix) not in present:
            found = ", ".join(sorted(f"{format_ip(p)}/{n}" for p, n in present)) or "none"
            raise _differs(f"address of interface {link.name!r}", ip["address"], found)


def _check_routes(inside: Netlink, previous: Result) -> None:
    present: dict[int, set[tuple[bytes, int, int]]] = {}
    for route in previous.routes:
        family, packed, prefix = parse_cidr(route["dst"])
        if prefix == 0:
            continue  # a later plugin may have taken the default route to itself
        if family not in present:
            present[family] = {(found.dst, found.prefix, found.table) for found in inside.routes(family)}
        table = route.get("table", RT_TABLE_MAIN)
        if (network_of(packed, prefix), prefix, table) not in present[family]:
            raise CniError(CHECK_FAILED, f"route to {route['dst']} is missing in table {table}")

"""A virtual function of an SR-IOV NIC in switchdev mode: it goes into the container, its representor is the port.

Both were there before, and are given back as they were (vf_release.py). What they were like is recorded in the port's
external_ids, in the transaction that inserts it, and nothing is changed before that is in the database.
"""

from __future__ import annotations

from errno import EAFNOSUPPORT, EEXIST

from .. import attachment as attachments
from .. import log, sriov
from ..errors import INVALID_CONFIG, KERNEL_REFUSED, CniError
from ..inet import format_mac, parse_mac
from ..netlink import WATCH_LINKS, KernelError, Link, Netlink
from ..netns import write_sysctl
from ..ovsdb import select
from ..vswitch import Vswitch
from . import Ends, taken, vf_release

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..attachment import Attachment
    from ..config import NetworkConfig
    from ..deadline import Deadline
    from ..netns import Namespace

# How long to wait for a carrier. A NIC brings the link up within milliseconds; without a cable it may have none.
_CARRIER_SECONDS = 1.0


class VirtualFunction:
    """The VF that a configuration names; a Device.

    Args:
        address: its PCI address.

    Raises:
        CniError: as of sriov.Function.
    """

    MADE_BY_OPEN_VSWITCH = False
    IS_GIVEN_BACK = True
    COLUMNS: tuple[str, ...] = ()

    def __init__(self, address: str) -> None:
        self._function = sriov.Function(address)

    @property
    def representor(self) -> str:
        """The name of the port."""
        return self._function.representor

    def bridge(self, config: NetworkConfig, deadline: Deadline) -> str:
        """The bridge that the NIC's uplink is a port of.

        Raises:
            CniError: INVALID_CONFIG, when it is on none.
        """
        names = self._function.uplinks()
        found = _Uplinks(config.socket_file, deadline).bridge_of(names)
        if found is None:
            raise CniError(
                INVALID_CONFIG,
                f"'bridge' is missing, and the uplink of 'deviceID' {self._function.address!r}"
                f" ({', '.join(names)}) is a port of no bridge",
                f"name the bridge, or ovs-vsctl add-port BRIDGE {names[0]}",
            )
        return found

    def prepare(
        self, datapath_type: str, open_vswitch: dict[str, Any], attachment: Attachment, config: NetworkConfig
    ) -> None:
        """Nothing: every bridge can have a representor."""

    def columns(self, attachment: Attachment, config: NetworkConfig) -> dict[str, Any]:
        """A type that Open vSwitch takes for a device that is there."""
        return {"type": ""}

    def create(self, host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> None:
        """Look at the VF and its representor, and record what they are like. Changes nothing yet."""
        if sandbox.netlink.link(attachment.ifname) is not None:
            raise taken(attachment)
        function = self._function
        outer = self._representor(host)
        recorded = {
            attachments.DEVICE: function.address,
            "contRepresentorMtu": str(outer.mtu),
            "contRepresentorState": "up" if outer.up else "down",
        }
        name = function.interface()
        if name is None:
            if config.checks_spoofing:
                from .. import spoofing  # noqa: PLC0415 - start-up time, for a port without rules

                raise spoofing.no_mac(config)
            if config.mac is not None:
                raise CniError(
                    INVALID_CONFIG,
                    f"a MAC ({format_mac(config.mac)}) does not go with 'deviceID' {function.address!r}, which is bound"
                    " to a driver for programs",
                    "the program sets it",
                )
        else:
            link = host.link(name)
            if link is None or not vf_release.is_it(link, function.address, link.kind):
                raise CniError(
                    INVALID_CONFIG,
                    f"interface {name!r} of 'deviceID' {function.address!r} is not in this network namespace",
                    "the plugin must run in the host's network namespace, with the host's /sys",
                )
            recorded |= {"contVfName": link.name, "contVfMac": format_mac(link.mac), "contVfMtu": str(link.mtu)}
            if link.kind:
                recorded["contVfKind"] = link.kind
        attachment.external_ids |= recorded

    def mac(self, host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> bytes:
        """What is configured, or what it has."""
        return config.mac or parse_mac(attachment.external_ids["contVfMac"])

    def connect(self, host: Netlink, sandbox: Namespace, attachment: Attachment, config: NetworkConfig) -> Ends:
        """Set the representor up, and bring the VF into the sandbox, with its name, MAC and MTU."""
        address, ifname, recorded = self._function.address, attachment.ifname, attachment.external_ids
        outer = self._representor(host)
        self._change(host, outer, config.mtu, None)
        _keep_without_address(host, outer)
        host.set_up(outer.index)
        outer = self._representor(host)
        name = recorded.get("contVfName")
        if name is None:
            return Ends(outer, Link(0, ifname, b"", outer.mtu, 0, ""), address, is_driven=True)
        link = vf_release.on_host(host, recorded)
        if link is None:
            raise CniError(KERNEL_REFUSED, f"interface {name!r} vanished while it was being attached")
        try:
            host.move(link.index, sandbox.fd, ifname)
        except KernelError as error:
            if error.errno == EEXIST:
                raise taken(attachment) from error
            what = f"interface {name!r} of 'deviceID' {address!r} cannot become {ifname!r} in the sandbox"
            raise CniError(KERNEL_REFUSED, f"{what}: {error.strerror}") from error
        link = self._inside(sandbox, ifname)
        self._change(sandbox.netlink, link, config.mtu, config.mac)
        return Ends(outer, self._inside(sandbox, ifname), address)

    def bring_up(self, host: Netlink, sandbox: Namespace, ends: Ends, deadline: Deadline) -> None:
        """Set both ends up, and wait until they have a carrier, or for a second: the cable may be out."""
        patience = deadline.shorter(_CARRIER_SECONDS)
        if not ends.is_driven:
            sandbox.netlink.set_up(ends.container.index)
            _wait_for_carrier(sandbox.netlink, sandbox.open_netlink(WATCH_LINKS), ends.container, patience, deadline)
        if ends.host is not None:
            if ends.is_driven:
                patience = deadline.shorter(0)  # it has none before the program runs
            _wait_for_carrier(host, Netlink(WATCH_LINKS), ends.host, patience, deadline)

    def destroy(self, host: Netlink, name: str) -> None:
        """Nothing: it is given back (vf_release.py)."""

    def _representor(self, host: Netlink) -> Link:
        link = host.link(self.representor)
        if link is None:
            raise CniError(
                INVALID_CONFIG,
                f"representor {self.representor!r} of 'deviceID' {self._function.address!r} is not in this network"
                " namespace",
                "the plugin must run in the host's network namespace, with the host's /sys",
            )
        return link

    def _inside(self, sandbox: Namespace, ifname: str) -> Link:
        link = sandbox.netlink.link(ifname)
        if link is None:
            raise CniError(KERNEL_REFUSED, f"interface {ifname!r} vanished while it was being attached")
        return link

    def _change(self, netlink: Netlink, link: Link, mtu: int | None, mac: bytes | None) -> None:
        what = f"'mtu' {mtu}"
        try:
            if mtu is not None and mtu != link.mtu:
                netlink.set_mtu(link.index, mtu)
            if mac is not None and mac != link.mac:
                what = f"MAC {format_mac(mac)}"
                netlink.set_mac(link.index, mac)
        except KernelError as error:
            raise CniError(
                KERNEL_REFUSED,
                f"{what} does not go with 'deviceID' {self._function.address!r}:"
                f" interface {link.name!r}: {error.strerror}",
            ) from error


class _Uplinks(Vswitch):
    """Open vSwitch, when it is asked for the bridge of an uplink."""

    def bridge_of(self, names: list[str]) -> str | None:
        """The bridge that has one of these interfaces, the first that is on any; a bond of Open vSwitch's may have it.

        Three questions, one for each table that leads to the next, so that the answers do not grow with the ports.
        """
        found = self._transact(*(select("Interface", [["name", "==", name]], ["_uuid"]) for name in names))
        interfaces = [row["_uuid"] for rows in found for row in rows]
        for table, column in (("Port", "interfaces"), ("Bridge", "ports")):
            if not interfaces:
                return None
            wanted = "_uuid" if table == "Port" else "name"
            found = self._transact(*(select(table, [[column, "includes", uuid]], [wanted]) for uuid in interfaces))
            interfaces = [row[wanted] for rows in found for row in rows]
        return str(interfaces[0]) if interfaces else None


def _wait_for_carrier(netlink: Netlink, watch: Netlink, link: Link, patience: Deadline, deadline: Deadline) -> None:
    """Wait until an interface passes packets, or the patience is over. Set it up if somebody has set it down again."""
    try:
        while (now := netlink.link(link.index)) is not None and not now.running:
            if not now.up:
                netlink.set_up(link.index)
            if not patience.remaining():
                log.info(f"interface {link.name!r} has no carrier yet")
                return
            vf_release.wait(watch, patience, deadline)
    finally:
        watch.close()


def _keep_without_address(host: Netlink, link: Link) -> None:
    # As of a veth's end in the bridge.
    try:
        host.no_ipv6_address(link.name)
        write_sysctl(f"ipv6/conf/{link.name}/accept_ra", "0")
    except KernelError as error:
        if error.errno != EAFNOSUPPORT:
            raise
    except OSError as error:
        log.debug(f"accept_ra of {link.name!r} cannot be switched off: {error.strerror}")

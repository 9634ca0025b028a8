"""The ends of a connection between two containers: which interface of each is meant, and where it hangs."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from pyroute2.netlink.exceptions import NetlinkError

from cni_ovs.plugin.devices import VHOST_USER
from cni_ovs.plugin.vlans import effective_mode

from .. import database, kernel, targets
from ..failure import Failure
from ..output import plain

FAMILIES = {"ipv4": 4, "ipv6": 6}
Hanging = tuple[database.Bridge, database.Port]


@dataclass(frozen=True)
class End:
    """One interface of one container.

    Attributes:
        name: of the container, for people.
        netns: path of its network namespace.
        link: the interface.
        ifname: what the container calls it: an internal port has another name besides.
        bridge, port: where it hangs in Open vSwitch; None where that is not known.
    """

    name: str
    netns: str
    link: kernel.Link
    ifname: str
    bridge: database.Bridge | None = None
    port: database.Port | None = None

    def address(self, family: str) -> str | None:
        """Its first global address of a family, without prefix length; "ipv4" or "ipv6"."""
        return next((str(found.ip) for found in global_addresses(self.link) if found.version == FAMILIES[family]), None)

    def subnet(self, family: str) -> str | None:
        """The network of that address, as 10.1.0.0/24."""
        found = (found for found in global_addresses(self.link) if found.version == FAMILIES[family])
        return next((str(address.network) for address in found), None)

    @property
    def vlan(self) -> int | None:
        """The VLAN of its untagged frames, 0 for none; None if it is not known to hang in Open vSwitch."""
        return None if self.port is None else untagged_vlan(self.port)


def untagged_vlan(port: database.Port) -> int:
    """The VLAN in which a port's untagged frames are; 0 for none (ovs-vswitchd.conf.db(5), "VLAN Configuration")."""
    return 0 if effective_mode(port.vlan_mode, port.tag) == "trunk" else port.tag or 0


def global_addresses(link: kernel.Link) -> list[ipaddress.IPv4Interface | ipaddress.IPv6Interface]:
    """The addresses that another machine can use."""
    found = [ipaddress.ip_interface(text) for text in link.addresses]
    return [address for address in found if not address.ip.is_link_local and not address.ip.is_loopback]


def links_of(name: str, netns: str) -> list[kernel.Link]:
    """Every interface of a namespace.

    Raises:
        Failure: the namespace has gone, or may not be entered.
    """
    try:
        return kernel.links(netns)
    except PermissionError:
        raise
    except (OSError, NetlinkError) as error:
        raise Failure(f"the network namespace of {plain(name)} cannot be entered: {error}") from error


def hanging(state: database.OpenVSwitch | None) -> Iterator[Hanging]:
    """Every port that cni-ovs or ovs-cni has attached."""
    for bridge, port in state.ports() if state else ():
        if (port.is_ours or port.is_of_ovs_cni) and port.external_ids.get("contIface"):
            yield bridge, port


def hanging_in(state: database.OpenVSwitch | None, target: targets.Target) -> list[Hanging]:
    """The ports of one container, found by its namespace, whatever path is recorded."""
    found = []
    for bridge, port in hanging(state):
        path = port.external_ids.get("contNetns", "")
        if kernel.is_namespace(path) and kernel.identity(path) == target.identity:
            found.append((bridge, port))
    return found


def find(
    first: targets.Target, second: targets.Target, interfaces: tuple[str, ...], state: database.OpenVSwitch | None
) -> tuple[End, End]:
    """The two ends that are meant.

    Args:
        first, second: the containers.
        interfaces: names that were asked for: none, one for both, or one for each.
        state: what is in Open vSwitch; None if it cannot be reached.

    Raises:
        Failure: there is no such interface, or more than one that could be meant.
    """
    if first.identity == second.identity:
        raise Failure(f"{plain(first.text)} and {plain(second.text)} have the same network namespace")
    ports = hanging_in(state, first), hanging_in(state, second)
    if not interfaces:
        # On a common network rather than just on a common bridge.
        common = sorted(product(*ports), key=_distance)
        if common and _distance(common[0]) < _FAR:
            one, other = common[0]
            return _attached(first, one), _attached(second, other)
    names = interfaces * 2 if len(interfaces) == 1 else interfaces or ("", "")
    return _end(first, names[0], ports[0]), _end(second, names[1], ports[1])


_FAR = 2


def _distance(pair: tuple[Hanging, ...]) -> int:
    (bridge, port), (other_bridge, other_port) = pair
    network = port.external_ids.get("contNetwork")
    if bridge.name != other_bridge.name:
        return _FAR
    return 0 if network and network == other_port.external_ids.get("contNetwork") else 1


class Untestable(Failure):
    """A port has no interface in the kernel that packets could be sent from."""


def of_port(netns: str, name: str, hangs: Hanging) -> End:
    """The end at a port, with the interface that is recorded with it.

    Raises:
        Failure: the namespace or the interface has gone.
        Untestable: there is none, because it is a vhost-user port.
    """
    bridge, port = hangs
    ifname = port.external_ids["contIface"]
    if port.interface is not None and port.interface.type in VHOST_USER:
        what = f"{plain(ifname)} of {plain(name)} is a vhost-user port, which only a program in the container can use"
        raise Untestable(what, "test it with that program")
    for link in links_of(name, netns):
        if ifname in link.names:
            return End(name, netns, link, ifname, bridge, port)
    raise Failure(
        f"{plain(name)} has no interface {plain(ifname)}, which port {plain(port.name)} tells of",
        "attach it anew; `cni-ovs doctor` may tell more",
    )


def _attached(target: targets.Target, hangs: Hanging) -> End:
    return of_port(target.netns, target.name, hangs)


def _end(target: targets.Target, ifname: str, ports: list[Hanging]) -> End:
    links = links_of(target.name, target.netns)
    if ifname:
        chosen = [link for link in links if ifname in link.names]
        if not chosen:
            there = ", ".join(plain(link.altnames[0] if link.altnames else link.name) for link in links)
            raise Failure(f"{plain(target.name)} has no interface {plain(ifname)}", f"there are {there}")
    else:
        attached = {port.external_ids["contIface"] for _, port in ports}
        chosen = [link for link in links if attached & set(link.names)]
        if len(chosen) != 1:
            chosen = [link for link in links if global_addresses(link)]
    if not chosen:
        raise Failure(f"{plain(target.name)} has no interface with an address", "give it one, or choose: --interface")
    if len(chosen) > 1:
        names = ", ".join(plain(link.name) for link in chosen)
        raise Failure(f"{plain(target.name)} has several interfaces: {names}", "choose: --interface IFNAME")
    (link,) = chosen
    for bridge, port in ports:
        if port.external_ids["contIface"] in link.names:
            return End(target.name, target.netns, link, port.external_ids["contIface"], bridge, port)
    return End(target.name, target.netns, link, ifname or link.name)

"""Anti-spoofing: what may leave a container's port, as OpenFlow rules of its bridge. docs/spoofing.md has the rules.

They have a cookie that follows from the name of the port, and its row says which bridge they are on. A packet that
passes goes through the bridge's tables once more (openflow.py), so what others have put there holds for it.
"""

from __future__ import annotations

from . import log
from .attachment import is_port_name, name_of
from .errors import CHECK_FAILED, INVALID_CONFIG, CniError
from .forms import tells_attachment
from .inet import parse_cidr
from .openflow import Flow, Switch, UnreachableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .attachment import Attachment
    from .config import NetworkConfig
    from .deadline import Deadline
    from .vswitch import Vswitch

# Above what others use, if they do not insist. A rule for something special is above that for the rest.
_INVALID, _PASS_SPECIAL, _DROP_SPECIAL, _PASS, _DROP = 65004, 65003, 65002, 65001, 65000
_COOKIE_TAG = 0xC142
_TAG_MASK = 0xFFFF << 48

_ARP = ("eth_type", b"\x08\x06")
_IPV4 = ("eth_type", b"\x08\x00")
_IPV6 = ("eth_type", b"\x86\xdd")
_MORE_TAGS = (("eth_type", b"\x81\x00"), ("eth_type", b"\x88\xa8"))  # behind a first VLAN tag
_UDP = ("ip_proto", b"\x11")
_ICMPV6 = ("ip_proto", b"\x3a")
_NOT_PARSED = ("ip_proto", b"\0")
_ROUTERS = (("icmpv6_type", b"\x86"), ("icmpv6_type", b"\x89"))  # advertisements and redirects, RFC 4861
_SOLICITATION, _ADVERTISEMENT = ("icmpv6_type", b"\x87"), ("icmpv6_type", b"\x88")  # of neighbours, RFC 4861
# Without an address a host may ask for routers (RFC 4861) and say which groups it listens to (RFC 2710, 3810).
_WITHOUT_ADDRESS = b"\x85\x83\x84\x8f"
_NO_MAC, _NO_IPV4, _NO_IPV6 = bytes(6), bytes(4), bytes(16)


def cookie(port_name: str) -> int:
    """The cookie of a port's rules; `port_name` is what attachment.port_name makes, whatever the port is called."""
    return _COOKIE_TAG << 48 | int(port_name[-12:], 16)


def _socket_path(config: NetworkConfig, bridge: str) -> str:
    """Where a bridge listens: ovs-vswitchd makes the socket in the folder of ovsdb-server's."""
    return f"{config.socket_file.removeprefix('unix:').rpartition('/')[0]}/{bridge}.mgmt"


def refuse(config: NetworkConfig, *, has_controller: bool, fail_mode: str | None, code: int = INVALID_CONFIG) -> None:
    """Refuse a bridge whose rules are another's business.

    Args:
        config: the network's.
        has_controller, fail_mode: of the bridge.
        code: of the error.

    Raises:
        CniError: with this code.
    """
    if has_controller or fail_mode == "secure":
        reason = "has a controller" if has_controller else "has fail_mode=secure"
        raise CniError(
            code,
            f"{config.spoofing_keys} cannot be used: bridge {config.bridge!r} {reason}",
            "whoever controls its OpenFlow rules has to check addresses there, and may remove the rules of others",
        )


def no_mac(config: NetworkConfig) -> CniError:
    """The error for a port at whose other end is a program, whose MAC nobody here knows."""
    what = f"{config.spoofing_keys} needs a network interface in the container, and this port is a program's"
    return CniError(INVALID_CONFIG, what)


class Guard:
    """The rules of one port.

    Args:
        config: the network's; `macspoofchk` and `ipspoofchk` say what is checked.
        attachment: what the port is for.
        number: its OpenFlow number.
        mac: of the container's end.
    """

    def __init__(self, config: NetworkConfig, attachment: Attachment, number: int, mac: bytes) -> None:
        self._config = config
        self._name = name_of(attachment.identity)
        self._cookie = cookie(self._name)
        self._number = number
        self._port = ("in_port", number.to_bytes(4, "big"))
        self._mac = mac
        self._checks_mac = config.macspoofchk
        self._checks_ip = config.ipspoofchk

    def begin(self, deadline: Deadline) -> None:
        """Put up what holds before the addresses are known.

        Raises:
            CniError: as Switch.
        """
        self._add(self.first_rules(), deadline, afresh=True)

    def admit(self, ips: list[dict[str, Any]], deadline: Deadline) -> None:
        """Let addresses pass, those in the `ips` of a result.

        Raises:
            CniError: as Switch.
        """
        flows = self.rules_of(_packed(ips))
        if flows:
            self._add(flows, deadline)

    def remove(self, deadline: Deadline) -> None:
        """Take all rules away.

        Raises:
            CniError: as Switch, but for a bridge that is not there.
        """
        remove(self._config, self._config.bridge, self._name, deadline)

    def check(self, ips: list[dict[str, Any]], deadline: Deadline) -> None:
        """See that the bridge has these rules, and no others with their cookie.

        Raises:
            CniError: CHECK_FAILED, with the commands that mend it; as Switch.
        """
        bridge, ours = self._config.bridge, self._cookie
        expected = self.first_rules() + self.rules_of(_packed(ips))
        switch = Switch(_socket_path(self._config, bridge), bridge, deadline)
        try:
            found = switch.keys(ours).get(ours, set())
        finally:
            switch.close()
        wanted = {flow.key() for flow in expected}
        if found == wanted:
            return
        commands = [f"ovs-ofctl -O OpenFlow13 del-flows {bridge} cookie={ours:#x}/-1"]
        commands += [f"ovs-ofctl -O OpenFlow13 add-flow {bridge} '{flow.text(ours)}'" for flow in expected]
        raise CniError(
            CHECK_FAILED,
            f"OpenFlow rules with cookie {ours:#x} on bridge {bridge!r} differ: {len(wanted - found)} of"
            f" {len(wanted)} are missing, and {len(found - wanted)} are others",
            "attach the container again, or mend it with these commands: " + "; ".join(commands),
        )

    def _add(self, flows: list[Flow], deadline: Deadline, *, afresh: bool = False) -> None:
        bridge = self._config.bridge
        switch = Switch(_socket_path(self._config, bridge), bridge, deadline)
        try:
            if afresh:
                # Of a port that had this number before, and that somebody else has removed alone.
                switch.remove_of_port(self._number, _COOKIE_TAG << 48, _TAG_MASK)
            switch.add(flows, self._cookie)
        finally:
            switch.close()

    def first_rules(self) -> list[Flow]:
        """What holds before the addresses are known."""
        drop_special = [
            (_ARP,),
            (_IPV6, _ICMPV6, _SOLICITATION),
            (_IPV6, _ICMPV6, _ADVERTISEMENT),
            # Extension headers that Open vSwitch has not got through, and a receiver may.
            (_IPV6, _NOT_PARSED),
        ]
        if self._checks_ip:
            drop_special += [(_IPV6, _ICMPV6, kind) for kind in _ROUTERS]
        flows = [self._flow(_DROP, False)]
        flows += [self._flow(_DROP_SPECIAL, False, *match) for match in drop_special]
        # What is behind a second tag is not looked at.
        flows += [self._flow(_DROP_SPECIAL, False, kind) for kind in _MORE_TAGS]
        # Open vSwitch shows a message whose options are twice there, or cannot be read, like that.
        flows += [
            self._flow(_INVALID, False, _IPV6, _ICMPV6, kind, ("nd_target", _NO_IPV6))
            for kind in (_SOLICITATION, _ADVERTISEMENT)
        ]
        if not self._checks_ip:
            flows += [self._special(_ARP)]
            flows += self._neighbour(_SOLICITATION, "nd_sll")
            flows += self._neighbour(_ADVERTISEMENT, "nd_tll")
            flows += [self._usual()]
            return flows
        flows += [
            # Is the address free? (RFC 5227) Open vSwitch shows what it does not understand without any address.
            self._flow(
                _PASS_SPECIAL,
                True,
                *self._source(),
                _ARP,
                ("arp_op", b"\0\1"),
                ("arp_spa", _NO_IPV4),
                ("arp_sha", self._mac),
            ),
            self._usual(_IPV4, _UDP, ("ip_src", _NO_IPV4), ("udp_src", b"\0\x44"), ("udp_dst", b"\0\x43")),  # DHCP
        ]
        flows += [
            self._usual(_IPV6, _ICMPV6, ("ipv6_src", _NO_IPV6), ("icmpv6_type", kind.to_bytes(1, "big")))
            for kind in _WITHOUT_ADDRESS
        ]
        return flows + self.rules_of([_link_local(self._mac)])

    def rules_of(self, addresses: list[bytes]) -> list[Flow]:
        """What lets addresses of the container pass; nothing if they are not checked."""
        flows: list[Flow] = []
        if not self._checks_ip:
            return flows
        link_local = _link_local(self._mac)
        for address in addresses:
            if len(address) == 4:
                flows += [self._special(_ARP, ("arp_spa", address)), self._usual(_IPV4, ("ip_src", address))]
                continue
            source, target = ("ipv6_src", address), ("nd_target", address)
            flows += [self._usual(_IPV6, source)]
            flows += self._neighbour(_SOLICITATION, "nd_sll", source)
            # Is the address free? (RFC 4862 section 5.4.2: without a link-layer address)
            unspecified = ("ipv6_src", _NO_IPV6)
            flows += [
                self._flow(
                    _PASS_SPECIAL, True, *self._source(), _IPV6, _ICMPV6, unspecified, _SOLICITATION, target,
                    ("nd_sll", _NO_MAC),
                )
            ]  # fmt: skip
            for sender in {address, link_local}:
                flows += self._neighbour(_ADVERTISEMENT, "nd_tll", ("ipv6_src", sender), target)
        return flows

    def _neighbour(self, kind: tuple[str, bytes], option: str, *match: tuple[str, bytes]) -> list[Flow]:
        """Neighbour discovery whose option with a link-layer address, if it has one, is true."""
        source, rest = self._source(), [field for field in match if field[0] == "nd_target"]
        start = (*source, _IPV6, _ICMPV6, *(field for field in match if field[0] == "ipv6_src"), kind, *rest)
        if not self._checks_mac:
            return [self._flow(_PASS_SPECIAL, True, *start)]
        return [self._flow(_PASS_SPECIAL, True, *start, (option, mac)) for mac in (self._mac, _NO_MAC)]

    def _special(self, *match: tuple[str, bytes]) -> Flow:
        sender = (("arp_sha", self._mac),) if self._checks_mac else ()
        return self._flow(_PASS_SPECIAL, True, *self._source(), *match, *sender)

    def _usual(self, *match: tuple[str, bytes]) -> Flow:
        return self._flow(_PASS, True, *self._source(), *match)

    def _source(self) -> tuple[tuple[str, bytes], ...]:
        return (("eth_src", self._mac),) if self._checks_mac else ()

    def _flow(self, priority: int, passes: bool, *match: tuple[str, bytes]) -> Flow:
        return Flow(priority, passes, self._port, *match)


def _link_local(mac: bytes) -> bytes:
    """The IPv6 address that the kernel makes of a MAC address (RFC 4291, appendix A)."""
    return bytes((0xFE, 0x80, *bytes(6), mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:6]))


def _packed(ips: list[dict[str, Any]]) -> list[bytes]:
    return [parse_cidr(ip["address"])[1] for ip in ips]


def remove(config: NetworkConfig, bridge: str, port_name: str, deadline: Deadline) -> None:
    """Remove the rules of a port.

    Args:
        config: where Open vSwitch is.
        bridge: that has them; what is recorded may be any text.
        port_name: as for `cookie`.
        deadline: for the bridge.

    Raises:
        CniError: as Switch, but for a bridge that is not there.
    """
    if not bridge or "/" in bridge:
        return  # there is none
    try:
        switch = Switch(_socket_path(config, bridge), bridge, deadline)
    except UnreachableError:
        return  # the rules are gone with whoever had them
    try:
        switch.remove(cookie(port_name))
    finally:
        switch.close()


def sweep(vswitch: Vswitch, config: NetworkConfig, deadline: Deadline) -> None:
    """Remove the rules whose ports are gone: somebody else has removed the port alone.

    Args:
        vswitch: knows the ports.
        config: where the bridge is; without one, all are looked at.
        deadline: for the bridges.

    Raises:
        CniError: as Switch.
    """
    for _, switch, owner in orphans(vswitch, config, deadline):
        log.info(f"removing the OpenFlow rules with cookie {owner:#x}: their port is gone")
        switch.remove(owner)


def orphans(vswitch: Vswitch, config: NetworkConfig, deadline: Deadline) -> Iterator[tuple[str, Switch, int]]:
    """The cookies of rules whose ports are gone, with their bridges; arguments and errors are those of `sweep`."""
    for bridge in [config.bridge] if config.bridge else vswitch.bridge_names():
        try:
            switch = Switch(_socket_path(config, bridge), bridge, deadline)
        except UnreachableError:
            continue
        try:
            owners = switch.keys(_COOKIE_TAG << 48, _TAG_MASK).keys()
            # Only now, because ADD makes the port first.
            for owner in owners - _cookies(vswitch) if owners else ():
                yield bridge, switch, owner
        finally:
            switch.close()


def _cookies(vswitch: Vswitch) -> set[int]:
    """Those that rules of the ports can have: by what is recorded, and by their names, if that was edited."""
    found = set()
    for name, recorded in vswitch.port_records():
        if is_port_name(name) and all(digit in "0123456789abcdef" for digit in name[3:]):
            found.add(cookie(name))
        if tells_attachment(recorded):
            found.add(cookie(name_of(recorded)))
    return found

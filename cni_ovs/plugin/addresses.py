"""Addresses and routes on the container's end, as the IPAM plugin answered."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6

from . import log
from .errors import DUPLICATE_ADDRESS, KERNEL_REFUSED, CniError
from .inet import format_ip, network_of, parse_cidr, parse_ip
from .netlink import (
    IFA_DADFAILED,
    IFA_TENTATIVE,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_MAIN,
    WATCH_IPV6_ADDRESSES,
    Route,
)
from .netns import read_sysctl, write_sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .deadline import Deadline
    from .netlink import Link, Netlink
    from .netns import Namespace
    from .result import Result

# Duplicate address detection asks, and then listens for the retransmission time. The kernel's one question and one
# second are meant for any medium (RFC 4862). On a switch an answer takes less than a millisecond, and a pod should
# not wait; but ovs-vswitchd may be busy for a tenth of a second, or still have flows that do not know the new port.
# So: three questions, and 0.3 seconds in all.
_DAD_QUESTIONS = "3"
_DAD_LISTEN_MS = "100"
_SMALLEST_IPV6_MTU = 1280  # RFC 8200 section 5


def configure(sandbox: Namespace, link: Link, result: Result, deadline: Deadline) -> None:
    """Give the container's end its addresses and routes, and announce it.

    Returns when every address can be used.

    Args:
        sandbox: the container's namespace.
        link: the container's end, which is up, and whose packets are forwarded.
        result: addresses and routes as IPAM answered; indexes and interfaces do not matter here.
        deadline: for duplicate address detection.

    Raises:
        CniError: KERNEL_REFUSED, naming the address or route; DUPLICATE_ADDRESS; TRY_AGAIN_LATER.
    """
    inside = sandbox.netlink
    families = {parse_cidr(ip["address"])[0] for ip in result.ips}
    has_ipv6 = AF_INET6 in families
    if has_ipv6 and link.mtu < _SMALLEST_IPV6_MTU:
        raise CniError(
            KERNEL_REFUSED,
            f"interface {link.name!r} cannot have IPv6 addresses: its MTU is {link.mtu}",
            f"set an 'mtu' of at least {_SMALLEST_IPV6_MTU}, or let IPAM give no IPv6 address",
        )
    timers = {}
    with sandbox:
        _let_announce(link.name, families)
        if has_ipv6:
            # The link was up before ovs-vswitchd had the port, so nobody has heard what was asked about the link-local
            # address. IPv6 begins anew, where it may: the addresses below are asked about in any case.
            disabled = f"ipv6/conf/{link.name}/disable_ipv6"
            _try_sysctl(disabled, "1")
            timers = _shorten_duplicate_detection(link.name)
            _let_act_on_carrier(inside, link)
            _attempt("IPv6", link, lambda: write_sysctl(disabled, "0"))
    watch = sandbox.open_netlink(WATCH_IPV6_ADDRESSES) if has_ipv6 else None
    try:
        for ip in result.ips:
            family, packed, prefix = parse_cidr(ip["address"])
            _attempt(
                f"address {ip['address']}",
                link,
                lambda family=family, packed=packed, prefix=prefix: inside.add_address(  # type: ignore[misc] # defaults bind
                    link.index, family, packed, prefix
                ),
            )
        for family, route, text in _routes(result):
            _attempt(
                f"route to {text}",
                link,
                lambda family=family, route=route: inside.add_route(link.index, family, route),  # type: ignore[misc] # likewise
            )
        if watch is not None:
            _settle(inside, watch, link, deadline)
    finally:
        if watch is not None:
            watch.close()
        with sandbox:
            for key, value in timers.items():
                _try_sysctl(key, value)
    # Setting the address that it has makes the kernel announce the interface: gratuitous ARP for each IPv4 address,
    # an unsolicited neighbour advertisement for each IPv6 address (see _let_announce).
    inside.set_mac(link.index, link.mac)


def _attempt(what: str, link: Link, work: Callable[[], None]) -> None:
    try:
        work()
    except OSError as error:
        raise CniError(KERNEL_REFUSED, f"{what} cannot be set on interface {link.name!r}: {error.strerror}") from error


def _let_announce(name: str, families: set[int]) -> None:
    """Let the kernel announce addresses when they come into use, so that neighbours forget who had them before."""
    if AF_INET in families:
        _try_sysctl(f"ipv4/conf/{name}/arp_notify", "1")
    if AF_INET6 in families:
        _try_sysctl(f"ipv6/conf/{name}/ndisc_notify", "1")


def _shorten_duplicate_detection(name: str) -> dict[str, str]:
    """Make duplicate address detection quick; returns the settings to restore."""
    original = {}
    for key, value in (
        (f"ipv6/conf/{name}/dad_transmits", _DAD_QUESTIONS),
        (f"ipv6/neigh/{name}/retrans_time_ms", _DAD_LISTEN_MS),
        (f"ipv6/conf/{name}/router_solicitation_delay", "0"),  # also bounds the random delay before the question
    ):
        try:
            original[key] = read_sysctl(key)
            write_sysctl(key, value)
        except OSError as error:
            log.debug(f"{key} cannot be set, duplicate address detection takes longer: {error.strerror}")
    return original


def _let_act_on_carrier(inside: Netlink, link: Link) -> None:
    """Let the kernel act on the link's carrier, before which duplicate address detection does not begin.

    When many other links have changed that takes it seconds, but Linux 6.8 and newer do it at once for a link that they
    are asked for.
    """
    try:
        inside.link(link.index)
    except OSError as error:
        log.debug(f"{link.name!r} cannot be looked at, IPv6 may take longer: {error.strerror}")


def _try_sysctl(key: str, value: str) -> None:
    try:
        write_sysctl(key, value)
    except OSError as error:
        log.debug(f"{key} cannot be set to {value}: {error.strerror}")


def _settle(inside: Netlink, watch: Netlink, link: Link, deadline: Deadline) -> None:
    """Wait until no address is tentative any more.

    Raises:
        CniError: DUPLICATE_ADDRESS, when another node has one.
    """
    while True:
        found = inside.addresses(link.index, AF_INET6)
        for address in found:
            if address.flags & IFA_DADFAILED:
                raise CniError(
                    DUPLICATE_ADDRESS,
                    f"address {format_ip(address.packed)} is in use by another node on this network",
                    "the IPAM plugin gave out an address that somebody has",
                )
        if not any(address.flags & IFA_TENTATIVE for address in found):
            return
        # `watch` was opened before the addresses were added, so no change between the look and the wait is missed.
        deadline.wait("waiting for IPv6 duplicate address detection", (watch.fileno(), 1))
        watch.drain()


def _routes(result: Result) -> list[tuple[int, Route, str]]:
    """The routes with their family and a text for messages; those to one destination are made one multipath route."""
    default_gateways: dict[int, bytes] = {}
    for ip in result.ips:
        if "gateway" in ip:
            default_gateways.setdefault(*parse_ip(ip["gateway"]))
    merged: dict[tuple[object, ...], tuple[int, Route, str]] = {}
    for wanted in result.routes:
        family, packed, prefix = parse_cidr(wanted["dst"])
        scope = wanted.get("scope", RT_SCOPE_UNIVERSE)
        gateway = parse_ip(wanted["gw"])[1] if "gw" in wanted else None
        if gateway is None and scope < RT_SCOPE_LINK:
            gateway = default_gateways.get(family)
        if gateway is None and family == AF_INET and "scope" not in wanted:
            scope = RT_SCOPE_LINK  # what `ip route add … dev …` does for a destination without a gateway
        dst = network_of(packed, prefix)
        table = wanted.get("table", RT_TABLE_MAIN)
        key = (family, dst, prefix, table, wanted.get("priority"), scope)
        if key in merged:
            gateways = merged[key][1].gateways
            if gateway is not None and gateway not in gateways:
                gateways.append(gateway)
            continue
        route = Route(
            dst,
            prefix,
            [] if gateway is None else [gateway],
            mtu=wanted.get("mtu"),
            advmss=wanted.get("advmss"),
            priority=wanted.get("priority"),
            table=table,
            scope=scope,
        )
        text = wanted["dst"] if gateway is None else f"{wanted['dst']} through {format_ip(gateway)}"
        merged[key] = (family, route, text)
    return list(merged.values())

"""How fast a container may receive and send, and who sees to it. docs/bandwidth.md has the measurements behind this.

What a container sends waits in a token bucket filter on its own end of the port. What it receives, on the kernel's
datapath with a veth pair, waits in a queue of Open vSwitch (a QoS row), and Open vSwitch's policing is there for what
goes past the filter; alone it would drop what does not fit, and TCP then stays far below the rate.

Open vSwitch cannot do either where the device is in another namespace, as internal ports are. On the userspace datapath
it polices nothing, because it has a packet before policing has; and its queue for one port fills the one socket over
which it sends to all ports, so that the others lose packets. There, what a container receives passes through another
filter, on an ifb device beside its end (where the reference plugin `bandwidth` has one on the host).
"""

from __future__ import annotations

from errno import EEXIST

from . import log, tc
from .attachment import IFB, QOS_ROW, RATE_LIMITER, is_port_name
from .devices import VHOST_USER
from .errors import CHECK_FAILED, KERNEL_REFUSED, CniError
from .forms import is_integer
from .jsontext import shown
from .netlink import KernelError
from .netns import is_own, open_if_there
from .ovsdb import map_of
from .vswitch import USERSPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .config import NetworkConfig
    from .netlink import Link, Netlink
    from .netns import Namespace

LOWEST, HIGHEST = 1000, 10**15  # as Kubernetes takes them
# From here on a burst is none: containerd gives 2^32 - 1 where the user has named only a rate (its toCNIBandWidth). So
# 512 MB would pass at once.
_UNLIMITED_BURST = (1 << 31) - 1
# A burst that nobody has named: what passes in this time. A timer of the kernel may be that late (HZ=250).
_SHAPING_SECONDS = 0.004
# Policing drops what does not pass, and TCP needs to have some packets on the way.
_POLICING_SECONDS = 0.1
# A bucket in which a packet does not fit lets it never pass, and a plugin behind us may raise the MTU.
_SMALLEST_BUCKET = 2 * 9018
_QUEUE_SECONDS = 0.025  # as the reference plugin
_ETHERNET_HEADER = 18  # with a VLAN tag
_LARGEST_PACKET = 65536  # as the kernel's datapath has them before they are cut (GSO)

_KEYS = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")
_REFUSED = ("unshapedSubnets", "shapedSubnets")  # of the reference plugin


class Limit:
    """A rate in bits per second, and how many bits may pass at once after a pause; None if nobody has said."""

    __slots__ = ("burst", "rate")

    def __init__(self, rate: int, burst: int | None) -> None:
        self.rate = rate
        self.burst = burst

    def burst_bytes(self, seconds: float, lowest: int) -> int:
        """The burst in bytes: if none is given, what passes in these seconds."""
        return max(int(self.rate * seconds) if self.burst is None else self.burst, lowest * 8) // 8


class Bandwidth:
    """What a container may receive (`ingress`) and send (`egress`); None for as much as it can."""

    __slots__ = ("egress", "ingress")

    def __init__(self, ingress: Limit | None, egress: Limit | None) -> None:
        self.ingress = ingress
        self.egress = egress


def read(value: Any) -> Bandwidth | None:
    """What an object of the form of the reference plugin `bandwidth` says; None if it limits nothing.

    Raises:
        ValueError: with what is allowed.
    """
    form = f"must be an object with some of {', '.join(_KEYS)}"
    if not isinstance(value, dict):
        raise ValueError(form)
    keys = {key.lower(): item for key, item in value.items()}
    for key in _REFUSED:
        if keys.get(key.lower()):
            raise ValueError(f"{key!r} is not supported: the limits are for all addresses")
    for key in value:
        if key.lower() not in {known.lower() for known in (*_KEYS, *_REFUSED)}:
            raise ValueError(f"{key!r} is not known: it {form}")
    ingress, egress = (_limit(keys, f"{direction}Rate", f"{direction}Burst") for direction in ("ingress", "egress"))
    return Bandwidth(ingress, egress) if ingress or egress else None


def _limit(keys: dict[str, Any], rate_key: str, burst_key: str) -> Limit | None:
    rate, burst = (keys.get(key.lower()) or 0 for key in (rate_key, burst_key))
    if not is_integer(rate) or not (rate == 0 or LOWEST <= rate <= HIGHEST):
        form = f"must be an integer of bits per second, {LOWEST} to {HIGHEST}, or 0 for no limit"
        raise ValueError(f"{rate_key!r}: {shown(rate)}: {form} (10 Mbit/s is 10000000)")
    if not is_integer(burst) or burst < 0:
        raise ValueError(f"{burst_key!r}: {shown(burst)}: must be an integer of bits")
    if rate:
        return Limit(rate, burst if 0 < burst < _UNLIMITED_BURST else None)
    if burst:
        raise ValueError(f"{burst_key!r} needs {rate_key!r}, which is missing")
    return None


def is_open_vswitchs(interface_type: str, datapath_type: str) -> bool:
    """Whether Open vSwitch itself can limit what comes through a port of this kind on this datapath."""
    return interface_type in VHOST_USER or (interface_type == "veth" and datapath_type != USERSPACE)


def recorded(bandwidth: Bandwidth, *, open_vswitchs: bool) -> dict[str, str]:
    """What has to be recorded with a port, so that DEL removes what a limit is made of."""
    return {RATE_LIMITER: QOS_ROW if open_vswitchs else IFB} if bandwidth.ingress else {}


# Limits that Open vSwitch keeps


def columns(
    bandwidth: Bandwidth, identity: dict[str, str], interface_type: str
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Rows to insert, and the columns of the Port and of the Interface row that go with them.

    Args:
        bandwidth: what to limit.
        identity: of the attachment; the rows are found by it (vswitch.delete_limits).
        interface_type: of the port.
    """
    rows: list[dict[str, Any]] = []
    port: dict[str, Any] = {}
    interface: dict[str, Any] = {}
    whose = map_of(identity)
    if bandwidth.ingress and interface_type in VHOST_USER:
        # DPDK has no queues, and counts in bytes.
        burst = bandwidth.ingress.burst_bytes(_POLICING_SECONDS, _LARGEST_PACKET)
        policer = map_of({"cir": str(bandwidth.ingress.rate // 8), "cbs": str(burst)})
        row = {"type": "egress-policer", "other_config": policer, "external_ids": whose}
        rows = [_insert("QoS", "qos", row)]
        port["qos"] = ["named-uuid", "qos"]
    elif bandwidth.ingress:
        rate = str(bandwidth.ingress.rate)
        # Only a queue has a burst; what no flow gives another one is in queue 0.
        burst = 8 * bandwidth.ingress.burst_bytes(_SHAPING_SECONDS, 0)
        queue = {"min-rate": rate, "max-rate": rate, "burst": str(burst)}
        rows = [
            _insert("Queue", "queue", {"other_config": map_of(queue), "external_ids": whose}),
            _insert(
                "QoS",
                "qos",
                {
                    "type": "linux-htb",
                    "other_config": map_of({"max-rate": rate}),
                    "queues": ["map", [[0, ["named-uuid", "queue"]]]],
                    "external_ids": whose,
                },
            ),
        ]
        port["qos"] = ["named-uuid", "qos"]
    if bandwidth.egress:
        interface["ingress_policing_rate"] = bandwidth.egress.rate // 1000
        burst_bytes = bandwidth.egress.burst_bytes(_POLICING_SECONDS, _LARGEST_PACKET)
        interface["ingress_policing_burst"] = -(-burst_bytes * 8 // 1000)
    return rows, port, interface


def check_columns(port: str, bandwidth: Bandwidth, qos: dict[str, str], policing: int) -> None:
    """See that the limits of `columns` are there.

    Args:
        port: its name.
        bandwidth: what it should be.
        qos: other_config of its QoS row.
        policing: in kilobits per second; 0 is none.

    Raises:
        CniError: CHECK_FAILED.
    """
    wanted = bandwidth.ingress.rate if bandwidth.ingress else 0
    if wanted and str(wanted) != qos.get("max-rate") and str(wanted // 8) != qos.get("cir"):
        have = qos.get("max-rate") or (f"{qos['cir']} bytes" if "cir" in qos else "no limit")
        raise CniError(
            CHECK_FAILED,
            f"'ingressRate' differs: expected {wanted}, found {have} (QoS of port {port!r})",
        )
    if bandwidth.egress and policing != bandwidth.egress.rate // 1000:
        raise CniError(
            CHECK_FAILED,
            f"'egressRate' differs: expected {bandwidth.egress.rate}, found {policing * 1000 or 'no limit'}"
            f" (ingress_policing_rate of interface {port!r})",
        )


def check_queue(host: Netlink, port: str, config: NetworkConfig) -> None:
    """See that Open vSwitch has made the queue of `columns` for a veth: where it cannot, it only says so in its log.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    if config.interface_type in VHOST_USER or config.bandwidth is None or config.bandwidth.ingress is None:
        return
    link = host.link(port)
    found = None if link is None else tc.root_kind(host, link.index)
    if found != "htb":
        raise CniError(
            KERNEL_REFUSED,
            f"Open vSwitch has made no queue for port {port!r}, whose bandwidth is not limited so (found {found})",
            "the kernel needs sch_htb; see ovs-vswitchd.log",
        )


def _insert(table: str, name: str, row: dict[str, Any]) -> dict[str, Any]:
    return {"op": "insert", "table": table, "uuid-name": name, "row": row}


# Limits in the container


def limit(sandbox: Namespace, device: Link, name: str, bandwidth: Bandwidth, *, open_vswitchs: bool) -> None:
    """Limit the container's end of a port, which is down.

    Args:
        sandbox, device: where it is.
        name: of the port; that of the ifb device follows from it.
        bandwidth: what to limit.
        open_vswitchs: whether Open vSwitch limits what is received.

    Raises:
        CniError: KERNEL_REFUSED.
    """
    inside = sandbox.netlink
    try:
        if bandwidth.egress:
            _shape(inside, device.index, bandwidth.egress, device.mtu)
        if bandwidth.ingress and not open_vswitchs:
            ifb = _ifb_name(name)
            try:
                tc.create_ifb(inside, ifb)
            except KernelError as error:
                if error.errno != EEXIST or not _delete_ifb(inside, ifb):
                    raise
                tc.create_ifb(inside, ifb)  # the other was left behind by an earlier attachment of this very name
            link = inside.link(ifb)
            if link is None:
                raise CniError(KERNEL_REFUSED, f"interface {ifb!r} vanished while it was being set up")
            _shape(inside, link.index, bandwidth.ingress, device.mtu)
            tc.redirect_received(inside, device.index, link.index)
    except KernelError as error:
        raise CniError(
            KERNEL_REFUSED,
            f"the bandwidth of {device.name!r} cannot be limited: {error.strerror}",
            "the kernel needs sch_tbf, sch_ingress, cls_u32, act_mirred and ifb",
        ) from error


def remove_ifb(netns: str, name: str) -> None:
    """Remove the ifb device of a port, if the namespace is still there.

    Args:
        netns: as recorded. Whoever can write to the database can write there what he likes, so only an ifb device of
            the one name that is possible is removed, and none in our own namespace.
        name: of the port.

    Raises:
        CniError: INVALID_ENVIRONMENT, when we are short of something.
    """
    if not is_port_name(name) or is_own(netns):
        return
    sandbox = open_if_there(netns)
    if sandbox is None:
        return  # the device has gone with the namespace
    try:
        _delete_ifb(sandbox.netlink, _ifb_name(name))
    except KernelError as error:
        log.warning(f"the limits of port {name!r} stay in its container: {error.strerror}")
    finally:
        sandbox.close()


def _delete_ifb(inside: Netlink, name: str) -> bool:
    """Delete an ifb device; False if there is none of that name. The container may have given the name to another."""
    link = inside.link(name)
    if link is None or link.name != name or link.kind != "ifb":
        return False
    return inside.delete_link(name)


def check(inside: Netlink, device: Link, name: str, bandwidth: Bandwidth, *, open_vswitchs: bool) -> None:
    """See that the limits of `limit` are there; the arguments are the same.

    Raises:
        CniError: CHECK_FAILED.
    """
    if bandwidth.egress:
        _same_rate("egressRate", device.name, bandwidth.egress.rate, tc.shaped_rate(inside, device.index))
    if bandwidth.ingress and not open_vswitchs:
        ifb = inside.link(_ifb_name(name))
        found = None if ifb is None else tc.shaped_rate(inside, ifb.index)
        _same_rate("ingressRate", _ifb_name(name), bandwidth.ingress.rate, found)


def _same_rate(key: str, device: str, expected: int, found: int | None) -> None:
    if found != expected // 8:
        have = "no limit" if found is None else str(found * 8)
        raise CniError(
            CHECK_FAILED, f"{key!r} differs: expected {expected}, found {have} (queueing of interface {device!r})"
        )


def _shape(inside: Netlink, index: int, limit: Limit, mtu: int) -> None:
    burst = limit.burst_bytes(_SHAPING_SECONDS, max(_SMALLEST_BUCKET, 2 * (mtu + _ETHERNET_HEADER)))
    tc.shape(inside, index, limit.rate // 8, burst, burst + int(limit.rate / 8 * _QUEUE_SECONDS))


def _ifb_name(port_name: str) -> str:
    return "ifb" + port_name[3:]
